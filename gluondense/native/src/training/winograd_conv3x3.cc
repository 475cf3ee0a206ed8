// SPDX-License-Identifier: Apache-2.0
// The 3x3 convolutions of the layers, with Winograd's F(4x4, 3x3).
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {
namespace {

constexpr float kZeros[kPanelWidth] = {};

// Multiplies 36 planes (tiles, in_channels) by one panel of filters (36, in_channels, kPanelWidth),
// of which the first `channels` are used. Calls prefetch(tile) for each tile, spread over the
// planes: so many prefetches at once would wait for memory.
template <class Prefetch>
void winograd_gemm(const float* planes, int tiles, int in_channels, int stride, const float* panel,
                   int channels, float* products, Prefetch prefetch) {
  for (int i = 0, tile = 0; i < kWinogradPlanes; ++i) {
    for (; tile * kWinogradPlanes < tiles * (i + 1); ++tile) prefetch(tile);
    const std::ptrdiff_t plane = i;
    training_kernels().gemm(planes + plane * tiles * stride, stride, in_channels,
                            panel + plane * in_channels * kPanelWidth,
                            products + plane * tiles * kPanelWidth, kPanelWidth, tiles, channels);
  }
}

// Writes an output tile of one panel; null pointers in dst skip a pixel.
template <class T>
void transform_output(const float* products, std::ptrdiff_t plane_stride, int channels,
                      T* const* dst) {
  WinogradOutputTile<T> tile = {};
  tile.src = products;
  tile.plane_stride = plane_stride;
  tile.bias = kZeros;
  tile.dst = dst;
  tile.channels = channels;
  tile.negative_slope = 1;
  map_kernels<T>().winograd_output_transform(tile);
}

}  // namespace

// Packs filters (out_channels, in_channels, 3, 3) into (out panels, 36, in_channels, kPanelWidth).
// `transposed` swaps the input and output channels and rotates the filters by 180 degrees, for the
// gradient of the input.
template <class T>
void StageWorker<T>::winograd_pack_conv3x3(const float* weight, int in_channels, int out_channels,
                                           bool transposed, float* panels) const {
  const int from = transposed ? out_channels : in_channels;
  const int to = transposed ? in_channels : out_channels;
  const std::ptrdiff_t plane_stride = std::ptrdiff_t{from} * kPanelWidth;
  const auto [first, last] = share(std::int64_t{panel_count(to)} * from);
  float taps[9 * kPanelWidth] = {};
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t panel = i / from, k = i % from;
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const std::int64_t n = panel * kPanelWidth + lane;
      const std::int64_t filter = transposed ? k * in_channels + n : n * in_channels + k;
      for (int tap = 0; tap < 9; ++tap) {
        taps[tap * kPanelWidth + lane] =
            n < to ? weight[filter * 9 + (transposed ? 8 - tap : tap)] : 0;
      }
    }
    training_kernels().winograd_filter_transform(
        taps, panels + panel * kWinogradPlanes * plane_stride + k * kPanelWidth, plane_stride);
  }
}

// Returns the upper left pixel of a tile's 6x6 input. Fills the strip if it contains another row of
// tiles or other channels. Pixels outside the image and channels of the padding are zero.
template <class T>
const float* StageWorker<T>::padded_tile(PaddedStrip* strip, const BnReluInput<T>& input,
                                         std::int64_t tile, int first_channel, int channels) const {
  const std::int64_t row = grid_.row(tile);
  if (row != strip->row || first_channel != strip->first_channel) {
    strip->row = row;
    strip->first_channel = first_channel;
    strip->stride = pad_to_cache_line(channels);
    fill_padded_strip(*strip, input, channels);
  }
  return strip->data + std::ptrdiff_t{grid_.x(tile)} * strip->stride;
}

template <class T>
void StageWorker<T>::fill_padded_strip(const PaddedStrip& strip, const BnReluInput<T>& input,
                                       int channels) const {
  const int stride = strip.stride, first = strip.first_channel, width = config_.width;
  const std::int64_t image = grid_.image(strip.row);
  for (int v = 0; v < kWinogradInputTile; ++v) {
    float* const row = strip.data + v * layout_.strip_width * stride;
    const int y = grid_.y(strip.row) - 1 + v;
    if (y < 0 || y >= config_.height) {
      std::fill_n(row, layout_.strip_width * stride, 0.0f);
      continue;
    }
    const T* const src = input.data + (image * config_.height + y) * width * input.stride + first;
    std::fill_n(row, stride, 0.0f);
    std::fill_n(row + std::ptrdiff_t{width + 1} * stride,
                (layout_.strip_width - width - 1) * stride, 0.0f);
    prefetch_rows(src + std::ptrdiff_t{width} * input.stride, input.stride, width, channels);
    if (input.scale) {
      kernels().affine_relu(src, input.stride, input.scale + first, input.shift + first, 0,
                            row + stride, stride, width, channels);
    } else {
      kernels().copy_to_f32(src, input.stride, row + stride, stride, width, channels);
    }
    for (int x = 0; x < width && channels < stride; ++x) {
      float* const pixel = row + std::ptrdiff_t{x + 1} * stride;
      std::fill(pixel + channels, pixel + stride, 0.0f);
    }
  }
}

