// SPDX-License-Identifier: Apache-2.0
// The 3x3 convolutions of the layers without a transform: with AMX, products of bfloat16 are faster
// than Winograd's, which are in float32. Each function is the one of conv3x3.cc.
// `panels` is memory for pairs of bfloat16.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {
namespace {

constexpr int kTaps = 9;
constexpr float kZeros[kPanelWidth] = {};

}  // namespace

// Packs filters into (out panels, 9, from, kPanelWidth), as pairs of the input channels of the
// convolution, which are padded like a strip's.
template <class T>
void StageWorker<T>::direct_pack_conv3x3(const float* weight, int in_channels, int out_channels,
                                         bool transposed, float* panels) const {
  auto* const pairs = reinterpret_cast<Bf16*>(panels);
  const int from = transposed ? out_channels : in_channels;
  const int to = transposed ? in_channels : out_channels;
  const std::int64_t depth = pad_to_cache_line(from);
  const auto [first, last] = share(panel_count(to) * depth);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t panel = i / depth, k = i % depth;
    for (int tap = 0; tap < kTaps; ++tap) {
      Bf16* const row = pairs + ((panel * kTaps + tap) * depth + k / 2 * 2) * kPanelWidth + k % 2;
      const int source = transposed ? kTaps - 1 - tap : tap;
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const std::int64_t n = panel * kPanelWidth + lane;
        const std::int64_t filter = transposed ? k * in_channels + n : n * in_channels + k;
        row[lane * 2] = Bf16(n < to && k < from ? weight[filter * kTaps + source] : 0.0f);
      }
    }
  }
}

// Sums the gradients (9, out_channels, in_channels) of all threads.
template <class T>
void StageWorker<T>::direct_reduce_d_conv3x3(int conv, int in_channels, int out_channels,
                                             float* weight) const {
  const std::ptrdiff_t stride = pad_to_cache_line(in_channels);
  const auto [first, last] = share(out_channels);
  for (std::int64_t n = first; n < last; ++n) {
    for (int tap = 0; tap < kTaps; ++tap) {
      const std::ptrdiff_t row = (std::int64_t{tap} * out_channels + n) * stride;
      for (int k = 0; k < in_channels; ++k) {
        float sum = 0;
        for (int t = 0; t < threads(); ++t) sum += d_conv3x3(t, conv)[row + k];
        weight[(n * in_channels + k) * kTaps + tap] = sum;
      }
    }
  }
}

// Writes the rows [y - 1, y + rows + 1) of an image.
template <class T>
void StageWorker<T>::fill_direct_strip(const DirectStrip& strip, const BnReluInput<T>& input,
                                       std::int64_t image, int y, int rows) const {
  const int stride = strip.stride, width = config_.width;
  for (int v = 0; v < rows + 2; ++v) {
    Bf16* const row = strip.data + std::ptrdiff_t{v} * strip.row_pixels * stride;
    Bf16* const pixels = row + stride;
    const std::int64_t from = y - 1 + v;
    if (from < 0 || from >= config_.height) {
      std::fill_n(row, std::ptrdiff_t{strip.row_pixels} * stride, Bf16(0.0f));
      continue;
    }
    const T* const src = input.data + (image * config_.height + from) * width * input.stride;
    if (input.scale) {
      kernels().affine_relu_to_rows(src, input.stride, input.scale, input.shift, 0, pixels, stride,
                                    width, input.channels);
    } else {
      for (std::ptrdiff_t x = 0; x < width; ++x) {
        std::copy_n(src + x * input.stride, input.channels, pixels + x * stride);
        std::fill_n(pixels + x * stride + input.channels, stride - input.channels, Bf16(0.0f));
      }
    }
    std::fill_n(row, stride, Bf16(0.0f));
    std::fill_n(pixels + std::ptrdiff_t{width} * stride, stride, Bf16(0.0f));
  }
}

// Calls f(image, y, rows) for this thread's strips.
template <class T>
template <class Function>
void StageWorker<T>::for_each_strip(int rows, Function f) const {
  const int strips = div_up(config_.height, rows);
  const auto [first, last] = share(std::int64_t{config_.batch} * strips);
  for (std::int64_t i = first; i < last; ++i) {
    const int y = static_cast<int>(i % strips) * rows;
    f(i / strips, y, std::min(rows, config_.height - y));
  }
}

// Convolves a strip, a tile of pixels and a panel at a time. The pixels of its rows follow each
// other, with two of the padding between rows, whose results are not used. Calls
// multiply(tile, first pixel, channel), which sets where the results are.
template <class T>
template <class Out, class Multiply>
void StageWorker<T>::direct_conv3x3(const DirectStrip& strip, int rows, const float* panels,
                                    int out_channels, Multiply multiply) const {
  const std::ptrdiff_t row_size = std::ptrdiff_t{strip.row_pixels} * strip.stride;
  const std::ptrdiff_t offsets[] = {0, row_size, 2 * row_size};
  ConvTile<Bf16, Out> tile;
  tile.src_stride = strip.stride;
  tile.segment_offsets = offsets;
  tile.segments = 3, tile.segment_length = 3 * strip.stride;
  tile.bias = kZeros;
  tile.residual = nullptr;
  tile.negative_slope = 1;
  const std::ptrdiff_t panel_size = std::ptrdiff_t{kTaps} * strip.stride * kPanelWidth;
  for_each_tile_batch(0, std::int64_t{rows} * strip.row_pixels - 2, kernels().max_rows,
                      [&](std::int64_t first, int pixels) {
                        tile.src = strip.data + first * strip.stride;
                        tile.pixels = pixels;
                        for (int c = 0; c < out_channels; c += kPanelWidth) {
                          tile.weights =
                              reinterpret_cast<const Bf16*>(panels) + c / kPanelWidth * panel_size;
                          tile.channels = std::min(kPanelWidth, out_channels - c);
                          multiply(&tile, first, c);
                        }
                      });
}

