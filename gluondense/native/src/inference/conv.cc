// SPDX-License-Identifier: Apache-2.0
// Convolutions without a transform, as an implicit gemm: see ConvTile.
#include <algorithm>
#include <type_traits>

#include "inference/inference_worker.h"
#include "memory.h"

namespace gluondense {
namespace {

constexpr int kMaxPixels = 16;  // of a tile, with any instruction set

// Whether the rows of the input follow each other without a gap, so that tiles may span rows.
bool has_contiguous_rows(const ConvStep& s, const Placement& in) {
  const Window& w = s.window;
  return w.taps() == 1 && w.stride[0] == 1 && w.stride[1] == 1 && in.pad == 0;
}

}  // namespace

void InferenceWorker::direct_conv(const ConvStep& s, const float*) {
  program_.is_u8(s.in) ? conv<std::uint8_t>(s, nullptr) : conv<float>(s, nullptr);
}

void InferenceWorker::bf16_conv(const ConvStep& s, const float* filters) {
  conv<float>(s, filters);
}

template <class T>
void InferenceWorker::conv(const ConvStep& s, const float* bf16_filters) {
  const Placement& out = placement(s.out);
  const bool contiguous = has_contiguous_rows(s, placement(s.in));
  const std::int64_t rows = contiguous ? 1 : out.height;
  const std::int64_t width = contiguous ? std::int64_t{out.height} * out.width : out.width;
  // Tiles of a row, of nearly equal width.
  const std::int64_t tiles = div_up<std::int64_t>(width, inference_kernels().max_tile_pixels);
  fill_padding<T>(s.out);
  // The work items are the panels of the tiles; several threads may share a tile.
  const auto [first, last] = partition(rows * tiles * s.panels);
  for (std::int64_t item = first; item < last;) {
    const std::int64_t tile = item / s.panels, column = tile % tiles;
    const int panel = item % s.panels;
    const int end = std::min<std::int64_t>(s.panels, panel + last - item);
    const int x = width * column / tiles, next = width * (column + 1) / tiles;
    conv_tile<T>(s, bf16_filters, tile / tiles, x, next - x, panel, end);
    item += end - panel;
  }
}

// The panels [panel, end) of `pixels` output pixels from (y, x) on.
template <class T>
void InferenceWorker::conv_tile(const ConvStep& s, const float* bf16_filters, int y, int x,
                                int pixels, int panel, int end) {
  const Placement &in = placement(s.in), &out = placement(s.out);
  const Window& w = s.window;
  T* dst[kMaxPixels];
  const T* residual[kMaxPixels];
  for (int i = 0, row = y + x / out.width, column = x % out.width; i < pixels; ++i, ++column) {
    if (column == out.width) ++row, column = 0;
    dst[i] = pixel_ptr<T>(s.out, row, column);
    if (s.residual.valid()) residual[i] = pixel_ptr<T>(s.residual, row, column);
  }
  ConvTile<T> tile;
  tile.pixels = pixels;
  tile.negative_slope = s.negative_slope;
  tile.add_last = s.add_last;
  tile.is_gelu = s.is_gelu;
  tile.src_stride = std::ptrdiff_t{w.stride[1]} * in.pixel_stride;
  const T* src = map_ptr<T>(s.in) + s.in.channel;
  if (has_contiguous_rows(s, in)) {
    src += (std::ptrdiff_t{y} * in.width + x) * in.pixel_stride;
  } else {
    src += in.index(y * w.stride[0] - w.pad[0], x * w.stride[1] - w.pad[1]);
  }
  if (bf16_filters || s.has_prologue()) src = pack_tile<T>(s, bf16_filters, src, &tile);
  // A segment for each tap, or for each row of taps whose channels are contiguous.
  std::ptrdiff_t offsets[kMaxTaps];
  const bool joined = s.panel_in == in.pixel_stride;
  tile.segment_length = joined ? w.kernel[1] * s.panel_in : s.panel_in;
  tile.segments = 0;
  for (int ky = 0; ky < w.kernel[0]; ++ky) {
    for (int kx = 0; kx < (joined ? 1 : w.kernel[1]); ++kx) {
      offsets[tile.segments++] = (std::ptrdiff_t{ky} * in.row_pixels() + kx) * in.pixel_stride;
    }
  }
  tile.segment_offsets = offsets;
  if (bf16_filters) tile.segment_length = div_up(tile.segment_length, 2);
  if (std::is_same_v<T, std::uint8_t>) tile.segment_length = round_up(tile.segment_length, 4);
  const std::ptrdiff_t panel_size =
      std::ptrdiff_t{tile.segments} * tile.segment_length * kPanelWidth;
  for (; panel < end; ++panel) {
    const int channel = panel * s.panel_out;
    T* panel_dst[kMaxPixels];
    const T* panel_residual[kMaxPixels];
    for (int i = 0; i < pixels; ++i) {
      panel_dst[i] = dst[i] + channel;
      // Prefetched while the sums are computed.
      for (int c = 0; c < s.panel_out; c += kCacheLineBytes / static_cast<int>(sizeof(T))) {
        __builtin_prefetch(panel_dst[i] + c, 1);
      }
      if (s.residual.valid()) panel_residual[i] = residual[i] + channel;
    }
    tile.src = src + std::ptrdiff_t{panel / s.panels_per_input} * s.panel_in_stride;
    const std::ptrdiff_t lane = std::ptrdiff_t{panel} * kPanelWidth;
    tile.bias = floats_ + s.bias + lane;
    tile.dst = panel_dst;
    tile.residual = s.residual.valid() ? panel_residual : nullptr;
    tile.channels = std::min(s.panel_out, s.out.channels - channel);
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      tile.weights = bytes_ + s.weight + panel * panel_size;
      tile.scale = floats_ + s.scale + lane;
      tile.residual_scale = floats_ + s.residual_scale + lane;
      tile.requant_scale = s.requant_scale < 0 ? nullptr : floats_ + s.requant_scale + lane;
      tile.requant_shift = floats_ + s.requant_shift + lane;
      inference_kernels().conv_u8s8(tile);
    } else if (bf16_filters) {
      tile.weights = bf16_filters + panel * panel_size;
      inference_kernels().conv_bf16(tile);
    } else {
      tile.weights = floats_ + s.weight + panel * panel_size;
      inference_kernels().conv_f32(tile);
    }
  }
}

