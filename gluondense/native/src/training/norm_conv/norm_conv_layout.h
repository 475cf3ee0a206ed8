// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of convolutions that normalize their input while they read it.
#pragma once

#include <algorithm>
#include <cstddef>

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
  // Floats of packed filters. At most half of the lanes of a vector are padding.
  std::size_t panel_floats() const {
    return std::size_t{9} * group_channels() *
           (2 * channels + std::size_t(kGroupedMaxLanes) * groups);
  }
};

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

}  // namespace gluondense
