// SPDX-License-Identifier: Apache-2.0
#include "training/conv1x1.h"

#include <algorithm>

namespace gluondense {

// Computes a layer's bottleneck and, if with_sums, the sums for its batch statistics.
template <class T>
void StageWorker<T>::conv1x1_forward(int layer, bool with_sums) const {
  const BnReluInput<T> input = maps_input(config_.layer_in_channels(layer));
  const int out_channels = bottleneck_channels(layer), stride = bottleneck_stride(layer);
  const auto buffer = scratch<Conv1x1Scratch<T>>(input.channels, 0);
  const ChannelSums sums = channel_sums(rank_, layer);
  const std::ptrdiff_t depth = product_depth<T>(input.channels);
  for_each_block(config_.pixels(), kernels().max_rows, [&](std::int64_t pixel, int count) {
    T* const y = bottleneck(layer) + pixel * stride;
    pack_bn_relu(input, pixel, count, buffer.x_stride, buffer.x);
    for (int c = 0; c < out_channels; c += kPanelWidth) {
      kernels().gemm_to_maps(buffer.x, buffer.x_stride, input.channels,
                             conv1x1_panels(layer) + c * depth, y + c, stride, count,
                             std::min(kPanelWidth, out_channels - c));
    }
    if (with_sums) {
      kernels().channel_sums(y, stride, count, out_channels, sums.first, sums.second);
    }
  });
}

// Computes the gradients of a layer's 1x1 convolution for blocks of pixels and input channels: of
// its filters in d_conv1x1, and of its input, which it adds to d_maps. A transition overwrites
// d_maps.
template <class T>
void StageWorker<T>::conv1x1_backward(int layer) const {
  const int in_channels = config_.layer_in_channels(layer);
  const int out_channels = bottleneck_channels(layer), stride = bottleneck_stride(layer);
  const int columns = pad_to_cache_line(out_channels);
  const auto buffer = scratch<Conv1x1GradScratch<T>>(kConv1x1GradChannels, out_channels);
  const BnReluInput<T> input = maps_input(in_channels);
  std::fill_n(buffer.dy, buffer.kPixels * buffer.dy_stride, T(0.0f));
  std::fill_n(d_conv1x1(rank_), std::ptrdiff_t{in_channels} * columns, 0.0f);
  for (int c = 0; c < in_channels; c += kConv1x1GradChannels) {
    const int channels = std::min(kConv1x1GradChannels, in_channels - c);
    for_each_block(config_.pixels(), buffer.kPixels, [&](std::int64_t first, int count) {
      kernels().affine_relu_to_columns(map(first) + c, layout_.map_stride, input.scale + c,
                                       input.shift + c, 0, buffer.x_columns, buffer.x_stride, count,
                                       channels);
      for (int i = 0; i < count; ++i) {
        const std::int64_t offset = (first + i) * stride;
        kernels().add_affine(buffers_.d_bottleneck + offset, bottleneck(layer) + offset,
                             correction_.scale.data(), correction_.shift.data(),
                             buffer.dy + i * buffer.dy_stride, out_channels);
      }
      const T* const dy =
          to_columns(buffer.dy, buffer.dy_stride, count, columns, buffer.dy_columns);
      kernels().gemm_tn(buffer.x_columns, buffer.x_stride, dy, buffer.dy_stride, count,
                        d_conv1x1(rank_) + std::ptrdiff_t{c} * columns, columns, channels, columns);
      const auto pixel_of = [=](int i, int) { return first + i; };
      if (layer == config_.layers) {
        conv1x1_backward_data<1, false>(buffer, count, c, c + channels, out_channels, pixel_of);
      } else {
        conv1x1_backward_data<1, true>(buffer, count, c, c + channels, out_channels, pixel_of);
      }
    });
  }
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
