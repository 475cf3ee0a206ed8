// SPDX-License-Identifier: Apache-2.0
// Grouped 3x3 convolutions in bfloat16 with AMX: see GroupedPanels.
//
// A unit of work is a strip of the input's rows of an image, and a panel of channels. Its pixels,
// with their padding, follow each other in a scratch buffer, so that a tile of pixels spans rows;
// what it computes between the rows is dropped. With stride 2, the gradient of the output is spread
// to the input's pixels, with zeros between: backward is that of stride 1.
#include <algorithm>

#include "training/norm_conv/norm_conv.h"

namespace gluondense {
namespace {

constexpr int kTaps = 9;
constexpr int kPixel = kPanelWidth;  // elements of a pixel, in all scratch buffers
constexpr float kZeros[kPanelWidth] = {};

}  // namespace

template <class T>
struct NormConvWorker<T>::Strip {
  int panel, channel, channels;  // the panel's number, and its channels
  std::int64_t image;
  int first, rows;  // of the input
};

template <class T>
template <class Function>
void NormConvWorker<T>::for_each_strip(const GroupedConv& conv, Function f) const {
  const GroupedPanels panels(conv);
  const int most = direct_grouped_rows(conv), strips = div_up(conv.height, most);
  const std::int64_t per_panel = std::int64_t{conv.batch} * strips;
  const auto [begin, end] = share(panels.count * per_panel);
  for (std::int64_t i = begin; i < end; ++i) {
    const int panel = static_cast<int>(i / per_panel), channel = panel * panels.width;
    const int first = static_cast<int>(i % strips) * most;
    f(Strip{panel, channel, std::min(panels.width, conv.channels - channel), i % per_panel / strips,
            first, std::min(most, conv.height - first)});
  }
}

// As pairs of the input's channels, which are padded to kPixel. `transposed` is for the gradient of
// the input.
template <class T>
void NormConvWorker<T>::direct_pack_grouped(const GroupedConv& conv, const float* filters,
                                            bool transposed, float* panels) const {
  auto* const pairs = reinterpret_cast<Bf16*>(panels);
  const GroupedPanels layout(conv);
  const int group = conv.group_channels();
  const auto [begin, end] = share(std::int64_t{layout.count} * kPixel);
  for (std::int64_t i = begin; i < end; ++i) {
    const int k = static_cast<int>(i % kPixel),
              channel = static_cast<int>(i / kPixel) * layout.width;
    const int channels = std::min(layout.width, conv.channels - channel);
    for (int tap = 0; tap < kTaps; ++tap) {
      Bf16* const row =
          pairs + ((i / kPixel * kTaps + tap) * kPixel + k / 2 * 2) * kPanelWidth + k % 2;
      const int source = transposed ? kTaps - 1 - tap : tap;
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const bool valid = k < channels && lane < channels && k / group == lane / group;
        const std::ptrdiff_t n = channel + (transposed ? k : lane), of = transposed ? lane : k;
        row[lane * 2] = Bf16(valid ? filters[(n * group + of % group) * kTaps + source] : 0.0f);
      }
    }
  }
}

// Sums the gradients (panels, 9, output channels, input channels) of all threads.
template <class T>
void NormConvWorker<T>::direct_reduce_d_grouped(const GroupedConv& conv, const float* d_panels,
                                                std::ptrdiff_t distance, float* filters) const {
  const GroupedPanels layout(conv);
  const int group = conv.group_channels();
  const auto [begin, end] = share(conv.channels);
  for (std::int64_t n = begin; n < end; ++n) {
    const std::int64_t panel = n / layout.width, lane = n % layout.width;
    for (int tap = 0; tap < kTaps; ++tap) {
      const float* const row =
          d_panels + ((panel * kTaps + tap) * kPanelWidth + lane) * kPixel + lane / group * group;
      for (int k = 0; k < group; ++k) {
        float sum = row[k];
        for (int t = 1; t < threads(); ++t) sum += row[t * distance + k];
        filters[(n * group + k) * kTaps + tap] = sum;
      }
    }
  }
}

