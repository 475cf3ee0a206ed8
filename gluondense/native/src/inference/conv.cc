// SPDX-License-Identifier: Apache-2.0
// Convolutions without a transform, as an implicit gemm: see ConvTile.
#include <algorithm>
#include <type_traits>

#include "inference/inference_worker.h"
#include "memory.h"

namespace gluondense {
namespace {

constexpr int kMaxPixels = 32;  // of a tile, with any instruction set

// The most bytes of filters that stay in the L2 cache from tile to tile.
constexpr std::size_t kCachedBytes = std::size_t{1} << 20;

template <class T>
std::size_t filter_bytes(const ConvStep& s) {
  return sizeof(T) * s.panels * s.window.taps() * s.panel_in * kPanelWidth;
}

// Inputs of one product: the length of a segment is a multiple of it.
template <class T>
constexpr int kProductInputs = 4 / sizeof(T);

// The most pixels of a tile whose inputs are multiplied as type T.
template <class T>
int max_tile_pixels() {
  const InferenceKernels& k = inference_kernels();
  if constexpr (std::is_same_v<T, float>) return k.max_tile_pixels;
  return std::is_same_v<T, std::uint8_t> ? k.max_u8_tile_pixels : k.bf16->max_tile_pixels;
}

// Output pixels in the order in which a tile computes them. A line is a number of rows; between two
// rows are `gap` pixels that are no outputs, where the input has the padding.
struct Lines {
  int count, gap, pitch;  // pitch: from a row to the next
  std::int64_t height;    // of the output

