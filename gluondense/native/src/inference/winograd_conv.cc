// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions with Winograd's F(4x4, 3x3): see kernels/inference_kernels.h.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "inference/inference_worker.h"
#include "memory.h"
#include "tile_grid.h"

namespace gluondense {

void InferenceWorker::winograd_conv(const ConvStep& s, const float* filters) {
  const Placement& out = placement(s.out);
  const std::int64_t tiles = TileGrid(1, out.height, out.width).tiles();
  // Batches of nearly equal size.
  const std::int64_t batches = div_up<std::int64_t>(tiles, inference_kernels().max_tile_pixels);
  fill_padding(s.out);
  const auto [first, last] = partition(batches);
  for (std::int64_t batch = first; batch < last; ++batch) {
    const std::int64_t begin = tiles * batch / batches, end = tiles * (batch + 1) / batches;
    winograd_tile_batch(s, filters, begin, static_cast<int>(end - begin));
  }
}

void InferenceWorker::winograd_tile_batch(const ConvStep& s, const float* filters,
                                          std::int64_t first, int tiles) {
  static const float kZeros[kPanelWidth] = {};
  const TileGrid grid(1, placement(s.out).height, placement(s.out).width);
  const int channels = s.in.channels;
  const WinogradScratch scratch(reinterpret_cast<float*>(scratch_), channels, tiles);
  for (int i = 0; i < tiles; ++i) {
    const auto [image, y, x] = grid[first + i];
    float* const planes = scratch.planes + i * channels;
    if (plan_.is_bf16(s.in)) {
      winograd_input_transform(s, y, x, reinterpret_cast<Bf16*>(scratch.patch), planes,
                               scratch.planes_stride);
    } else {
      winograd_input_transform(s, y, x, scratch.patch, planes, scratch.planes_stride);
    }
  }
  const std::ptrdiff_t offset = 0;
  float* dst[16];
  ConvTile<float> tile;
  tile.src_stride = channels;
  tile.segment_offsets = &offset;
  tile.segments = 1;
  tile.segment_length = s.panel_in;
  tile.bias = kZeros;
  tile.dst = dst;
  tile.residual = nullptr;
  tile.pixels = tiles;
  tile.negative_slope = 1;
  const std::ptrdiff_t plane_size = std::ptrdiff_t{s.panel_in} * kPanelWidth;
  for (int panel = 0; panel < s.panels; ++panel) {
    tile.channels = std::min(s.panel_out, s.out.channels - panel * s.panel_out);
    const std::ptrdiff_t input = std::ptrdiff_t{panel / s.panels_per_input} * s.panel_in_stride;
    for (int plane = 0; plane < kWinogradPlanes; ++plane) {
      tile.src = scratch.planes + plane * scratch.planes_stride + input;
      tile.weights = filters + (std::ptrdiff_t{panel} * kWinogradPlanes + plane) * plane_size;
      for (int i = 0; i < tiles; ++i) {
        dst[i] = scratch.sums + plane * scratch.sums_stride + i * kPanelWidth;
      }
      inference_kernels().conv_f32(tile);
    }
    for (int i = 0; i < tiles; ++i) {
      const auto [image, y, x] = grid[first + i];
      const float* const sums = scratch.sums + i * kPanelWidth;
      plan_.is_bf16(s.out)
          ? winograd_output_transform<Bf16>(s, panel, y, x, sums, scratch.sums_stride)
          : winograd_output_transform<float>(s, panel, y, x, sums, scratch.sums_stride);
    }
  }
}

// The 6x6 input pixels of the output tile at (y, x), which begin one pixel above and to the left.
template <class T>
void InferenceWorker::winograd_input_transform(const ConvStep& s, int y, int x, T* patch,
                                               float* planes, std::ptrdiff_t plane_stride) {
  const auto transform = [&] {
    if constexpr (std::is_same_v<T, Bf16>) {
      return inference_kernels().bf16->winograd_input_transform;
    } else {
      return inference_kernels().winograd_input_transform;
    }
  }();
  const Placement& in = placement(s.in);
  const int channels = s.in.channels;
  const bool inside = y - 1 + kWinogradInputTile <= in.height + in.pad &&
                      x - 1 + kWinogradInputTile <= in.width + in.pad;
  if (inside) {
    transform(pixel_ptr<T>(s.in, y - 1, x - 1), static_cast<std::ptrdiff_t>(in.row_stride()),
              in.pixel_stride, planes, plane_stride, channels);
    return;
  }
  // The pixels below and to the right of the padding are zeros.
  std::memset(patch, 0, kWinogradPlanes * channels * sizeof(T));
  const std::ptrdiff_t row_stride = std::ptrdiff_t{kWinogradInputTile} * channels;
  for (int v = 0; v < std::min(kWinogradInputTile, in.height + 2 - y); ++v) {
    for (int u = 0; u < std::min(kWinogradInputTile, in.width + 2 - x); ++u) {
      std::memcpy(patch + v * row_stride + std::ptrdiff_t{u} * channels,
                  pixel_ptr<T>(s.in, y - 1 + v, x - 1 + u), channels * sizeof(T));
    }
  }
  transform(patch, row_stride, channels, planes, plane_stride, channels);
}

template <class T>
void InferenceWorker::winograd_output_transform(const ConvStep& s, int panel, int y, int x,
                                                const float* sums,
                                                std::ptrdiff_t plane_stride) const {
  const Placement& out = placement(s.out);
  const int channel = panel * s.panel_out;
  T* dst[TileGrid::kPixels];
  const T* residual[TileGrid::kPixels];
  for (int i = 0; i < TileGrid::kPixels; ++i) {
    const int v = y + i / kWinogradOutputTile, u = x + i % kWinogradOutputTile;
    const bool inside = v < out.height && u < out.width;
    dst[i] = inside ? pixel_ptr<T>(s.out, v, u) + channel : nullptr;
    residual[i] = inside && s.residual.valid() ? pixel_ptr<T>(s.residual, v, u) + channel : nullptr;
  }
  WinogradOutputTile<T> tile;
  tile.src = sums;
  tile.plane_stride = plane_stride;
  tile.bias = floats_ + s.bias + std::ptrdiff_t{panel} * kPanelWidth;
  tile.dst = dst;
  tile.residual = s.residual.valid() ? residual : nullptr;
  tile.channels = std::min(s.panel_out, s.out.channels - channel);
  tile.negative_slope = s.negative_slope;
  tile.add_last = s.add_last;
  if constexpr (std::is_same_v<T, Bf16>) {
    inference_kernels().bf16->winograd_output_transform(tile);
  } else {
    inference_kernels().winograd_output_transform(tile);
  }
}

}  // namespace gluondense