// Writes the strip's rows, and those above and below, after BN-ReLU.
template <class T>
void NormConvWorker<T>::fill_strip(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                                   const Strip& strip, Bf16* pixels) const {
  const std::ptrdiff_t row_size = std::ptrdiff_t{conv.width + 2} * kPixel;
  const int place = maps.statistics + strip.channel;
  for (int i = 0; i < strip.rows + 2; ++i, pixels += row_size) {
    const int y = strip.first - 1 + i;
    if (y < 0 || y >= conv.height) {
      std::fill_n(pixels, row_size, Bf16(0.0f));
      continue;
    }
    const std::int64_t pixel = (strip.image * conv.height + y) * conv.width;
    std::fill_n(pixels, kPixel, Bf16(0.0f));
    std::fill_n(pixels + row_size - kPixel, kPixel, Bf16(0.0f));
    kernels().affine_relu_to_rows(maps.x + pixel * maps.stride + strip.channel, maps.stride,
                                  affine_.scale.data() + place, affine_.shift.data() + place,
                                  maps.slope, pixels + kPixel, kPixel, conv.width, strip.channels);
  }
}

// Writes the corrected gradient of the output at the pixels of the input.
template <class T>
void NormConvWorker<T>::fill_gradient_strip(const GroupedConv& conv,
                                            const OutputGradient<T>& gradient, const Strip& strip,
                                            Bf16* pixels) const {
  const std::ptrdiff_t row_size = std::ptrdiff_t{conv.width + 2} * kPixel;
  const float* const scale = correction_.scale.data() + gradient.statistics + strip.channel;
  const float* const shift = correction_.shift.data() + gradient.statistics + strip.channel;
  for (int i = 0; i < strip.rows + 2; ++i, pixels += row_size) {
    const int y = strip.first - 1 + i;
    std::fill_n(pixels, row_size, Bf16(0.0f));
    if (y < 0 || y >= conv.height || y % conv.stride) continue;
    const std::int64_t pixel =
        (strip.image * conv.out_height() + y / conv.stride) * conv.out_width();
    const T* dy = gradient.dy + pixel * gradient.dy_stride + strip.channel;
    const T* x = gradient.y + pixel * gradient.y_stride + strip.channel;
    for (int u = 0; u < conv.out_width(); ++u, dy += gradient.dy_stride, x += gradient.y_stride) {
      kernels().add_affine(dy, x, scale, shift,
                           pixels + (1 + std::ptrdiff_t{u} * conv.stride) * kPixel, strip.channels);
    }
  }
}

// Convolves the rows of a strip with a panel. Calls multiply(tile, number of the first pixel),
// which sets where the results are; pixels are numbered with the padding.
template <class T>
template <class Out, class Multiply>
void NormConvWorker<T>::convolve_strip(const Bf16* pixels, int row_pixels, int rows, int width,
                                       int stride, const Bf16* weights, int channels,
                                       Multiply multiply) const {
  const std::ptrdiff_t row_size = std::ptrdiff_t{row_pixels} * kPixel;
  const std::ptrdiff_t offsets[] = {0, row_size, 2 * row_size};
  ConvTile<Bf16, Out> tile;
  tile.src_stride = std::ptrdiff_t{stride} * kPixel;
  tile.segment_offsets = offsets;
  tile.segments = 3, tile.segment_length = 3 * kPixel;
  tile.weights = weights;
  tile.bias = kZeros;
  tile.residual = nullptr;
  tile.negative_slope = 1;
  tile.channels = channels;
  for_each_tile_batch(0, std::int64_t{rows - 1} * row_pixels + width, kernels().max_rows,
                      [&](std::int64_t first, int count) {
                        tile.src = pixels + first * tile.src_stride;
                        tile.pixels = count;
                        multiply(&tile, first);
                      });
}

template <class T>
void NormConvWorker<T>::direct_grouped_forward(const GroupedConv& conv,
                                               const NormalizedMaps<T>& maps, const float* panels,
                                               T* y, int y_stride, const ChannelSums* sums) const {
  const auto buffer = scratch<DirectGroupedScratch>(conv);
  const int row_pixels = conv.width + 2, width = conv.out_width();
  T unused[kPanelWidth];
  T* dst[kMaxTilePixels];
  std::fill_n(buffer.x, buffer.size, Bf16(0.0f));
  for_each_strip(conv, [&](const Strip& strip) {
    fill_strip(conv, maps, strip, buffer.x);
    const int rows = div_up(strip.rows, conv.stride);
    const std::int64_t begin =
        (strip.image * conv.out_height() + strip.first / conv.stride) * width;
    T* const out = y + begin * y_stride + strip.channel;
    convolve_strip<T>(
        buffer.x, row_pixels, rows, width, conv.stride, direct_panel(panels, strip.panel),
        strip.channels, [&](ConvTile<Bf16, T>* tile, std::int64_t first) {
          for (int i = 0; i < tile->pixels; ++i) {
            const std::int64_t row = (first + i) / row_pixels;
            const std::int64_t column = (first + i) % row_pixels;
            dst[i] = column < width ? out + (row * width + column) * y_stride : unused;
          }
          tile->dst = dst;
          kernels().conv(*tile);
        });
    if (!sums) return;
    kernels().channel_sums(out, y_stride, rows * width, strip.channels, sums->first + strip.channel,
                           sums->second + strip.channel);
  });
}