// Normalizes a tile's input pixels on the way into a 1x1 convolution, rectifies them behind a batch
// normalization, and makes them contiguous.
template <class T>
const T* InferenceWorker::pack_tile(const ConvStep& s, bool bf16, const T* src, ConvTile<T>* tile) {
  const int channels = s.in.channels;
  const int stride = packed_stride<T>(bf16 ? div_up(channels, 2) : channels);
  T* const packed = reinterpret_cast<T*>(scratch_);
  // Of a pixel that is normalized in float32 before it is packed in bfloat16.
  const std::size_t row_of_floats = static_cast<std::size_t>(stride) * tile->pixels;
  for (int i = 0; i < tile->pixels; ++i) {
    const T* const pixel = src + i * tile->src_stride;
    T* const dst = packed + static_cast<std::size_t>(i) * stride;
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      inference_kernels().bn_relu_u8(pixel, u8_ptr(s.xor_mask), u8_ptr(s.zero_point), dst,
                                     channels);
    } else if (s.has_layer_norm()) {
      float* const normalized = bf16 ? packed + row_of_floats : dst;
      inference_kernels().layer_norm_f32(pixel, s.layer_norm_eps, nullptr, nullptr, normalized,
                                         channels);
      if (bf16) inference_kernels().affine_relu_bf16(normalized, nullptr, nullptr, dst, channels);
    } else if (bf16) {
      const bool normalizes = s.has_prologue();
      inference_kernels().affine_relu_bf16(pixel, normalizes ? floats_ + s.scale : nullptr,
                                           normalizes ? floats_ + s.shift : nullptr, dst, channels);
    } else {
      inference_kernels().affine_f32(pixel, floats_ + s.scale, floats_ + s.shift, 0, dst, channels);
    }
  }
  // The next tile is fetched while this one is multiplied.
  prefetch_rows(src + tile->pixels * tile->src_stride, tile->src_stride, tile->pixels, channels);
  tile->src_stride = stride;
  return packed;
}

}  // namespace gluondense
