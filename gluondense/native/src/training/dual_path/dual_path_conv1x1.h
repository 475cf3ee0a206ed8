// SPDX-License-Identifier: Apache-2.0
// The forward product of the 1x1 convolutions of a dual-path stage.
#pragma once

#include <algorithm>

#include "training/conv1x1.h"
#include "training/dual_path/dual_path_worker.h"

namespace gluondense {

// The pixel of the input at an output pixel of a convolution with this stride.
template <class T>
std::int64_t DualPathWorker<T>::input_pixel(std::int64_t out_pixel, int stride) const {
  if (stride == 1) return out_pixel;
  const int width = config_.out_width(), height = config_.out_height();
  const std::int64_t row = out_pixel / width, image = row / height;
  return (image * config_.height + row % height * stride) * config_.width +
         out_pixel % width * stride;
}

// Applies BN-ReLU to the input of the output pixels [first, first + count), and prefetches the next
// ones.
template <class T>
void DualPathWorker<T>::normalize_rows(const ConvInput<T>& input, std::int64_t first, int count,
                                       int row_stride, T* rows) const {
  for (const auto& maps : input) {
    const float* const scale = affine_.scale.data() + maps.statistics;
    const float* const shift = affine_.shift.data() + maps.statistics;
    const int step = input.stride == 1 ? count : 1;  // pixels at a time
    for (int i = 0; i < count; i += step) {
      const T* const x = maps.x + input_pixel(first + i, input.stride) * maps.stride;
      kernels().affine_relu_to_rows(x, maps.stride, scale, shift, rows + i * row_stride, row_stride,
                                    step, maps.channels);
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
void DualPathWorker<T>::for_each_product(const ConvInput<T>& input, std::int64_t pixels,
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
