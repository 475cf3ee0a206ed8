// SPDX-License-Identifier: Apache-2.0
// The transition of two-way layers: Conv1x1-BN-ReLU with optional average pooling.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {

template <class T>
void StageWorker<T>::two_way_transition_forward(float* y) {
  const int layer = config_.layers, channels = config_.out_channels;
  conv1x1_forward(layer, true);
  barrier_->wait();
  normalize_bottleneck(layer, buffers_.arrays.tail_bn, 0, channels);
  const BnReluInput<T> input = bottleneck_input(layer, channels);
  const auto buffer = scratch<RowsScratch<T>>(input.stride);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    pack_pooled(input, pixel, count, input.stride, buffer.rows);
    nhwc_to_nchw(buffer.rows, input.stride, channels, pixel, count,
                 config_.out_height() * config_.out_width(), y, config_.image_out_channels());
  });
}

// Sets d_maps to the gradient that the transition propagates.
template <class T>
void StageWorker<T>::two_way_transition_backward(const float* dy,
                                                 const DenseStageArrays& gradients) {
  const BatchNormArrays& bn = buffers_.arrays.tail_bn;
  const int layer = config_.layers, channels = config_.out_channels;
  const int total = config_.total_channels();
  pack_conv1x1_t(buffers_.arrays.tail_conv, total, channels, conv1x1_panels_t());
  if (config_.recompute_bottleneck) {
    pack_conv1x1(buffers_.arrays.tail_conv, total, channels, conv1x1_panels(layer));
    barrier_->wait();
    conv1x1_forward(layer, false);
  }
  set_bottleneck_affine(layer, bn, 0, channels);
  reset_sums(layer);
  if (config_.pool && (config_.height % 2 || config_.width % 2)) {
    const auto [first, last] = share(config_.pixels());  // pooling ignores the last row or column
    std::fill(buffers_.d_bottleneck + first * bottleneck_stride(layer),
              buffers_.d_bottleneck + last * bottleneck_stride(layer), T(0.0f));
  }
  barrier_->wait();
  two_way_pool_backward(dy);
  barrier_->wait();
  finish_bottleneck_backward(layer, bn, gradients.tail_bn, 0, channels);
  set_correction(bottleneck_correction_,
                 buffers_.saved.bottleneck_mean.data() + bottleneck_offset(layer), 0, channels);
  conv1x1_backward(layer);
  barrier_->wait();
  reduce_d_conv1x1(total, channels, gradients.tail_conv);
}

// Propagates the gradient of the output through pooling and BN-ReLU.
template <class T>
void StageWorker<T>::two_way_pool_backward(const float* dy) const {
  const int layer = config_.layers, channels = config_.out_channels;
  const int parts = config_.pool ? 4 : 1, plane = config_.out_height() * config_.out_width();
  const BnReluInput<T> input = bottleneck_input(layer, channels);
  const BnReluGradient<T> gradient = bottleneck_gradient(layer);
  const auto buffer = scratch<RowsScratch<float>>(input.stride);
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.rows, input.stride, 1.0f / parts, false);
  args.x = x;
  args.dx = dx;
  set_channels(&args, input, gradient, 0, channels);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t first, int count) {
    nchw_to_nhwc(dy, config_.image_out_channels(), channels, first, count, plane, buffer.rows,
                 input.stride);
    args.pixels = count;
    for (int part = 0; part < parts; ++part) {
      for (int i = 0; i < count; ++i) {
        const std::int64_t pixel = config_.pool ? pooled_pixel(first + i, part) : first + i;
        x[i] = input.data + pixel * input.stride;
        dx[i] = gradient.data + pixel * input.stride;
      }
      kernels().bn_relu_backward(args);
    }
  });
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
