// SPDX-License-Identifier: Apache-2.0
// The backward pass of the grouped 3x3 convolutions.
#include <algorithm>

#include "training/norm_conv/norm_conv3x3.h"

namespace gluondense {

// Writes the corrected gradient of a band's output, and of the rows above and below it.
template <class T>
void NormConvWorker<T>::fill_padded_gradient(const GroupedConv& conv,
                                             const OutputGradient<T>& gradient,
                                             const GroupedBlocking& blocking, const Band& band,
                                             const GroupedScratch<T>& buffer) const {
  const int height = conv.out_height(), width = conv.out_width();
  const std::ptrdiff_t row_floats = std::ptrdiff_t{blocking.out_width} * blocking.stride;
  const float* const scale = correction_.scale.data() + gradient.statistics + band.channel;
  const float* const shift = correction_.shift.data() + gradient.statistics + band.channel;
  float* strip = buffer.dy;
  for (int i = 0; i < band.rows + 2; ++i, strip += row_floats) {
    const int y = band.first - 1 + i;
    if (y < 0 || y >= height) {
      std::fill_n(strip, row_floats, 0.0f);
      continue;
    }
    std::fill_n(strip, blocking.stride, 0.0f);
    std::fill_n(strip + row_floats - blocking.stride, blocking.stride, 0.0f);
    const std::int64_t pixel = (band.image * height + y) * width;
    const T* dy = gradient.dy + pixel * gradient.dy_stride + band.channel;
    const T* x = gradient.y + pixel * gradient.y_stride + band.channel;
    prefetch_rows(dy + std::ptrdiff_t{width} * gradient.dy_stride, gradient.dy_stride, width,
                  band.channels);
    prefetch_rows(x + std::ptrdiff_t{width} * gradient.y_stride, gradient.y_stride, width,
                  band.channels);
    for (int u = 0; u < width; ++u, dy += gradient.dy_stride, x += gradient.y_stride) {
      kernels().add_affine(dy, x, scale, shift, buffer.row + u * blocking.stride, band.channels);
    }
    kernels().copy_to_f32(buffer.row, blocking.stride, strip + blocking.stride, blocking.stride,
                          width, band.channels);
  }
}

// For stride 2, writes the gradient with a column of zeros between its pixels.
template <class T>
void NormConvWorker<T>::spread_gradient(const GroupedConv& conv, const GroupedBlocking& blocking,
                                        const Band& band, const GroupedScratch<T>& buffer) const {
  const std::ptrdiff_t row_floats = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  for (int i = 0; i < band.rows + 1; ++i) {
    float* const spread = buffer.spread_dy + i * row_floats;
    const float* dy =
        buffer.dy + (std::ptrdiff_t{i + 1} * blocking.out_width + 1) * blocking.stride;
    std::fill_n(spread, row_floats, 0.0f);
    for (int u = 0; u < conv.out_width(); ++u, dy += blocking.stride) {
      std::copy_n(dy, band.channels, spread + std::ptrdiff_t{2 * u + 1} * blocking.stride);
    }
  }
}

template <class T>
void NormConvWorker<T>::grouped_backward(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                                         const OutputGradient<T>& gradient, const float* panels_t,
                                         float* d_panels) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (is_direct<T>(conv))
      return direct_grouped_backward(conv, maps, gradient, panels_t, d_panels);
  }
  const GroupedBlocking blocking(conv);
  const auto buffer = scratch<GroupedScratch<T>>(blocking);
  std::fill_n(d_panels, conv.panel_floats(), 0.0f);
  for_each_band(conv, blocking, [&](const Band& band) {
    fill_padded_input(conv, maps, blocking, band, buffer.x);
    fill_padded_gradient(conv, gradient, blocking, band, buffer);
    if (conv.stride == 2) spread_gradient(conv, blocking, band, buffer);
    grouped_backward_filter(conv, blocking, band, buffer, d_panels);
    grouped_backward_data(conv, maps, blocking, band, buffer, panels_t);
  });
}