// Convolves this thread's rows of tiles, a batch of tiles and a panel of output channels at a time.
// Calls prefetch(tile, channel) while the products of a batch are computed, and then
// store(tile, channel, products, plane stride) for each of its tiles.
template <class T>
template <class Prefetch, class Store>
void StageWorker<T>::winograd_conv3x3(const BnReluInput<T>& input, const float* panels,
                                      int out_channels, const Conv3x3Scratch& scratch,
                                      Prefetch prefetch, Store store) const {
  const int stride = scratch.stride, most = inference_kernels().max_tile_pixels;
  PaddedStrip strip = {scratch.strip};
  const auto [first_row, last_row] = share(grid_.rows());
  for_each_tile_batch(first_row * grid_.columns(), last_row * grid_.columns(), most,
                      [&](std::int64_t first, int tiles) {
                        for (int i = 0; i < tiles; ++i) {
                          inference_kernels().winograd_input_transform(
                              padded_tile(&strip, input, first + i, 0, input.channels),
                              layout_.strip_width * stride, stride, scratch.planes + i * stride,
                              std::ptrdiff_t{tiles} * stride, stride);
                        }
                        for (int c = 0; c < out_channels; c += kPanelWidth) {
                          winograd_gemm(
                              scratch.planes, tiles, input.channels, stride,
                              panels + std::ptrdiff_t{c} * kWinogradPlanes * input.channels,
                              std::min(kPanelWidth, pad_to_cache_line(out_channels - c)),
                              scratch.products, [&](int i) { prefetch(grid_[first + i], c); });
                          for (int i = 0; i < tiles; ++i) {
                            store(grid_[first + i], c, scratch.products + i * kPanelWidth,
                                  std::ptrdiff_t{tiles} * kPanelWidth);
                          }
                        }
                      });
}

// Computes BN-ReLU-Conv3x3 into the maps [first, first + out_channels), and the sums for their
// batch statistics.
template <class T>
void StageWorker<T>::winograd_conv3x3_forward(const BnReluInput<T>& input, const float* panels,
                                              int first, int out_channels) const {
  const ChannelSums sums = channel_sums(rank_, kMaps);
  T* dst[TileGrid::kPixels];
  winograd_conv3x3(
      input, panels, out_channels, scratch<Conv3x3Scratch>(layout_.strip_width, input.channels),
      [](const TileGrid::Tile&, int) {},
      [&](const TileGrid::Tile& tile, int c, const float* products, std::ptrdiff_t plane_stride) {
        const int channel = first + c, channels = std::min(kPanelWidth, out_channels - c);
        grid_.for_each_pixel(tile, [&](int i, std::int64_t pixel) {
          dst[i] = pixel < 0 ? nullptr : map(pixel) + channel;
        });
        transform_output(products, plane_stride, channels, dst);
        for (int v = 0; v < grid_.height_inside(tile); ++v) {
          kernels().channel_sums(dst[v * TileGrid::kSize], layout_.map_stride,
                                 grid_.width_inside(tile), channels, sums.first + channel,
                                 sums.second + channel);
        }
      });
}

// Computes the gradient of the input of BN-ReLU-Conv3x3 from that of the output and the transposed
// filters.
template <class T>
void StageWorker<T>::winograd_conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                                                    const BnReluInput<T>& input,
                                                    const BnReluGradient<T>& gradient) const {
  const auto buffer = scratch<Conv3x3Scratch>(layout_.strip_width, dy.channels);
  float* tile_pixels[TileGrid::kPixels];
  for (int i = 0; i < TileGrid::kPixels; ++i) tile_pixels[i] = buffer.tile + i * kPanelWidth;
  const T* x[TileGrid::kPixels];
  T* dx[TileGrid::kPixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.tile, kPanelWidth, 1, gradient.accumulate);
  args.x = x;
  args.dx = dx;
  args.pixels = TileGrid::kPixels;
  winograd_conv3x3(
      dy, panels, input.channels, buffer,
      [&](const TileGrid::Tile& tile, int c) {
        grid_.for_each_pixel(tile, [&](int, std::int64_t pixel) {
          if (pixel < 0) return;
          prefetch_panel(input.data + pixel * input.stride + c);
          prefetch_panel(gradient.data + pixel * input.stride + c);
        });
      },
      [&](const TileGrid::Tile& tile, int c, const float* products, std::ptrdiff_t plane_stride) {
        grid_.for_each_pixel(tile, [&](int i, std::int64_t pixel) {
          x[i] = pixel < 0 ? nullptr : input.data + pixel * input.stride + c;
          dx[i] = pixel < 0 ? nullptr : gradient.data + pixel * input.stride + c;
        });
        const int channels = std::min(kPanelWidth, input.channels - c);
        transform_output(products, plane_stride, pad_to_cache_line(channels), tile_pixels);
        set_channels(&args, input, gradient, c, channels);
        kernels().bn_relu_backward(args);
      });
}

