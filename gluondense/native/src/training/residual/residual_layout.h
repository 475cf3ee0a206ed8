// SPDX-License-Identifier: Apache-2.0
// Sizes, strides and scratch memory of a residual stage, in elements of feature maps of type T.
#pragma once

#include <algorithm>
#include <cstddef>

#include "training/norm_conv/norm_conv_layout.h"
#include "training/residual/residual_stage.h"

namespace gluondense {

template <class T>
struct ResidualStageLayout : NormConvLayout {
  explicit ResidualStageLayout(const ResidualStageConfig& config);

  // From a pixel to the next: of the input and `down`, of x0, of a block's input, of a and b, and
  // of the output.
  int in_stride, expanded_stride, block_stride, bottleneck_stride, out_stride;
  // Offsets in the buffer of the maps that are always saved, and its elements.
  std::size_t down, expanded, block_outputs, partial, output, maps;
  std::size_t block_output;       // elements of one block's output
  std::size_t a, c, bottlenecks;  // elements of a or b, of c, and of the three of a block
  // Places in the statistics. The first channels are those that are not normalized: their scale is
  // 1, their shift is 0.
  int identity = 0, down_statistics, expanded_statistics, block_statistics, partial_statistics,
      out_statistics;
  std::size_t conv1x1_panels, grouped_panels;  // packed filters of one convolution
  std::size_t filters;                         // of their gradients, of a thread

  // Places in the statistics of a block's convolutions.
  int statistics_of_block(const ResidualStageConfig& c, int block) const {
    return block_statistics + block * (2 * c.bottleneck + c.block_channels());
  }
};

template <class T>
ResidualStageLayout<T>::ResidualStageLayout(const ResidualStageConfig& config)
    : in_stride(packed_stride<T>(config.in_channels)),
      expanded_stride(packed_stride<T>(config.expanded)),
      block_stride(packed_stride<T>(config.block_channels())),
      bottleneck_stride(packed_stride<T>(config.bottleneck)),
      out_stride(packed_stride<T>(config.out_channels)) {
  const std::size_t pixels = config.out_pixels();
  block_output = pixels * block_stride;
  down = config.pixels() * in_stride;
  expanded = down + (config.has_down() ? pixels * in_stride : 0);
  block_outputs = expanded + pixels * expanded_stride;
  partial = block_outputs + config.blocks * block_output;
  output = partial + pixels * block_stride;
  maps = output + pixels * out_stride;
  a = pixels * bottleneck_stride;
  c = block_output;
  bottlenecks = 2 * a + c;
  down_statistics = std::max(config.in_channels, config.block_channels());
  expanded_statistics = down_statistics + (config.has_down() ? config.in_channels : 0);
  block_statistics = expanded_statistics + config.expanded;
  partial_statistics = statistics_of_block(config, config.blocks);
  out_statistics = partial_statistics + config.block_channels();
  statistics = out_statistics + config.out_channels;
  const int widest_in = std::max({config.in_channels, config.expanded, config.bottleneck});
  const int widest_out = std::max({config.expanded, config.bottleneck, config.out_channels});
  // Two parts of an input have their own panels.
  conv1x1_panels = std::size_t(pad_to_panel(widest_in) + kPanelWidth) * pad_to_panel(widest_out);
  const GroupedConv first = config.has_down() ? config.down() : config.conv_b();
  grouped_panels = std::max(config.conv_b().panel_floats(), first.panel_floats());
  filters = std::max(conv1x1_panels, grouped_panels);
  scratch = std::max({bytes_of<RowsScratch<float>>(
                          std::max({in_stride, block_stride, out_stride, expanded_stride})),
                      bytes_of<PanelScratch<T>>(widest_in, 0),
                      bytes_of<Conv1x1GradScratch<T>>(kConv1x1GradChannels, widest_out),
                      grouped_scratch<T>(config.conv_b()), grouped_scratch<T>(first)}) +
            kOverreadBytes;
}

}  // namespace gluondense
