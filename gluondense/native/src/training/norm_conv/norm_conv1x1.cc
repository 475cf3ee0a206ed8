// SPDX-License-Identifier: Apache-2.0
// 1x1 convolutions.
#include <algorithm>

#include "training/norm_conv/norm_conv1x1.h"

namespace gluondense {

// Packs the transposed filters into panels of input channels, those of each part of the input for
// itself.
template <class T>
void NormConvWorker<T>::pack_conv1x1_t(float* filters, const ConvInput<T>& input, int out_channels,
                                       T* panels) const {
  for (const auto& maps : input) {
    Thread::pack_conv1x1_t(filters, input.channels, maps.channels, out_channels, panels);
    panels +=
        std::ptrdiff_t{panel_count(maps.channels)} * product_depth<T>(out_channels) * kPanelWidth;
    filters += maps.channels;
  }
}

// Writes the products to maps and adds the sums of their channels, if there are such.
template <class T>
void NormConvWorker<T>::conv1x1_to_maps(const ConvInput<T>& input, std::int64_t pixels,
                                        const T* panels, int out_channels, T* y, int y_stride,
                                        const ChannelSums* sums) const {
  const auto buffer = scratch<PanelScratch<T>>(input.channels, 0);
  for_each_product(
      input, pixels, panels, out_channels, buffer,
      [&](std::int64_t first, int row, int rows, int c, const T* panel, const T* x) {
        kernels().gemm_to_maps(x, buffer.x_stride, input.channels, panel,
                               y + (first + row) * y_stride + c, y_stride, rows,
                               std::min(kPanelWidth, out_channels - c));
      },
      [&](std::int64_t first, int count) {
        if (!sums) return;
        kernels().channel_sums(y + first * y_stride, y_stride, count, out_channels, sums->first,
                               sums->second);
      });
}

// Computes the gradients of a 1x1 convolution, of its filters (in_channels, columns) and of its
// input, for blocks of pixels and input channels. Adds to the sums of the input's channels.
template <class T>
void NormConvWorker<T>::conv1x1_backward(const ConvInput<T>& input, std::int64_t pixels,
                                         const OutputGradient<T>& gradient, const T* panels_t,
                                         float* d_filters) const {
  const int out_channels = gradient.channels, columns = pad_to_cache_line(out_channels);
  const auto buffer = scratch<Conv1x1GradScratch<T>>(kConv1x1GradChannels, out_channels);
  std::fill_n(buffer.dy, buffer.kPixels * buffer.dy_stride, T(0.0f));
  std::fill_n(d_filters, std::ptrdiff_t{input.channels} * columns, 0.0f);
  for (const auto& maps : input) {
    for (int c = 0; c < maps.channels; c += kConv1x1GradChannels) {
      const int channels = std::min(kConv1x1GradChannels, maps.channels - c);
      NormalizedMaps<T> slice = maps;
      slice.x += c, slice.dx += c, slice.statistics += c, slice.channels = channels;
      for_each_block(pixels, buffer.kPixels, [&](std::int64_t first, int count) {
        normalize_columns(input, slice, first, count, buffer);
        load_gradient_rows(gradient, first, count, buffer);
        const T* const dy =
            to_columns(buffer.dy, buffer.dy_stride, count, columns, buffer.dy_columns);
        kernels().gemm_tn(buffer.x_columns, buffer.x_stride, dy, buffer.dy_stride, count, d_filters,
                          columns, channels, columns);
        conv1x1_backward_data(input, slice, buffer, first, count, out_channels,
                              panels_t + c * std::ptrdiff_t{product_depth<T>(out_channels)});
      });
      d_filters += std::ptrdiff_t{channels} * columns;
    }
    panels_t +=
        std::ptrdiff_t{panel_count(maps.channels)} * product_depth<T>(out_channels) * kPanelWidth;
  }
}

// Writes BN-ReLU of the input of the output pixels [first, first + count) as columns.
template <class T>
void NormConvWorker<T>::normalize_columns(const ConvInput<T>& input, const NormalizedMaps<T>& maps,
                                          std::int64_t first, int count,
                                          const Conv1x1GradScratch<T>& buffer) const {
  const float* const scale = affine_.scale.data() + maps.statistics;
  const float* const shift = affine_.shift.data() + maps.statistics;
  if (input.stride == 1) {
    return kernels().affine_relu_to_columns(maps.x + first * maps.stride, maps.stride, scale, shift,
                                            maps.slope, buffer.x_columns, buffer.x_stride, count,
                                            maps.channels);
  }
  for (int i = 0; i < count; ++i) {
    kernels().affine_relu_to_rows(maps.x + input_pixel(input, first + i) * maps.stride, maps.stride,
                                  scale, shift, maps.slope, buffer.x + i * buffer.x_stride,
                                  buffer.x_stride, 1, maps.channels);
  }
  to_columns(buffer.x, buffer.x_stride, count, maps.channels, buffer.x_columns);
}

// Copies rows of the output's gradient, corrected if its normalization needs that.
template <class T>
void NormConvWorker<T>::load_gradient_rows(const OutputGradient<T>& gradient, std::int64_t first,
                                           int count, const Conv1x1GradScratch<T>& buffer) const {
  for (int i = 0; i < count; ++i) {
    const T* const dy = gradient.dy + (first + i) * gradient.dy_stride;
    T* const row = buffer.dy + i * buffer.dy_stride;
    if (gradient.y) {
      kernels().add_affine(dy, gradient.y + (first + i) * gradient.y_stride,
                           correction_.scale.data() + gradient.statistics,
                           correction_.shift.data() + gradient.statistics, row, gradient.channels);
    } else {
      std::copy_n(dy, gradient.channels, row);
    }
  }
}

// Computes the gradient of the input of BN-ReLU-Conv1x1 from `count` rows of buffer.dy. The maps of
// the next block of rows are prefetched: those of this block would come too late.
template <class T>
void NormConvWorker<T>::conv1x1_backward_data(const ConvInput<T>& input,
                                              const NormalizedMaps<T>& maps,
                                              const Conv1x1GradScratch<T>& buffer,
                                              std::int64_t first, int count, int out_channels,
                                              const T* panels_t) const {
  const int most = map_kernels<T>().max_rows;
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.dx, kPanelWidth, 1, maps.accumulate);
  args.x = x;
  args.dx = dx;
  for (int c = 0; c < maps.channels; c += kPanelWidth) {
    set_channels(&args, maps, c, std::min(kPanelWidth, maps.channels - c));
    for (int i = 0; i < count; i += most) {
      args.pixels = std::min(most, count - i);
      for (int j = 0; j < args.pixels; ++j) {
        const std::int64_t pixel = input_pixel(input, first + i + j);
        const std::int64_t later = input_pixel(input, first + i + j + buffer.kPixels);
        x[j] = maps.x + pixel * maps.stride + c;
        dx[j] = maps.dx + pixel * maps.dx_stride + c;
        prefetch_panel_l2(maps.x + later * maps.stride + c);
        prefetch_panel_l2(maps.dx + later * maps.dx_stride + c);
      }
      gemm_panels(buffer.dy + i * buffer.dy_stride, buffer.dy_stride, out_channels,
                  panels_t + std::ptrdiff_t{c} * product_depth<T>(out_channels), args.pixels,
                  args.channels, buffer.dx, kPanelWidth);
      kernels().bn_relu_backward(args);
    }
  }
}

template class NormConvWorker<float>;
template class NormConvWorker<Bf16>;

}  // namespace gluondense