template <class T>
void NormConvWorker<T>::direct_grouped_backward(const GroupedConv& conv,
                                                const NormalizedMaps<T>& maps,
                                                const OutputGradient<T>& gradient,
                                                const float* panels_t, float* d_panels) const {
  const auto buffer = scratch<DirectGroupedScratch>(conv);
  std::fill_n(buffer.x, buffer.size, Bf16(0.0f));
  std::fill_n(buffer.dy, buffer.size, Bf16(0.0f));
  std::fill_n(d_panels, conv.direct_filter_floats(), 0.0f);
  for_each_strip(conv, [&](const Strip& strip) {
    fill_strip(conv, maps, strip, buffer.x);
    fill_gradient_strip(conv, gradient, strip, buffer.dy);
    direct_grouped_backward_filter(conv, strip, buffer, d_panels);
    direct_grouped_backward_data(conv, maps, strip, buffer, panels_t);
  });
}

// The sum over the pixels of the products of the input at each tap and the output's gradient. A
// product is of pairs of pixels, so taps at an odd distance read pairs that begin with the second.
template <class T>
void NormConvWorker<T>::direct_grouped_backward_filter(const GroupedConv& conv, const Strip& strip,
                                                       const DirectGroupedScratch& buffer,
                                                       float* d_panels) const {
  const int row_pixels = conv.width + 2, pixels = (strip.rows + 2) * row_pixels;
  const int used = (strip.rows - 1) * row_pixels + conv.width;
  kernels().rows_to_columns(buffer.x, kPixel, buffer.even, pixels, kPixel);
  kernels().rows_to_columns(buffer.x + kPixel, kPixel, buffer.odd, pixels - 1, kPixel);
  const Bf16* const dy = buffer.dy + std::ptrdiff_t{row_pixels + 1} * kPixel;
  kernels().rows_to_columns(dy, kPixel, buffer.dy_columns, used, kPixel);
  for (int tap = 0; tap < kTaps; ++tap) {
    const std::ptrdiff_t pixel = tap / 3 * row_pixels + tap % 3;
    const Bf16* const columns =
        pixel % 2 ? buffer.odd + (pixel - 1) * kPixel : buffer.even + pixel * kPixel;
    const std::ptrdiff_t offset = std::ptrdiff_t{strip.panel} * kTaps + tap;
    kernels().gemm_tn(buffer.dy_columns, kPixel, columns, kPixel, used,
                      d_panels + offset * kPanelWidth * kPixel, kPixel, strip.channels, kPixel);
  }
}

template <class T>
void NormConvWorker<T>::direct_grouped_backward_data(const GroupedConv& conv,
                                                     const NormalizedMaps<T>& maps,
                                                     const Strip& strip,
                                                     const DirectGroupedScratch& buffer,
                                                     const float* panels_t) const {
  const int row_pixels = conv.width + 2;
  float results[kMaxTilePixels][kPanelWidth];
  float* dst[kMaxTilePixels];
  for (int i = 0; i < kMaxTilePixels; ++i) dst[i] = results[i];
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(results[0], kPanelWidth, 1, false);
  args.x = x, args.dx = dx;
  set_channels(&args, maps, strip.channel, strip.channels);
  const std::int64_t begin = (strip.image * conv.height + strip.first) * conv.width;
  convolve_strip<float>(
      buffer.dy, row_pixels, strip.rows, conv.width, 1, direct_panel(panels_t, strip.panel),
      strip.channels, [&](ConvTile<Bf16, float>* tile, std::int64_t first) {
        for (int i = 0; i < tile->pixels; ++i) {
          const std::int64_t row = (first + i) / row_pixels, column = (first + i) % row_pixels;
          const std::int64_t pixel = begin + row * conv.width + column;
          x[i] = column < conv.width ? maps.x + pixel * maps.stride + strip.channel : nullptr;
          dx[i] = maps.dx + pixel * maps.dx_stride + strip.channel;
        }
        tile->dst = dst;
        inference_kernels().bf16->conv_to_f32(*tile);
        args.pixels = tile->pixels;
        kernels().bn_relu_backward(args);
      });
}

template class NormConvWorker<Bf16>;

}  // namespace gluondense
