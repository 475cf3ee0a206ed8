// SPDX-License-Identifier: Apache-2.0
// The 1x1 convolution functions that layers and transitions share.
#pragma once

#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {

// Applies BN-ReLU to the pixels [first, first + count), and prefetches the next ones.
template <class T>
void pack_bn_relu(const BnReluInput<T>& input, std::int64_t first, int count, int stride,
                  T* packed) {
  const T* const x = input.data + first * input.stride;
  map_kernels<T>().affine_relu_to_rows(x, input.stride, input.scale, input.shift, 0, packed, stride,
                                       count, input.channels);
  prefetch_rows(x + std::ptrdiff_t{count} * input.stride, input.stride, count, input.channels);
}

// Returns rows as an operand of gemm_tn, which may be in `buffer`.
template <class T>
const T* to_columns(const T* rows, int stride, int pixels, int channels, T* buffer) {
  if (kProductDepth<T> == 1) return rows;
  map_kernels<T>().rows_to_columns(rows, stride, buffer, pixels, channels);
  return buffer;
}

// Multiplies (pixels, in_channels) by panels of filters. Writes whole cache lines of y.
template <class T>
void gemm_panels(const T* x, int x_stride, int in_channels, const T* panels, int pixels,
                 int out_channels, float* y, int y_stride) {
  for (int c = 0; c < out_channels; c += kPanelWidth) {
    map_kernels<T>().gemm(x, x_stride, in_channels,
                          panels + std::ptrdiff_t{c} * product_depth<T>(in_channels), y + c,
                          y_stride, pixels, std::min(kPanelWidth, out_channels - c));
  }
}

// Computes the gradient of the input of BN-ReLU-Conv1x1 from `count` rows of scratch.dy, for the
// channels [first, last). Adds it to d_maps, or overwrites d_maps. pixel_of(row, part) is the pixel
// that a row belongs to. With average pooling a row has four pixels, and each gets a quarter. The
// maps of the next block of rows are prefetched: those of this block would come too late.
template <class T>
template <int kParts, bool kAccumulate, class PixelOf>
void StageWorker<T>::conv1x1_backward_data(const Conv1x1GradScratch<T>& scratch, int count,
                                           int first, int last, int out_channels,
                                           PixelOf pixel_of) const {
  const int most = kernels().max_rows;
  const T* x[kParts][kMaxTilePixels];
  T* dx[kParts][kMaxTilePixels];
  const BnReluInput<T> input = maps_input(last);
  const BnReluGradient<T> gradient = maps_gradient(0, kAccumulate);
  BnReluBackward<T> args = bn_relu_args<T>(scratch.dx, kPanelWidth, 1.0f / kParts, kAccumulate);
  for (int c = first; c < last; c += kPanelWidth) {
    set_channels(&args, input, gradient, c, std::min(kPanelWidth, last - c));
    for (int i = 0; i < count; i += most) {
      args.pixels = std::min(most, count - i);
      for (int part = 0; part < kParts; ++part) {
        for (int j = 0; j < args.pixels; ++j) {
          const std::int64_t pixel = pixel_of(i + j, part);
          const std::int64_t later = pixel_of(i + j + scratch.kPixels, part);
          x[part][j] = map(pixel) + c;
          dx[part][j] = d_map(pixel) + c;
          prefetch_panel_l2(map(later) + c);
          prefetch_panel_l2(d_map(later) + c);
        }
      }
      gemm_panels(scratch.dy + i * scratch.dy_stride, scratch.dy_stride, out_channels,
                  conv1x1_panels_t() + std::ptrdiff_t{c} * product_depth<T>(out_channels),
                  args.pixels, args.channels, scratch.dx, kPanelWidth);
      for (int part = 0; part < kParts; ++part) {
        args.x = x[part];
        args.dx = dx[part];
        kernels().bn_relu_backward(args);
      }
    }
  }
}

}  // namespace gluondense
