// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of a dual-path stage, in elements of feature maps of type T.
#pragma once

#include <algorithm>
#include <cstddef>

#include "training/dual_path/dual_path_stage.h"
#include "training/stage_layout.h"

namespace gluondense {

// Pixels of a block of a 1x1 convolution: each panel of filters is read once for all of them.
constexpr int kPanelPixels = 4 * kMaxTilePixels;
// A grouped convolution's unit of work: about so many channels, and so many bytes of padded rows.
// Input, output and their gradients then fit into the L2 cache together.
constexpr int kGroupedChunk = 64;
constexpr std::size_t kGroupedStripBytes = 192 << 10;

// Rows and channels that a grouped 3x3 convolution processes at a time.
struct GroupedBlocking {
  int chunk, chunks;      // channels: whole groups
  int bands, rows;        // of the output: bands of an image, and the most rows of one
  int in_rows, in_width;  // of a band's padded input
  int out_width;          // of the output with its padding
  int stride;             // floats from a pixel to the next

  GroupedBlocking(const DualPathConfig& c, int conv_stride) {
    const int group = c.group_channels(), width = conv_stride == 1 ? c.out_width() : c.width;
    chunk = std::min(c.bottleneck, std::max(1, kGroupedChunk / group) * group);
    chunks = div_up(c.bottleneck, chunk);
    stride = packed_stride<float>(chunk + kGroupedMaxLanes - 1);  // whole vectors are written
    in_width = width + 2;
    out_width = c.out_width() + 2;
    const std::size_t row_bytes = std::size_t(in_width) * stride * sizeof(float);
    const int strip_rows = static_cast<int>(kGroupedStripBytes / row_bytes);
    bands = div_up(c.out_height(), std::max(1, (strip_rows - 3) / conv_stride + 1));
    rows = div_up(c.out_height(), bands);
    in_rows = conv_stride * (rows - 1) + 3;
  }
};

template <class T>
struct DualPathLayout {
  explicit DualPathLayout(const DualPathConfig& config);

  int in_stride, dense_stride, residual_stride, bottleneck_stride;  // from a pixel to the next
  int out_stride;             // of the gradient of a block's output, or of the projection's
  std::size_t bottlenecks;    // elements of the two bottlenecks of all blocks
  std::size_t first_a, a, b;  // elements of the first block's a, and of the others' a and b
  // Places in the statistics and sums, which have one number for each channel of all maps.
  int input_statistics = 0, dense_statistics, residual_statistics, bottleneck_statistics;
  int statistics;
  std::size_t thread_sums;  // doubles of a thread: two sums of each channel
  // Packed filters: of 1x1 convolutions from and to the bottleneck, and of the grouped one.
  std::size_t in_panels, out_panels, grouped_panels;
  std::size_t filters;  // of the gradients of a block's filters, of a thread
  std::size_t scratch;  // bytes of a thread
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

template <class T>
DualPathLayout<T>::DualPathLayout(const DualPathConfig& c)
    : in_stride(packed_stride<T>(c.in_channels)),
      dense_stride(packed_stride<T>(c.dense_channels())),
      residual_stride(packed_stride<T>(c.residual)),
      bottleneck_stride(packed_stride<T>(c.bottleneck)),
      out_stride(packed_stride<T>(c.projected())),
      dense_statistics(c.in_channels),
      residual_statistics(dense_statistics + c.dense_channels()),
      bottleneck_statistics(residual_statistics + c.blocks * c.residual),
      statistics(bottleneck_statistics + 2 * c.blocks * c.bottleneck) {
  first_a = c.pixels() * bottleneck_stride;
  a = b = c.out_pixels() * bottleneck_stride;
  bottlenecks = first_a + b + (c.blocks - 1) * (a + b);
  constexpr std::size_t kLine = kCacheLineBytes / sizeof(double);
  // The sums of two threads share no cache line.
  thread_sums = round_up<std::size_t>(2 * statistics, kLine) + kLine;
  const int widest_in = std::max(c.in_channels, c.block_in_channels(c.blocks - 1));
  // Two parts of an input have their own panels.
  const std::size_t in = pad_to_panel(widest_in) + kPanelWidth;
  const std::size_t out = pad_to_panel(std::max(c.bottleneck, c.projected()));
  in_panels = in * out;
  out_panels = std::size_t(pad_to_panel(c.bottleneck)) * pad_to_panel(c.projected());
  // At most half of the lanes of a vector are padding.
  grouped_panels = std::size_t{9} * c.group_channels() *
                   (2 * c.bottleneck + std::size_t(kGroupedMaxLanes) * c.groups);
  filters = in_panels + out_panels + grouped_panels;
  const int widest_out = std::max(c.bottleneck, c.projected());
  scratch = std::max({bytes_of<RowsScratch<float>>(std::max(in_stride, dense_stride)),
                      bytes_of<PanelScratch<T>>(std::max(widest_in, c.bottleneck), widest_out),
                      bytes_of<Conv1x1GradScratch<T>>(kConv1x1GradChannels, widest_out),
                      bytes_of<GroupedScratch<T>>(GroupedBlocking(c, 1)),
                      bytes_of<GroupedScratch<T>>(GroupedBlocking(c, c.stride))}) +
            kOverreadBytes;
}

}  // namespace gluondense
