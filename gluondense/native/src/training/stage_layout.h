// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of a dense stage, in elements of feature maps of type T.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "memory.h"
#include "training/dense_stage.h"

namespace gluondense {

constexpr int kCacheLineFloats = kCacheLineBytes / static_cast<int>(sizeof(float));
constexpr int kMaxTilePixels = 32;  // >= the rows of a kernel of every instruction set
// Blocking of the filter gradients: sums stay in registers for this many pixels or tiles, and those
// of this many input channels stay in the L2 cache.
template <class T>
constexpr int kConv1x1GradPixels = 56 * kProductDepth<T>;
constexpr int kConv1x1GradChannels = 256;
constexpr int kConv3x3GradTiles = 56, kConv3x3GradChannels = 32;

inline int pad_to_cache_line(int channels) { return round_up(channels, kCacheLineFloats); }
inline int pad_to_panel(int channels) { return round_up(channels, kPanelWidth); }
inline int panel_count(int channels) { return div_up(channels, kPanelWidth); }

// The depth of a product of so many channels, with its padding.
template <class T>
constexpr int product_depth(int channels) {
  return round_up(channels, kProductDepth<T>);
}

template <class T>
struct StageLayout {
  explicit StageLayout(const DenseStageConfig& config);

  int map_stride, bottleneck_stride, growth_stride;  // from a pixel to the next
  int transition_stride;       // likewise of a two-way stage's transition, before its BN-ReLU
  std::ptrdiff_t strip_width;  // pixels of a row of tiles with its padding
  std::size_t map_sums, bottleneck_sums, transition_sums;  // doubles: one sum of each channel
  std::size_t thread_sums;                     // doubles of a thread: two sums of each channel
  std::size_t conv1x1_panels, conv3x3_panels;  // of one convolution's packed filters
  std::size_t filters;                         // of the packed filters of a layer
  std::size_t scratch;                         // bytes of a thread

  // Elements of a pixel of all bottlenecks, the transition's last, and of the widest.
  std::size_t bottlenecks(int layers) const {
    return std::size_t(layers) * bottleneck_stride + transition_stride;
  }
  std::size_t widest_bottleneck() const { return std::max(bottleneck_stride, transition_stride); }
};

// Divides a thread's scratch memory. Without memory, it only counts the bytes.
class ScratchAllocator {
 public:
  explicit ScratchAllocator(char* memory) : memory_(memory) {}
  std::size_t used() const { return used_; }

  template <class T>
  T* array(std::size_t rows, std::size_t stride) {
    char* const begin = memory_ ? memory_ + used_ : nullptr;
    used_ += round_up<std::size_t>(rows * stride * sizeof(T), kCacheLineBytes);
    return reinterpret_cast<T*>(begin);
  }