// Computes the gradient of the 3x3 convolution's filters in Winograd's domain: the product of the
// transformed input and output gradient, in blocks of tiles and channels that stay in the L2 cache
// together with their sums.
template <class T>
void StageWorker<T>::winograd_conv3x3_backward_filter(const BnReluInput<T>& input,
                                                      const BnReluInput<T>& dy,
                                                      float* d_filters) const {
  const int dy_stride = pad_to_cache_line(dy.channels), columns = pad_to_panel(dy.channels);
  const std::ptrdiff_t plane_stride = std::ptrdiff_t{input.channels} * columns;
  const std::ptrdiff_t strip_width = layout_.strip_width;
  std::fill_n(d_filters, kWinogradPlanes * plane_stride, 0.0f);
  const auto buffer = scratch<Conv3x3GradScratch>(layout_.strip_width, dy_stride);
  PaddedStrip x_strip = {buffer.x_strip}, dy_strip = {buffer.dy_strip};
  const auto [first_row, last_row] = share(grid_.rows());
  for_each_tile_batch(
      first_row * grid_.columns(), last_row * grid_.columns(), kConv3x3GradTiles,
      [&](std::int64_t first, int tiles) {
        for (int i = 0; i < tiles; ++i) {
          const float* const tile = padded_tile(&dy_strip, dy, first + i, 0, dy.channels);
          training_kernels().winograd_output_transform_adjoint(
              tile + (strip_width + 1) * dy_stride, strip_width * dy_stride, dy_stride,
              buffer.dy_planes + i * dy_stride, std::ptrdiff_t{tiles} * dy_stride, dy_stride);
        }
        for (int c = 0; c < input.channels; c += kConv3x3GradChannels) {
          const int channels = std::min(kConv3x3GradChannels, input.channels - c);
          const std::ptrdiff_t stride = pad_to_cache_line(channels);
          for (int i = 0; i < tiles; ++i) {
            inference_kernels().winograd_input_transform(
                padded_tile(&x_strip, input, first + i, c, channels), strip_width * stride, stride,
                buffer.x_planes + i * stride, tiles * stride, static_cast<int>(stride));
          }
          for (int plane = 0; plane < kWinogradPlanes; ++plane) {
            training_kernels().gemm_tn(
                buffer.x_planes + plane * tiles * stride, stride,
                buffer.dy_planes + std::ptrdiff_t{plane} * tiles * dy_stride, dy_stride, tiles,
                d_filters + plane * plane_stride + std::ptrdiff_t{c} * columns, columns, channels,
                dy_stride);
          }
        }
      });
}

// Sums the gradients (36, in_channels, out_channels) of all threads and transforms them into
// (out_channels, in_channels, 3, 3).
template <class T>
void StageWorker<T>::winograd_reduce_d_conv3x3(int conv, int in_channels, int out_channels,
                                               float* weight) const {
  const std::ptrdiff_t stride = pad_to_panel(out_channels), plane_stride = in_channels * stride;
  const int panels = panel_count(out_channels);
  float sums[kWinogradPlanes * kPanelWidth], taps[9 * kPanelWidth];
  const auto [first, last] = share(std::int64_t{in_channels} * panels);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t k = i / panels;
    const int n = static_cast<int>(i % panels) * kPanelWidth;
    std::fill_n(sums, kWinogradPlanes * kPanelWidth, 0.0f);
    for (int t = 0; t < threads(); ++t) {
      const float* const src = d_conv3x3(t, conv) + k * stride + n;
      for (int plane = 0; plane < kWinogradPlanes; ++plane) {
        for (int lane = 0; lane < kPanelWidth; ++lane) {
          sums[plane * kPanelWidth + lane] += src[plane * plane_stride + lane];
        }
      }
    }
    training_kernels().winograd_filter_transform_adjoint(sums, kPanelWidth, taps);
    for (int lane = 0; lane < std::min(kPanelWidth, out_channels - n); ++lane) {
      float* const filter = weight + ((n + lane) * std::int64_t{in_channels} + k) * 9;
      for (int tap = 0; tap < 9; ++tap) filter[tap] = taps[tap * kPanelWidth + lane];
    }
  }
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
