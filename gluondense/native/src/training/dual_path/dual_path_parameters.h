// SPDX-License-Identifier: Apache-2.0
// The parameters of a dual-path stage, in the order of the operator's inputs.
#pragma once

#include "training/dual_path/dual_path_stage.h"
#include "training/stage_parameters.h"

namespace gluondense {

class DualPathParameters : public Parameters {
 public:
  DualPathParameters(const DualPathConfig& config, DualPathArrays* arrays) {
    const int bottleneck = config.bottleneck;
    add_unit(&arrays->projection, config.projected(), config.in_channels, config.in_channels, 1);
    arrays->blocks.resize(config.blocks);
    for (int i = 0; i < config.blocks; ++i) {
      DualPathArrays::Block& block = arrays->blocks[i];
      const int in_channels = config.block_in_channels(i);
      add_unit(&block.a, bottleneck, in_channels, in_channels, 1);
      add_unit(&block.b, bottleneck, bottleneck, config.bottleneck / config.groups, 3);
      add_unit(&block.c, config.block_channels(), bottleneck, bottleneck, 1);
    }
  }

 private:
  // BN-ReLU-Conv; a filter has `filter_channels`.
  void add_unit(ConvBnArrays* unit, int out_channels, int in_channels, int filter_channels,
                int kernel) {
    add(&unit->bn, in_channels);
    add(&unit->conv, out_channels, filter_channels, kernel);
  }
};

}  // namespace gluondense
