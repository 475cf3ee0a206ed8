// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of convolutions that normalize their input while they read it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "training/stage_layout.h"

namespace gluondense {

// Pixels of a block of a 1x1 convolution: each panel of filters is read once for all of them.
constexpr int kPanelPixels = 4 * kMaxTilePixels;
// A grouped convolution's unit of work: about so many channels, and so many bytes of padded rows.
// Input, output and their gradients then fit into the L2 cache together.
constexpr int kGroupedChunk = 64;
constexpr std::size_t kGroupedStripBytes = 192 << 10;

// A 3x3 convolution with padding 1 whose groups have as many outputs as inputs.
struct GroupedConv {
  int batch, channels, groups;
  int stride, height, width;  // of the input

  int out_height() const { return (height - 1) / stride + 1; }
  int out_width() const { return (width - 1) / stride + 1; }
  int group_channels() const { return channels / groups; }
  // Floats of packed filters or of their gradients. At most half of the lanes of a vector are
  // padding.
  std::size_t panel_floats() const {
    return std::max(direct_filter_floats(),
                    std::size_t{9} * group_channels() *
                        (2 * channels + std::size_t(kGroupedMaxLanes) * groups));
  }
  // Of a convolution of panels, of which the packed filters have half a float each.
  std::size_t direct_filter_floats() const;
};

// Whole groups as one convolution of at most kPanelWidth channels, whose filters are zero outside
// of the groups: with AMX, such products are faster than those of the groups in float32.
struct GroupedPanels {
  int width, count;  // channels of a panel; panels

  explicit GroupedPanels(const GroupedConv& conv)
      : width(kPanelWidth / conv.group_channels() * conv.group_channels()),
        count(width ? div_up(conv.channels, width) : 0) {}
};

inline std::size_t GroupedConv::direct_filter_floats() const {
  return std::size_t{9} * GroupedPanels(*this).count * kPanelWidth * kPanelWidth;
}

template <class T>
bool is_direct(const GroupedConv& conv) {
  return std::is_same_v<T, Bf16> && has_direct_conv3x3() && conv.group_channels() <= kPanelWidth;
}

// Rows of the input in a strip: about 32 KB, and an even number.
inline int direct_grouped_rows(const GroupedConv& conv) {
  constexpr int kStripBytes = 32 << 10;
  const int row_bytes = (conv.width + 2) * kPanelWidth * static_cast<int>(sizeof(Bf16));
  return std::min(std::max(2, kStripBytes / row_bytes / 2 * 2), round_up(conv.height, 2));
}

// Rows and channels that a grouped 3x3 convolution processes at a time.
struct GroupedBlocking {
  int chunk, chunks;      // channels: whole groups
  int bands, rows;        // of the output: bands of an image, and the most rows of one
  int in_rows, in_width;  // of a band's padded input
  int out_width;          // of the output with its padding
  int stride;             // floats from a pixel to the next

  explicit GroupedBlocking(const GroupedConv& conv) {
    const int group = conv.group_channels();
    chunk = std::min(conv.channels, std::max(1, kGroupedChunk / group) * group);
    chunks = div_up(conv.channels, chunk);
    stride = packed_stride<float>(chunk + kGroupedMaxLanes - 1);  // whole vectors are written
    in_width = conv.width + 2;
    out_width = conv.out_width() + 2;
    const std::size_t row_bytes = std::size_t(in_width) * stride * sizeof(float);
    const int strip_rows = static_cast<int>(kGroupedStripBytes / row_bytes);
    bands = div_up(conv.out_height(), std::max(1, (strip_rows - 3) / conv.stride + 1));
    rows = div_up(conv.out_height(), bands);
    in_rows = conv.stride * (rows - 1) + 3;
  }
};

// Places in the statistics and sums, which have one number for each channel of all maps, and the
// size of the scratch memory.
struct NormConvLayout {
  int statistics = 0;
  std::size_t scratch = 0;  // bytes of a thread

  // Doubles of a thread: two sums of each channel. The sums of two threads share no cache line.
  std::size_t thread_sums() const {
    constexpr std::size_t kLine = kCacheLineBytes / sizeof(double);
    return round_up<std::size_t>(2 * statistics, kLine) + kLine;
  }
};

// The scratch memory of each step.
template <class T>
struct PanelScratch {
  const int x_stride, y_stride;
  T* x;      // a block's input, normalized
  float* y;  // its output
  PanelScratch(ScratchAllocator& memory, int in_channels, int out_channels)
      : x_stride(packed_stride<T>(in_channels + kCacheLineFloats)),
        y_stride(pad_to_cache_line(out_channels)),
        x(memory.array<T>(kPanelPixels, x_stride)),
        y(memory.array<float>(kPanelPixels, y_stride)) {}
};

struct DirectGroupedScratch {
  const std::size_t size;  // elements of each
  Bf16 *x, *dy;            // (rows + 4, width + 2, kPanelWidth)
  Bf16 *even, *odd;        // columns of x, and of x without its first pixel
  Bf16* dy_columns;
  DirectGroupedScratch(ScratchAllocator& memory, const GroupedConv& conv)
      : size(std::size_t(direct_grouped_rows(conv) + 4) * (conv.width + 2) * kPanelWidth) {
    for (Bf16** array : {&x, &dy, &even, &odd, &dy_columns}) *array = memory.array<Bf16>(size, 1);
  }
};

template <class T>
struct GroupedScratch {
  float* x;          // (in_rows, in_width, stride): the padded input
  float* dy;         // (rows + 2, out_width, stride): the padded gradient of the output
  float* spread_dy;  // (rows + 1, in_width, stride): with zeros between its pixels, for stride 2
  float* y;          // a band of the output or of the input's gradient
  T* row;            // (in_width, stride)
  GroupedScratch(ScratchAllocator& memory, const GroupedBlocking& g)
      : x(memory.array<float>(g.in_rows * g.in_width, g.stride)),
        dy(memory.array<float>((g.rows + 2) * g.out_width, g.stride)),
        spread_dy(memory.array<float>((g.rows + 1) * g.in_width, g.stride)),
        y(memory.array<float>(g.in_rows * g.in_width, g.stride)),
        row(memory.array<T>(g.in_width, g.stride)) {}
};

// Bytes of a thread's scratch memory for a convolution.
template <class T>
std::size_t grouped_scratch(const GroupedConv& conv) {
  return is_direct<T>(conv) ? bytes_of<DirectGroupedScratch>(conv)
                            : bytes_of<GroupedScratch<T>>(GroupedBlocking(conv));
}

}  // namespace gluondense