template <class T>
void NormConvWorker<T>::grouped_backward_filter(const GroupedConv& conv,
                                                const GroupedBlocking& blocking, const Band& band,
                                                const GroupedScratch<T>& buffer,
                                                float* d_panels) const {
  const GroupedVectors vectors(conv.group_channels());
  GroupedFilterGradient args = {};
  args.src_row_stride = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  args.dy_row_stride = std::ptrdiff_t{blocking.out_width} * blocking.stride;
  args.src_stride = args.dy_stride = blocking.stride;
  args.stride = conv.stride;
  args.rows = band.rows;
  args.pixels = conv.out_width();
  args.lanes = vectors.kernel_lanes();
  args.d_weights = d_panels + band.chunk * vectors.count(blocking.chunk) * vectors.panel_floats();
  for (int i = 0; i < vectors.count(band.channels); ++i, args.d_weights += vectors.panel_floats()) {
    const auto vector = vectors(i, band.channels);
    args.src = buffer.x + vector.first_in;
    args.dy = buffer.dy + args.dy_row_stride + blocking.stride + vector.first;
    training_kernels().grouped_conv3x3_backward_filter(args);
  }
}

// The gradient of the input is a convolution of the output's with the transposed filters. For
// stride 2, every other row and column of it is zero; the rows are skipped.
template <class T>
void NormConvWorker<T>::grouped_backward_data(const GroupedConv& conv,
                                              const NormalizedMaps<T>& maps,
                                              const GroupedBlocking& blocking, const Band& band,
                                              const GroupedScratch<T>& buffer,
                                              const float* panels_t) const {
  const GroupedVectors vectors(conv.group_channels());
  const int stride = conv.stride, height = conv.height, width = conv.width;
  const int first_row = stride * band.first;
  const int rows = std::min(stride * (band.first + band.rows), height) - first_row;
  const std::ptrdiff_t dy_row = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  const std::ptrdiff_t dx_row = std::ptrdiff_t{width} * blocking.stride;
  GroupedTrainingTile tile = {};
  tile.src_stride = tile.dst_stride = blocking.stride;
  tile.stride = 1;
  tile.lanes = vectors.kernel_lanes();
  const float* panel =
      panels_t + band.chunk * vectors.count(blocking.chunk) * vectors.panel_floats();
  for (int i = 0; i < vectors.count(band.channels); ++i, panel += vectors.panel_floats()) {
    const auto vector = vectors(i, band.channels);
    tile.weights = panel;
    for (int row = 0; row < rows; ++row) {
      for_each_tile(width, [&](int first, int count) {
        const std::ptrdiff_t offset = first * blocking.stride + vector.first_in;
        for (int y = 0; y < 3; ++y) {
          if (stride == 1) {
            tile.rows[y] = buffer.dy + (row + y) * dy_row + offset;
          } else {
            const bool zero = (row + y) % 2 == 0;
            tile.rows[y] = zero ? nullptr : buffer.spread_dy + (row + y) / 2 * dy_row + offset;
          }
        }
        tile.dst = buffer.y + row * dx_row + first * blocking.stride + vector.first;
        tile.pixels = count;
        training_kernels().grouped_conv3x3(tile);
      });
    }
  }
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(nullptr, blocking.stride, 1, false);
  args.x = x;
  args.dx = dx;
  set_channels(&args, maps, band.channel, band.channels);
  const std::int64_t first = (band.image * height + first_row) * width;
  for_each_tile_batch(0, std::int64_t{rows} * width, kMaxTilePixels,
                      [&](std::int64_t p, int count) {
                        for (int j = 0; j < count; ++j) {
                          const std::int64_t pixel = first + p + j;
                          x[j] = maps.x + pixel * maps.stride + band.channel;
                          dx[j] = maps.dx + pixel * maps.dx_stride + band.channel;
                        }
                        args.dy = buffer.y + p * blocking.stride;
                        args.pixels = count;
                        kernels().bn_relu_backward(args);
                      });
}

template class NormConvWorker<float>;
template class NormConvWorker<Bf16>;

}  // namespace gluondense