  int first_row(std::int64_t line) const { return height * line / count; }
  std::int64_t pixels(std::int64_t line) const {
    return std::int64_t{first_row(line + 1) - first_row(line)} * pitch - gap;
  }
};

// As many rows in a line as a tile has room for; all if there are no gaps. It does not depend on
// the number of threads, as the pixels of a tile decide the order of its sums. The inputs of a tile
// are at equal distances, so that a line of several rows needs a stride of 1, unless they are
// packed.
Lines find_lines(const ConvStep& s, const Placement& in, const Placement& out, bool is_packed,
                 int max_pixels) {
  const bool is_dense = s.window.stride[0] == 1 && s.window.stride[1] == 1;
  const int pitch = !is_packed && is_dense ? in.row_pixels() : out.width, gap = pitch - out.width;
  int rows = out.height;
  if (!is_packed && !is_dense) rows = 1;
  if (gap) rows = std::max(1, (max_pixels + gap) / pitch);
  return {div_up(out.height, rows), gap, pitch, out.height};
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
  program_.is_u8(s.in) ? conv<std::uint8_t, std::uint8_t, std::uint8_t>(s, nullptr)
                       : conv<float, float, float>(s, nullptr);
}

void InferenceWorker::bf16_conv(const ConvStep& s, const float* filters) {
  const auto* const pairs = reinterpret_cast<const Bf16*>(filters);
  if (plan_.is_bf16(s.in)) {
    plan_.is_bf16(s.out) ? conv<Bf16, Bf16, Bf16>(s, pairs) : conv<Bf16, Bf16, float>(s, pairs);
  } else {
    plan_.is_bf16(s.out) ? conv<float, Bf16, Bf16>(s, pairs) : conv<float, Bf16, float>(s, pairs);
  }
}

// Whether a tile's inputs are converted or normalized before they are multiplied.
template <class In, class T>
bool is_packed(const ConvStep& s) {
  return !std::is_same_v<In, T> || s.has_prologue();
}

template <class In, class T, class Out>
void InferenceWorker::conv(const ConvStep& s, const Bf16* bf16_filters) {
  const Placement& out = placement(s.out);
  const int max_pixels = max_tile_pixels<T>();
  const Lines lines = find_lines(s, placement(s.in), out, is_packed<In, T>(s), max_pixels);
  // Tiles of a line, of nearly equal width.
  const std::int64_t tiles = div_up<std::int64_t>(lines.pixels(lines.count - 1), max_pixels);
  fill_padding(s.out);
  const auto multiply = [&](std::int64_t tile, int panel, int end) {
    const std::int64_t line = tile / tiles, column = tile % tiles;
    const std::int64_t pixels = lines.pixels(line), x = pixels * column / tiles;
    const int y = lines.first_row(line), next = pixels * (column + 1) / tiles;
    conv_tile<In, T, Out>(s, bf16_filters, y, x, lines.pitch, next - x, panel, end);
  };
  // The work items are the panels of the tiles; several threads may share a tile.
  const std::int64_t all_tiles = lines.count * tiles;
  const auto [first, last] = partition(all_tiles * s.panels);
  if (!is_packed<In, T>(s) && filter_bytes<T>(s) > kCachedBytes) {
    // All tiles of a panel in turn, so that the filters are read once.
    for (std::int64_t item = first; item < last; ++item) {
      const int panel = item / all_tiles;
      multiply(item % all_tiles, panel, panel + 1);
    }
    return;
  }
  for (std::int64_t item = first; item < last;) {
    const int panel = item % s.panels;
    const int end = std::min<std::int64_t>(s.panels, panel + last - item);
    multiply(item / s.panels, panel, end);
    item += end - panel;
  }
}

// The panels [panel, end) of `pixels` output pixels from (y, x) on, in rows of `pitch` pixels.
template <class In, class T, class Out>
void InferenceWorker::conv_tile(const ConvStep& s, const Bf16* bf16_filters, int y, int x,
                                int pitch, int pixels, int panel, int end) {
  const Placement &in = placement(s.in), &out = placement(s.out);
  y += x / pitch, x %= pitch;
  auto* const unused = reinterpret_cast<Out*>(scratch_);  // instead of a pixel between two rows
  Out* dst[kMaxPixels];
  const Out* residual[kMaxPixels];
  for (int i = 0, row = y, column = x; i < pixels; ++i, ++column) {
    if (column == pitch) ++row, column = 0;
    const bool is_output = column < out.width;
    dst[i] = is_output ? pixel_ptr<Out>(s.out, row, column) : unused;
    if (!s.residual.valid()) continue;
    residual[i] = is_output ? pixel_ptr<Out>(s.residual, row, column) : unused;
  }
  ConvTile<T, Out> tile;
  tile.pixels = pixels;
  tile.dst = dst;
  tile.residual = s.residual.valid() ? residual : nullptr;
  tile.negative_slope = s.negative_slope;
  tile.add_last = s.add_last;
  tile.is_gelu = s.is_gelu;
  std::ptrdiff_t offsets[kMaxTaps];
  tile.segment_offsets = offsets;
  const T* src = nullptr;
  if (is_packed<In, T>(s)) {
    src = pack_tile<In, T>(s, y, x, offsets, &tile);
  } else if constexpr (std::is_same_v<In, T>) {
    const Segments segments = find_segments(s, in, s.panel_in, offsets);
    src = window_ptr<In>(s, y, x);
    tile.src_stride = std::ptrdiff_t{s.window.stride[1]} * in.pixel_stride;
    tile.segments = segments.count;
    tile.segment_length = round_up(segments.length, kProductInputs<T>);
  }
  const std::ptrdiff_t panel_size =
      std::ptrdiff_t{tile.segments} * tile.segment_length * kPanelWidth;
  for (; panel < end; ++panel) {
    const int channel = panel * s.panel_out;
    for (int i = 0; i < pixels; ++i) {
      // Prefetched while the sums are computed.
      for (int c = 0; c < s.panel_out; c += kCacheLineBytes / static_cast<int>(sizeof(Out))) {
        __builtin_prefetch(dst[i] + channel + c, 1);
      }
    }
    tile.src = src + std::ptrdiff_t{panel / s.panels_per_input} * s.panel_in_stride;
    const std::ptrdiff_t lane = std::ptrdiff_t{panel} * kPanelWidth;
    tile.bias = floats_ + s.bias + lane;
    tile.channel = channel;
    tile.channels = std::min(s.panel_out, s.out.channels - channel);
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      tile.weights = bytes_ + s.weight + panel * panel_size;
      tile.scale = floats_ + s.scale + lane;
      tile.residual_scale = floats_ + s.residual_scale + lane;
      tile.requant_scale = s.requant_scale < 0 ? nullptr : floats_ + s.requant_scale + lane;
      tile.requant_shift = floats_ + s.requant_shift + lane;
      inference_kernels().conv_u8s8(tile);
    } else if constexpr (std::is_same_v<T, Bf16>) {
      tile.weights = bf16_filters + panel * panel_size;
      const Bf16Kernels& k = *inference_kernels().bf16;
      if constexpr (std::is_same_v<Out, Bf16>) {
        k.conv(tile);
      } else {
        k.conv_to_f32(tile);
      }
    } else {
      tile.weights = floats_ + s.weight + panel * panel_size;
      inference_kernels().conv_f32(tile);
    }
  }
}

// The first input of the output pixel (y, x), which may be in the padding.
template <class In>
const In* InferenceWorker::window_ptr(const ConvStep& s, int y, int x) const {
  const Window& w = s.window;
  return pixel_ptr<In>(s.in, y * w.stride[0] - w.pad[0], x * w.stride[1] - w.pad[1]);
}

// Makes all inputs of each pixel of a tile contiguous, as numbers of type T.
template <class In, class T, class Tile>
const T* InferenceWorker::pack_tile(const ConvStep& s, int y, int x, std::ptrdiff_t* offsets,
                                    Tile* tile) {
  const Placement& in = placement(s.in);
  const int channels = s.panel_in_stride ? s.in.channels : s.panel_in;
  const Segments segments = find_segments(s, in, channels, offsets);
  const int length = round_up(segments.length, kProductInputs<T>);
  const int stride = packed_stride<T>(segments.count * length);
  T* const packed = reinterpret_cast<T*>(scratch_);
  // Of a pixel that is normalized in float32 before it is rounded.
  auto* const normalized = reinterpret_cast<float*>(packed + std::ptrdiff_t{stride} * tile->pixels);
  const int width = placement(s.out).width;
  for (int i = 0; i < tile->pixels; ++i, ++x) {
    if (x == width) ++y, x = 0;
    const In* const pixel = window_ptr<In>(s, y, x);
    pack_pixel(s, pixel, offsets, segments, packed + std::ptrdiff_t{i} * stride, normalized);
    // The next tile is fetched while this one is multiplied.
    if (s.window.taps() == 1) {
      const std::ptrdiff_t step = std::ptrdiff_t{s.window.stride[1]} * in.pixel_stride;
      prefetch_rows(pixel + tile->pixels * step, 0, 1, length);
    }
  }
  tile->src_stride = stride;
  if (s.panel_in_stride == 0) {
    offsets[0] = 0, tile->segments = 1, tile->segment_length = segments.count * length;
  } else {  // some channels of each tap
    tile->segments = s.window.taps(), tile->segment_length = s.panel_in;
    for (int k = 0; k < tile->segments; ++k) offsets[k] = std::ptrdiff_t{k} * channels;
  }
  return packed;
}

// Rounds a pixel's inputs to bfloat16; or normalizes them on the way into a 1x1 convolution, and
// rectifies them behind a batch normalization; or both.
template <class In, class T>
void InferenceWorker::pack_pixel(const ConvStep& s, const In* pixel, const std::ptrdiff_t* offsets,
                                 const Segments& segments, T* dst, float* normalized) {
  const InferenceKernels& k = inference_kernels();
  const int length = segments.length;
  const float* const scale = s.scale < 0 ? nullptr : floats_ + s.scale;
  const float* const shift = s.shift < 0 ? nullptr : floats_ + s.shift;
  if constexpr (std::is_same_v<In, std::uint8_t>) {
    k.bn_relu_u8(pixel, u8_ptr(s.xor_mask), u8_ptr(s.zero_point), dst, length);
  } else if constexpr (std::is_same_v<In, Bf16>) {
    k.bf16->affine(pixel, scale, shift, 0, dst, length);
  } else if constexpr (std::is_same_v<T, Bf16>) {
    if (s.has_layer_norm()) {
      k.layer_norm_f32(pixel, s.layer_norm_eps, nullptr, nullptr, normalized, length);
      pixel = normalized;
    }
    k.bf16->pack_f32(pixel, offsets, segments.count, length, scale, shift, dst);
  } else if (s.has_layer_norm()) {
    k.layer_norm_f32(pixel, s.layer_norm_eps, nullptr, nullptr, dst, length);
  } else {
    k.affine_f32(pixel, scale, shift, 0, dst, length);
  }
}

}  // namespace gluondense
