// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of a dual-path stage, in elements of feature maps of type T.
#pragma once

#include <algorithm>
#include <cstddef>

#include "training/dual_path/dual_path_stage.h"
#include "training/norm_conv/norm_conv_layout.h"

namespace gluondense {

template <class T>
struct DualPathLayout : NormConvLayout {
  explicit DualPathLayout(const DualPathConfig& config);

  int in_stride, dense_stride, residual_stride, bottleneck_stride;  // from a pixel to the next
  int out_stride;             // of the gradient of a block's output, or of the projection's
  std::size_t bottlenecks;    // elements of the two bottlenecks of all blocks
  std::size_t first_a, a, b;  // elements of the first block's a, and of the others' a and b
  // Places in the statistics and sums.
  int input_statistics = 0, dense_statistics, residual_statistics, bottleneck_statistics;
  // Packed filters: of 1x1 convolutions from and to the bottleneck, and of the grouped one.
  std::size_t in_panels, out_panels, grouped_panels;
  std::size_t filters;  // of the gradients of a block's filters, of a thread
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
      bottleneck_statistics(residual_statistics + c.blocks * c.residual) {
  statistics = bottleneck_statistics + 2 * c.blocks * c.bottleneck;
  first_a = c.pixels() * bottleneck_stride;
  a = b = c.out_pixels() * bottleneck_stride;
  bottlenecks = first_a + b + (c.blocks - 1) * (a + b);
  const int widest_in = std::max(c.in_channels, c.block_in_channels(c.blocks - 1));
  // Two parts of an input have their own panels.
  const std::size_t in = pad_to_panel(widest_in) + kPanelWidth;
  const std::size_t out = pad_to_panel(std::max(c.bottleneck, c.projected()));
  in_panels = in * out;
  out_panels = std::size_t(pad_to_panel(c.bottleneck)) * pad_to_panel(c.projected());
  grouped_panels = c.conv_b(1).panel_floats();
  filters = in_panels + out_panels + grouped_panels;
  const int widest_out = std::max(c.bottleneck, c.projected());
  scratch = std::max({bytes_of<RowsScratch<float>>(std::max(in_stride, dense_stride)),
                      bytes_of<PanelScratch<T>>(std::max(widest_in, c.bottleneck), widest_out),
                      bytes_of<Conv1x1GradScratch<T>>(kConv1x1GradChannels, widest_out),
                      grouped_scratch<T>(c.conv_b(1)), grouped_scratch<T>(c.conv_b(0))}) +
            kOverreadBytes;
}

}  // namespace gluondense