 private:
  char* const memory_;
  std::size_t used_ = 0;
};

// The scratch memory of each step. StageLayout computes the size with the same constructors.
template <class T>
struct RowsScratch {
  T* rows;
  RowsScratch(ScratchAllocator& memory, int stride)
      : rows(memory.array<T>(kMaxTilePixels, stride)) {}
};

template <class T>
struct Conv1x1Scratch {
  const int x_stride, y_stride;
  T* x;      // a tile's input, normalized
  float* y;  // its output
  Conv1x1Scratch(ScratchAllocator& memory, int in_channels, int out_channels)
      : x_stride(packed_stride<T>(in_channels)),
        y_stride(pad_to_cache_line(out_channels)),
        x(memory.array<T>(kMaxTilePixels, x_stride)),
        y(memory.array<float>(kMaxTilePixels, y_stride)) {}
};

template <class T>
struct Conv1x1GradScratch {
  static constexpr int kPixels = kConv1x1GradPixels<T>;
  const int x_stride, dy_stride;
  T *x, *dy;                  // (kPixels, stride)
  T *x_columns, *dy_columns;  // operands of gemm_tn; the same arrays where rows are such operands
  float* dx;                  // (kMaxTilePixels, kPanelWidth)
  Conv1x1GradScratch(ScratchAllocator& memory, int in_channels, int out_channels)
      : x_stride(packed_stride<T>(in_channels)),
        dy_stride(packed_stride<T>(out_channels)),
        x(memory.array<T>(kPixels, x_stride)),
        dy(memory.array<T>(kPixels, dy_stride)),
        x_columns(kProductDepth<T> == 1 ? x : memory.array<T>(kPixels, x_stride)),
        dy_columns(kProductDepth<T> == 1 ? dy : memory.array<T>(kPixels, dy_stride)),
        dx(memory.array<float>(kMaxTilePixels, kPanelWidth)) {}
};

struct Conv3x3Scratch {
  const int stride;
  float* strip;     // (6, strip width, stride)
  float* planes;    // (36, tiles, stride): the transformed input of up to max_tile_pixels tiles
  float* products;  // (36, tiles, kPanelWidth)
  float* tile;      // (16, kPanelWidth): an output tile
  Conv3x3Scratch(ScratchAllocator& memory, std::ptrdiff_t strip_width, int in_channels)
      : stride(pad_to_cache_line(in_channels)),
        strip(memory.array<float>(kWinogradInputTile * strip_width, stride)),
        planes(memory.array<float>(kWinogradPlanes * kMaxTilePixels, stride)),
        products(memory.array<float>(kWinogradPlanes * kMaxTilePixels, kPanelWidth)),
        tile(memory.array<float>(kWinogradOutputTile * kWinogradOutputTile, kPanelWidth)) {}
};

struct Conv3x3GradScratch {
  float *x_strip, *dy_strip;    // (6, strip width, channels)
  float *x_planes, *dy_planes;  // (36, tiles, channels)
  Conv3x3GradScratch(ScratchAllocator& memory, std::ptrdiff_t strip_width, int growth_stride)
      : x_strip(memory.array<float>(kWinogradInputTile * strip_width, kConv3x3GradChannels)),
        dy_strip(memory.array<float>(kWinogradInputTile * strip_width, growth_stride)),
        x_planes(memory.array<float>(kWinogradPlanes * kConv3x3GradTiles, kConv3x3GradChannels)),
        dy_planes(memory.array<float>(kWinogradPlanes * kConv3x3GradTiles, growth_stride)) {}
};

// Rows of an image with a pixel of zeros on all sides, for 3x3 convolutions without a transform.
struct DirectStrip {
  const int rows, stride;  // without the padding; from a pixel to the next
  const int row_pixels;    // with the padding
  Bf16* data;              // (rows + 2, row_pixels, stride)
  DirectStrip(ScratchAllocator& memory, int rows, int width, int channels)
      : rows(rows),
        stride(pad_to_cache_line(channels)),
        row_pixels(width + 2),
        data(memory.array<Bf16>(pixels(), stride)) {}
  int pixels() const { return (rows + 2) * row_pixels; }
};

// As many rows as stay in the L2 cache, as the rows around them are read twice.
inline int direct_strip_rows(int height, int width, int channels) {
  constexpr int kElements = 1 << 16, kMinRows = 4;
  const int rows = kElements / ((width + 2) * pad_to_cache_line(channels)) - 2;
  return std::min(height, std::max(kMinRows, rows));
}

struct DirectGradScratch {
  const DirectStrip x, dy;
  Bf16 *even, *odd, *dy_columns;  // operands of gemm_tn: pairs of pixels, from the second for `odd`
  DirectGradScratch(ScratchAllocator& memory, int rows, int width, int in_channels,
                    int out_channels)
      : x(memory, rows, width, in_channels),
        dy(memory, rows, width, out_channels),
        even(memory.array<Bf16>(x.pixels() + 1, x.stride)),
        odd(memory.array<Bf16>(x.pixels() + 1, x.stride)),
        dy_columns(memory.array<Bf16>(dy.pixels() + 1, dy.stride)) {}
};

// Whether products of bfloat16 are faster than the quarter of them that Winograd's algorithm needs,
// in float32.
inline bool has_direct_conv3x3() {
  const Bf16Kernels* const bf16 = inference_kernels().bf16;
  return bf16 && bf16->speedup > 4;
}

template <class Scratch, class... Args>
std::size_t bytes_of(Args... args) {
  ScratchAllocator counter(nullptr);
  Scratch(counter, args...);
  return counter.used();
}

template <class T>
StageLayout<T>::StageLayout(const DenseStageConfig& c)
    : map_stride(packed_stride<T>(c.buffer_channels())),
      bottleneck_stride(pad_to_cache_line(c.bottleneck)),
      growth_stride(pad_to_cache_line(c.growth_rate + c.inner_channels())),
      transition_stride(c.kind == DenseStageConfig::kTwoWay ? pad_to_cache_line(c.out_channels)
                                                            : 0),
      strip_width(round_up(c.width, kWinogradOutputTile) + kWinogradInputTile -
                  kWinogradOutputTile),
      map_sums(pad_to_cache_line(c.buffer_channels())),
      bottleneck_sums(bottleneck_stride),
      transition_sums(transition_stride) {
  constexpr std::size_t kLine = kCacheLineBytes / sizeof(double);
  // The sums of two threads share no cache line.
  thread_sums =
      round_up(2 * (map_sums + c.layers * bottleneck_sums + transition_sums), kLine) + kLine;
  const int total = c.total_channels();
  const int conv3x3_channels = c.kind == DenseStageConfig::kTwoWay
                                   ? std::max(c.branch_bottleneck(), c.inner_channels())
                                   : c.conv3x3_in_channels(c.layers);
  const std::size_t widest = pad_to_panel(std::max({total, c.bottleneck, c.out_channels}));
  conv1x1_panels = widest * pad_to_panel(std::max(c.bottleneck, c.out_channels));
  conv3x3_panels = c.layers ? static_cast<std::size_t>(kWinogradPlanes) *
                                  pad_to_panel(conv3x3_channels) * pad_to_panel(c.growth_rate)
                            : 0;
  filters = conv1x1_panels + c.convs3x3() * conv3x3_panels;
  scratch = std::max({bytes_of<RowsScratch<float>>(std::max(map_stride, transition_stride)),
                      bytes_of<Conv1x1Scratch<T>>(total, c.out_channels),
                      bytes_of<Conv1x1GradScratch<T>>(kConv1x1GradChannels,
                                                      std::max(c.bottleneck, c.out_channels)),
                      bytes_of<Conv1x1GradScratch<T>>(total, c.out_channels),
                      bytes_of<Conv3x3Scratch>(strip_width, conv3x3_channels),
                      bytes_of<Conv3x3Scratch>(strip_width, c.growth_rate),
                      bytes_of<Conv3x3GradScratch>(strip_width, growth_stride)});
  if (std::is_same_v<T, Bf16> && has_direct_conv3x3() && c.layers) {
    const auto rows = [&](int channels) { return direct_strip_rows(c.height, c.width, channels); };
    for (const int channels : {conv3x3_channels, c.growth_rate}) {
      scratch = std::max(scratch, bytes_of<DirectGradScratch>(rows(channels), c.width, channels,
                                                              conv3x3_channels));
    }
  }
  scratch += kOverreadBytes;
}

}  // namespace gluondense
