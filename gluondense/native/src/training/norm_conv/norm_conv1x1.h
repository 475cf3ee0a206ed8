// SPDX-License-Identifier: Apache-2.0
// The forward product of 1x1 convolutions.
#pragma once

#include <algorithm>

#include "training/conv1x1.h"
#include "training/norm_conv/norm_conv.h"

namespace gluondense {

// The pixel of the input at an output pixel of its convolution.
template <class T>
std::int64_t NormConvWorker<T>::input_pixel(const ConvInput<T>& input, std::int64_t out_pixel) {
  if (input.stride == 1) return out_pixel;
  const int width = (input.width - 1) / input.stride + 1;
  const int height = (input.height - 1) / input.stride + 1;
  const std::int64_t row = out_pixel / width, image = row / height;
  return (image * input.height + row % height * input.stride) * input.width +
         out_pixel % width * input.stride;
}

// Applies BN-ReLU to the input of the output pixels [first, first + count), and prefetches the next
// ones.
template <class T>
void NormConvWorker<T>::normalize_rows(const ConvInput<T>& input, std::int64_t first, int count,
                                       int row_stride, T* rows) const {
  for (const auto& maps : input) {
    const float* const scale = affine_.scale.data() + maps.statistics;
    const float* const shift = affine_.shift.data() + maps.statistics;
    const int step = input.stride == 1 ? count : 1;  // pixels at a time
    for (int i = 0; i < count; i += step) {
      const T* const x = maps.x + input_pixel(input, first + i) * maps.stride;
      kernels().affine_relu_to_rows(x, maps.stride, scale, shift, maps.slope, rows + i * row_stride,
                                    row_stride, step, maps.channels);
      if (step > 1) prefetch_rows(x + step * maps.stride, maps.stride, step, maps.channels);
    }
    rows += maps.channels;
  }
}

// For blocks of pixels, calls multiply(first pixel, row, rows, column, panel, x) for each tile of
// rows and panel of output channels, and then finish(first pixel, count). `row` is the tile's first
// row in the block.
template <class T>
template <class Multiply, class Finish>
void NormConvWorker<T>::for_each_product(const ConvInput<T>& input, std::int64_t pixels,
                                         const T* panels, int out_channels,
                                         const PanelScratch<T>& buffer, Multiply multiply,
                                         Finish finish) const {
  const int most = map_kernels<T>().max_rows;
  const std::ptrdiff_t depth = product_depth<T>(input.channels);
  for_each_block(pixels, 4 * most, [&](std::int64_t first, int count) {
    normalize_rows(input, first, count, buffer.x_stride, buffer.x);
    for (int c = 0; c < out_channels; c += kPanelWidth) {
      for (int i = 0; i < count; i += most) {
        multiply(first, i, std::min(most, count - i), c, panels + c * depth,
                 buffer.x + i * buffer.x_stride);
      }
    }
    finish(first, count);
  });
}

}  // namespace gluondense
