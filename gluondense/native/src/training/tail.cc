// SPDX-License-Identifier: Apache-2.0
// The tail of a stage: none, BN-ReLU, or a transition.
#include <algorithm>

#include "training/conv1x1.h"

namespace gluondense {

template <class T>
void StageWorker<T>::tail_forward(float* y) {
  if (config_.kind == DenseStageConfig::kTwoWay) {
    const bool transition = config_.tail == DenseStageConfig::kTransition;
    return transition ? two_way_transition_forward(y) : bn_relu_forward(y);
  }
  if (config_.tail == DenseStageConfig::kFeatures) return features_forward(y);
  const int total = config_.total_channels();
  set_affine(buffers_.arrays.tail_bn, map_statistics_.mean.data(), map_statistics_.inv_std.data(),
             0, total, &map_affine_);
  update_running_stats(buffers_.arrays.tail_bn, map_statistics_, 0, total);
  config_.tail == DenseStageConfig::kBnRelu ? bn_relu_forward(y) : transition_forward(y);
}

template <class T>
void StageWorker<T>::features_forward(float* y) const {
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nhwc_to_nchw(map(pixel), layout_.map_stride, config_.total_channels(), pixel, count,
                 config_.height * config_.width, y, config_.image_out_channels());
  });
}

template <class T>
void StageWorker<T>::bn_relu_forward(float* y) const {
  const int total = config_.total_channels(), stride = layout_.map_stride;
  const auto buffer = scratch<RowsScratch<float>>(stride);
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    kernels().affine_relu(map(pixel), stride, map_affine_.scale.data(), map_affine_.shift.data(), 0,
                          buffer.rows, stride, count, total);
    nhwc_to_nchw(buffer.rows, stride, total, pixel, count, config_.height * config_.width, y,
                 config_.image_out_channels());
  });
}

// BN-ReLU-Conv1x1 with optional average pooling. Pooling and convolution commute; pooling first
// reduces the multiplications to a quarter.
template <class T>
void StageWorker<T>::transition_forward(float* y) const {
  const int total = config_.total_channels(), out_channels = config_.out_channels;
  const auto buffer = scratch<Conv1x1Scratch<T>>(total, out_channels);
  const BnReluInput<T> input = maps_input(total);
  for_each_block(config_.out_pixels(), kernels().max_rows, [&](std::int64_t pixel, int count) {
    pack_pooled(input, pixel, count, buffer.x_stride, buffer.x);
    gemm_panels(buffer.x, buffer.x_stride, total, conv1x1_panels(config_.layers), count,
                out_channels, buffer.y, buffer.y_stride);
    nhwc_to_nchw(buffer.y, buffer.y_stride, out_channels, pixel, count,
                 config_.out_height() * config_.out_width(), y, config_.image_out_channels());
  });
}

// Returns the pixel of the maps at (part / 2, part % 2) of an output pixel's 2x2 window.
template <class T>
std::int64_t StageWorker<T>::pooled_pixel(std::int64_t out_pixel, int part) const {
  const int width = config_.out_width(), height = config_.out_height();
  const std::int64_t row = out_pixel / width, image = row / height;
  const std::int64_t y = 2 * (row % height) + part / 2;
  return (image * config_.height + y) * config_.width + 2 * (out_pixel % width) + part % 2;
}

// Applies BN-ReLU and the transition's average pooling, if it has one, to the input of the output
// pixels [first, first + count).
template <class T>
void StageWorker<T>::pack_pooled(const BnReluInput<T>& input, std::int64_t first, int count,
                                 int stride, T* packed) const {
  if (!config_.pool) return pack_bn_relu(input, first, count, stride, packed);
  const T* parts[4];
  for (int i = 0; i < count; ++i) {
    for (int part = 0; part < 4; ++part) {
      parts[part] = input.data + pooled_pixel(first + i, part) * input.stride;
    }
    kernels().mean_affine_relu(parts, 4, input.scale, input.shift,
                               packed + std::ptrdiff_t{i} * stride, input.channels);
  }
}

// Sets d_maps to the gradient that the tail propagates.
template <class T>
void StageWorker<T>::tail_backward(const float* dy) {
  const int total = config_.total_channels(), plane = config_.height * config_.width;
  if (config_.tail == DenseStageConfig::kFeatures) {
    const auto [first, last] = share(config_.pixels());
    nchw_to_nhwc(dy, config_.image_out_channels(), total, first, last - first, plane, d_map(first),
                 layout_.map_stride);
    return;
  }
  set_affine(buffers_.arrays.tail_bn, buffers_.saved.mean.data(), buffers_.saved.inv_std.data(), 0,
             total, &map_affine_);
  reset_sums(kMaps);
  config_.tail == DenseStageConfig::kBnRelu ? bn_relu_backward(dy) : transition_backward(dy);
}

template <class T>
void StageWorker<T>::bn_relu_backward(const float* dy) const {
  const int total = config_.total_channels(), stride = layout_.map_stride;
  const auto buffer = scratch<RowsScratch<float>>(stride);
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.rows, stride, 1, false);
  args.x = x;
  args.dx = dx;
  set_channels(&args, maps_input(total), maps_gradient(0, false), 0, total);
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nchw_to_nhwc(dy, config_.image_out_channels(), total, pixel, count,
                 config_.height * config_.width, buffer.rows, stride);
    for (int i = 0; i < count; ++i) x[i] = map(pixel + i), dx[i] = d_map(pixel + i);
    args.pixels = count;
    kernels().bn_relu_backward(args);
  });
}

template <class T>
void StageWorker<T>::transition_backward(const float* dy) const {
  const int total = config_.total_channels(), out_channels = config_.out_channels;
  const int columns = pad_to_cache_line(out_channels);
  const int plane = config_.out_height() * config_.out_width();
  pack_conv1x1_t(buffers_.arrays.tail_conv, total, out_channels, conv1x1_panels_t());
  if (config_.pool && (config_.height % 2 || config_.width % 2)) {
    const auto [first, last] = share(config_.pixels());  // pooling ignores the last row or column
    std::fill(d_map(first), d_map(last), T(0.0f));
  }
  std::fill_n(d_conv1x1(rank_), std::ptrdiff_t{total} * columns, 0.0f);
  barrier_->wait();
  const auto buffer = scratch<Conv1x1GradScratch<T>>(total, out_channels);
  const BnReluInput<T> input = maps_input(total);
  std::fill_n(buffer.dy, buffer.kPixels * buffer.dy_stride, T(0.0f));
  for_each_block(config_.out_pixels(), buffer.kPixels, [&](std::int64_t first, int count) {
    pack_pooled(input, first, count, buffer.x_stride, buffer.x);
    nchw_to_nhwc(dy, config_.image_out_channels(), out_channels, first, count, plane, buffer.dy,
                 buffer.dy_stride);
    kernels().gemm_tn(to_columns(buffer.x, buffer.x_stride, count, total, buffer.x_columns),
                      buffer.x_stride,
                      to_columns(buffer.dy, buffer.dy_stride, count, columns, buffer.dy_columns),
                      buffer.dy_stride, count, d_conv1x1(rank_), columns, total, columns);
    if (config_.pool) {
      conv1x1_backward_data<4, false>(buffer, count, 0, total, out_channels, [&](int i, int part) {
        return pooled_pixel(first + i, part);
      });
    } else {
      conv1x1_backward_data<1, false>(buffer, count, 0, total, out_channels,
                                      [&](int i, int) { return first + i; });
    }
  });
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
