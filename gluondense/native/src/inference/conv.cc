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

Segments find_segments(const ConvStep& s, const Placement& in, int channels,
                       std::ptrdiff_t* offsets) {
  const bool joined = channels == in.pixel_stride;
  const int columns = joined ? 1 : s.window.kernel[1];
  const int count = s.window.kernel[0] * columns;
  for (int i = 0; offsets && i < count; ++i) {
    const std::ptrdiff_t y = i / columns, x = i % columns;
    offsets[i] = (y * in.row_pixels() + x) * in.pixel_stride;
  }
  return {count, joined ? s.window.kernel[1] * channels : channels};
}

void InferenceWorker::direct_conv(const ConvStep& s, const float*) {
  program_.is_u8(s.in) ? conv<std::uint8_t>(s, nullptr) : conv<float>(s, nullptr);
}

void InferenceWorker::bf16_conv(const ConvStep& s, const float* filters) {
  conv<float>(s, filters);
}

template <class T>
void InferenceWorker::conv(const ConvStep& s, const float* bf16_filters) {
  const Placement& out = placement(s.out);
  const bool spans_rows =
      bf16_filters || s.has_prologue() || has_contiguous_rows(s, placement(s.in));
  const std::int64_t rows = spans_rows ? 1 : out.height;
  const std::int64_t width = spans_rows ? std::int64_t{out.height} * out.width : out.width;
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
  std::ptrdiff_t offsets[kMaxTaps];
  tile.segment_offsets = offsets;
  const T* src;
  std::ptrdiff_t panel_in_stride = s.panel_in_stride;
  if (bf16_filters || s.has_prologue()) {
    src = pack_tile<T>(s, bf16_filters, y, x, offsets, &tile);
    if (bf16_filters) panel_in_stride /= 2;
  } else {
    src = window_ptr<T>(s, y, x);
    tile.src_stride = std::ptrdiff_t{s.window.stride[1]} * in.pixel_stride;
    const Segments segments = find_segments(s, in, s.panel_in, offsets);
    tile.segments = segments.count, tile.segment_length = segments.length;
  }
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
    tile.src = src + panel / s.panels_per_input * panel_in_stride;
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

// The first input of the output pixel (y, x), which may be in the padding; x may be beyond the row.
template <class T>
const T* InferenceWorker::window_ptr(const ConvStep& s, int y, int x) const {
  const int width = placement(s.out).width;
  const Window& w = s.window;
  y += x / width, x %= width;
  return pixel_ptr<T>(s.in, y * w.stride[0] - w.pad[0], x * w.stride[1] - w.pad[1]);
}

// Makes all inputs of each pixel of a tile contiguous; rounds them to bfloat16, or normalizes them
// on the way into a 1x1 convolution and rectifies them behind a batch normalization, or both.
template <class T>
const T* InferenceWorker::pack_tile(const ConvStep& s, bool bf16, int y, int x,
                                    std::ptrdiff_t* offsets, ConvTile<T>* tile) {
  const int channels = s.panel_in_stride ? s.in.channels : s.panel_in;
  const Segments segments = find_segments(s, placement(s.in), channels, offsets);
  const int length = bf16 ? div_up(segments.length, 2) : segments.length;
  const int stride = packed_stride<T>(segments.count * length);
  T* const packed = reinterpret_cast<T*>(scratch_);
  // Of a pixel that is normalized in float32 before it is packed in bfloat16.
  const std::size_t row_of_floats = static_cast<std::size_t>(stride) * tile->pixels;
  for (int i = 0; i < tile->pixels; ++i) {
    const T* const pixel = window_ptr<T>(s, y, x + i);
    T* const dst = packed + static_cast<std::size_t>(i) * stride;
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      inference_kernels().bn_relu_u8(pixel, u8_ptr(s.xor_mask), u8_ptr(s.zero_point), dst, length);
    } else if (s.has_layer_norm()) {
      float* const normalized = bf16 ? packed + row_of_floats : dst;
      inference_kernels().layer_norm_f32(pixel, s.layer_norm_eps, nullptr, nullptr, normalized,
                                         segments.length);
      if (bf16) {
        inference_kernels().affine_relu_bf16(normalized, nullptr, nullptr, dst, segments.length);
      }
    } else if (bf16) {
      const float* const scale = s.has_prologue() ? floats_ + s.scale : nullptr;
      for (int k = 0; k < segments.count; ++k) {
        inference_kernels().affine_relu_bf16(pixel + offsets[k], scale, floats_ + s.shift,
                                             dst + k * length, segments.length);
      }
    } else {
      inference_kernels().affine_f32(pixel, floats_ + s.scale, floats_ + s.shift, 0, dst, length);
    }
    // The next tile is fetched while this one is multiplied.
    if (s.window.taps() == 1) {
      const std::ptrdiff_t step = std::ptrdiff_t{s.window.stride[1]} * placement(s.in).pixel_stride;
      prefetch_rows(pixel + tile->pixels * step, 0, 1, length);
    }
  }
  tile->src_stride = stride;
  if (s.panel_in_stride == 0) {
    offsets[0] = 0, tile->segments = 1, tile->segment_length = segments.count * length;
  } else {  // in bfloat16 only: some channels of each tap
    tile->segments = s.window.taps(), tile->segment_length = s.panel_in / 2;
    for (int k = 0; k < tile->segments; ++k) offsets[k] = std::ptrdiff_t{k} * s.in.channels / 2;
  }
  return packed;
}

}  // namespace gluondense