template <class T>
void StageWorker<T>::direct_conv3x3_forward(const BnReluInput<T>& input, const float* panels,
                                            int first, int out_channels) const {
  const auto strip = direct_strip(input.channels);
  const ChannelSums sums = channel_sums(rank_, kMaps);
  const int width = config_.width;
  T unused[kPanelWidth];
  T* dst[kMaxTilePixels];
  for_each_strip(strip.rows, [&](std::int64_t image, int y, int rows) {
    fill_direct_strip(strip, input, image, y, rows);
    const std::int64_t begin = (image * config_.height + y) * width;
    const auto multiply = [&](ConvTile<Bf16, T>* tile, std::int64_t pixel, int c) {
      for (int i = 0; i < tile->pixels; ++i) {
        const std::int64_t row = (pixel + i) / strip.row_pixels, x = (pixel + i) % strip.row_pixels;
        dst[i] = x < width ? map(begin + row * width + x) + first + c : unused;
      }
      tile->dst = dst;
      kernels().conv(*tile);
    };
    direct_conv3x3<T>(strip, rows, panels, out_channels, multiply);
    kernels().channel_sums(map(begin) + first, layout_.map_stride, rows * width, out_channels,
                           sums.first + first, sums.second + first);
  });
}

template <class T>
void StageWorker<T>::direct_conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                                                  const BnReluInput<T>& input,
                                                  const BnReluGradient<T>& gradient) const {
  constexpr int kMost = kMaxTilePixels;
  const auto strip = direct_strip(dy.channels);
  const int width = config_.width;
  float results[kMost][kPanelWidth];
  float* dst[kMost];
  for (int i = 0; i < kMost; ++i) dst[i] = results[i];
  const T* x[kMost];
  T* dx[kMost];
  BnReluBackward<T> args = bn_relu_args<T>(results[0], kPanelWidth, 1, gradient.accumulate);
  args.x = x;
  args.dx = dx;
  for_each_strip(strip.rows, [&](std::int64_t image, int y, int rows) {
    fill_direct_strip(strip, dy, image, y, rows);
    const std::int64_t begin = (image * config_.height + y) * width;
    const auto multiply = [&](ConvTile<Bf16, float>* tile, std::int64_t first, int c) {
      for (int i = 0; i < tile->pixels; ++i) {
        const std::int64_t row = (first + i) / strip.row_pixels;
        const std::int64_t column = (first + i) % strip.row_pixels;
        const std::ptrdiff_t offset = (begin + row * width + column) * input.stride + c;
        x[i] = column < width ? input.data + offset : nullptr;
        dx[i] = gradient.data + offset;
      }
      tile->dst = dst;
      inference_kernels().bf16->conv_to_f32(*tile);
      args.pixels = tile->pixels;
      set_channels(&args, input, gradient, c, tile->channels);
      kernels().bn_relu_backward(args);
    };
    direct_conv3x3<float>(strip, rows, panels, input.channels, multiply);
  });
}

// The sum over the pixels of the products of the input at each tap and the output's gradient, whose
// rows have two pixels of zeros behind them, as those of the input do. A product is of pairs of
// pixels, so taps at an odd distance read pairs that begin with the second pixel.
template <class T>
void StageWorker<T>::direct_conv3x3_backward_filter(const BnReluInput<T>& input,
                                                    const BnReluInput<T>& dy,
                                                    float* d_filters) const {
  const int most = direct_strip_rows(config_.height, config_.width, input.channels);
  const auto buffer = scratch<DirectGradScratch>(most, config_.width, input.channels, dy.channels);
  const DirectStrip &x = buffer.x, &d = buffer.dy;
  const std::ptrdiff_t tap_size = std::ptrdiff_t{dy.channels} * x.stride;
  std::fill_n(d_filters, kTaps * tap_size, 0.0f);
  for_each_strip(most, [&](std::int64_t image, int y, int rows) {
    fill_direct_strip(x, input, image, y, rows);
    fill_direct_strip(d, dy, image, y, rows);
    const int pixels = (rows + 2) * x.row_pixels, used = rows * x.row_pixels;
    kernels().rows_to_columns(x.data, x.stride, buffer.even, pixels, x.stride);
    kernels().rows_to_columns(x.data + x.stride, x.stride, buffer.odd, pixels - 1, x.stride);
    // From the first pixel behind the padding of its first row.
    const Bf16* const rows_of_dy = d.data + std::ptrdiff_t{d.row_pixels + 1} * d.stride;
    kernels().rows_to_columns(rows_of_dy, d.stride, buffer.dy_columns, used, d.stride);
    for (int tap = 0; tap < kTaps; ++tap) {
      const std::ptrdiff_t pixel = tap / 3 * x.row_pixels + tap % 3;
      const Bf16* const columns =
          pixel % 2 ? buffer.odd + (pixel - 1) * x.stride : buffer.even + pixel * x.stride;
      // Without the last row's padding, whose inputs would be behind the strip.
      kernels().gemm_tn(buffer.dy_columns, d.stride, columns, x.stride, used - 2,
                        d_filters + tap * tap_size, x.stride, dy.channels, x.stride);
    }
  });
}

template class StageWorker<Bf16>;

}  // namespace gluondense
