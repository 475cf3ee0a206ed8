// SPDX-License-Identifier: Apache-2.0
// The 1x1 convolution functions that layers and transitions share.
#pragma once

#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {

// Applies BN-ReLU to the pixels [first, first + count), and prefetches the next ones.
inline void pack_bn_relu(const BnReluInput& input, std::int64_t first, int count, int stride,
                         float* packed) {
  const float* const x = input.data + first * input.stride;
  training_kernels().affine_relu(x, input.stride, input.scale, input.shift, packed, stride, count,
                                 input.channels);
  prefetch_rows(x + std::ptrdiff_t{count} * input.stride, input.stride, count, input.channels);
}

// Multiplies (pixels, in_channels) by panels of filters. Writes whole cache lines of y.
inline void gemm_panels(const float* x, int x_stride, int in_channels, const float* panels,
                        int pixels, int out_channels, float* y, int y_stride) {
  for (int c = 0; c < out_channels; c += kPanelWidth) {
    training_kernels().gemm(x, x_stride, in_channels, panels + std::ptrdiff_t{c} * in_channels,
                            y + c, y_stride, pixels, std::min(kPanelWidth, out_channels - c));
  }
}

// Computes the gradient of the input of BN-ReLU-Conv1x1 from `count` rows of scratch.dy, for the
// channels [first, last). Adds it to d_maps, or overwrites d_maps. pixel_of(row, part) is the pixel
// that a row belongs to. With average pooling a row has four pixels, and each gets a quarter. The
// maps of the next block of rows are prefetched: those of this block would come too late.
template <int kParts, bool kAccumulate, class PixelOf>
void StageWorker::conv1x1_backward_data(const Conv1x1GradScratch& scratch, int count, int first,
                                        int last, int out_channels, PixelOf pixel_of) const {
  const int most = inference_kernels().max_tile_pixels;
  const float* x[kParts][kMaxTilePixels];
  float* dx[kParts][kMaxTilePixels];
  const BnReluInput input = maps_input(last);
  const BnReluGradient gradient = maps_gradient(0, kAccumulate);
  BnReluBackward args = bn_relu_args(scratch.dx, kPanelWidth, 1.0f / kParts, kAccumulate);
  for (int c = first; c < last; c += kPanelWidth) {
    set_channels(&args, input, gradient, c, std::min(kPanelWidth, last - c));
    for (int i = 0; i < count; i += most) {
      args.pixels = std::min(most, count - i);
      for (int part = 0; part < kParts; ++part) {
        for (int j = 0; j < args.pixels; ++j) {
          const std::int64_t pixel = pixel_of(i + j, part);
          const std::int64_t later = pixel_of(i + j + kConv1x1GradPixels, part);
          x[part][j] = map(pixel) + c;
          dx[part][j] = d_map(pixel) + c;
          prefetch_panel_l2(map(later) + c);
          prefetch_panel_l2(d_map(later) + c);
        }
      }
      gemm_panels(scratch.dy + i * scratch.dy_stride, scratch.dy_stride, out_channels,
                  conv1x1_panels_t() + std::ptrdiff_t{c} * out_channels, args.pixels,
                  args.channels, scratch.dx, kPanelWidth);
      for (int part = 0; part < kParts; ++part) {
        args.x = x[part];
        args.dx = dx[part];
        training_kernels().bn_relu_backward(args);
      }
    }
  }
}

}  // namespace gluondense
