// SPDX-License-Identifier: Apache-2.0
// The tail of a stage: none, BN-ReLU, or a transition.
#include <algorithm>

#include "training/conv1x1.h"

namespace gluondense {

void StageWorker::tail_forward(float* y) {
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

void StageWorker::features_forward(float* y) const {
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nhwc_to_nchw(map(pixel), layout_.map_stride, config_.total_channels(), pixel, count,
                 config_.height * config_.width, y, config_.image_out_channels());
  });
}

void StageWorker::bn_relu_forward(float* y) const {
  const int total = config_.total_channels(), stride = layout_.map_stride;
  const auto buffer = scratch<RowsScratch>(stride);
  const BnReluInput input = maps_input(total);
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    pack_bn_relu(input, pixel, count, stride, buffer.rows);
    nhwc_to_nchw(buffer.rows, stride, total, pixel, count, config_.height * config_.width, y,
                 config_.image_out_channels());
  });
}

// BN-ReLU-Conv1x1 with optional average pooling. Pooling and convolution commute; pooling first
// reduces the multiplications to a quarter.
void StageWorker::transition_forward(float* y) const {
  const int total = config_.total_channels(), out_channels = config_.out_channels;
  const auto buffer = scratch<Conv1x1Scratch>(total, out_channels);
  const BnReluInput input = maps_input(total);
  for_each_block(config_.out_pixels(), inference_kernels().max_tile_pixels,
                 [&](std::int64_t pixel, int count) {
                   pack_pooled(input, pixel, count, buffer.x_stride, buffer.x);
                   gemm_panels(buffer.x, buffer.x_stride, total, conv1x1_panels(config_.layers),
                               count, out_channels, buffer.y, buffer.y_stride);
                   nhwc_to_nchw(buffer.y, buffer.y_stride, out_channels, pixel, count,
                                config_.out_height() * config_.out_width(), y,
                                config_.image_out_channels());
                 });
}

// Returns the pixel of the maps at (part / 2, part % 2) of an output pixel's 2x2 window.
std::int64_t StageWorker::pooled_pixel(std::int64_t out_pixel, int part) const {
  const int width = config_.out_width(), height = config_.out_height();
  const std::int64_t row = out_pixel / width, image = row / height;
  const std::int64_t y = 2 * (row % height) + part / 2;
  return (image * config_.height + y) * config_.width + 2 * (out_pixel % width) + part % 2;
}

// Applies BN-ReLU and the transition's average pooling, if it has one, to the input of the output
// pixels [first, first + count).
void StageWorker::pack_pooled(const BnReluInput& input, std::int64_t first, int count, int stride,
                              float* packed) const {
  if (!config_.pool) return pack_bn_relu(input, first, count, stride, packed);
  for (int i = 0; i < count; ++i) {
    float* const mean = packed + std::ptrdiff_t{i} * stride;
    std::fill_n(mean, input.channels, 0.0f);
    for (int part = 0; part < 4; ++part) {
      training_kernels().accumulate_affine_relu(
          input.data + pooled_pixel(first + i, part) * input.stride, input.scale, input.shift,
          0.25f, mean, input.channels);
    }
  }
}

// Sets d_maps to the gradient that the tail propagates.
void StageWorker::tail_backward(const float* dy) {
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

void StageWorker::bn_relu_backward(const float* dy) const {
  const int total = config_.total_channels(), stride = layout_.map_stride;
  const auto buffer = scratch<RowsScratch>(stride);
  const float* x[kMaxTilePixels];
  float* dx[kMaxTilePixels];
  BnReluBackward args = bn_relu_args(buffer.rows, stride, 1, false);
  args.x = x;
  args.dx = dx;
  set_channels(&args, maps_input(total), maps_gradient(0, false), 0, total);
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nchw_to_nhwc(dy, config_.image_out_channels(), total, pixel, count,
                 config_.height * config_.width, buffer.rows, stride);
    for (int i = 0; i < count; ++i) x[i] = map(pixel + i), dx[i] = d_map(pixel + i);
    args.pixels = count;
    training_kernels().bn_relu_backward(args);
  });
}

void StageWorker::transition_backward(const float* dy) const {
  const int total = config_.total_channels(), out_channels = config_.out_channels;
  const int columns = pad_to_cache_line(out_channels);
  const int plane = config_.out_height() * config_.out_width();
  pack_conv1x1_t(buffers_.arrays.tail_conv, total, out_channels, conv1x1_panels_t());
  if (config_.pool && (config_.height % 2 || config_.width % 2)) {
    const auto [first, last] = share(config_.pixels());  // pooling ignores the last row or column
    std::fill(d_map(first), d_map(last), 0.0f);
  }
  std::fill_n(d_conv1x1(rank_), std::ptrdiff_t{total} * columns, 0.0f);
  barrier_->wait();
  const auto buffer = scratch<Conv1x1GradScratch>(total, out_channels);
  const BnReluInput input = maps_input(total);
  std::fill_n(buffer.dy, kConv1x1GradPixels * buffer.dy_stride, 0.0f);
  for_each_block(config_.out_pixels(), kConv1x1GradPixels, [&](std::int64_t first, int count) {
    pack_pooled(input, first, count, buffer.x_stride, buffer.x);
    nchw_to_nhwc(dy, config_.image_out_channels(), out_channels, first, count, plane, buffer.dy,
                 buffer.dy_stride);
    training_kernels().gemm_tn(buffer.x, buffer.x_stride, buffer.dy, buffer.dy_stride, count,
                               d_conv1x1(rank_), columns, total, columns);
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

}  // namespace gluondense
