// SPDX-License-Identifier: Apache-2.0
// The parameters of a residual stage, in the order of the operator's inputs.
#pragma once

#include "training/residual/residual_stage.h"
#include "training/stage_parameters.h"

namespace gluondense {

class ResidualStageParameters : public Parameters {
 public:
  ResidualStageParameters(const ResidualStageConfig& config, ResidualStageArrays* arrays) {
    const int channels = config.block_channels(), bottleneck = config.bottleneck;
    if (config.has_down()) {
      const int filter_channels = config.in_channels / config.groups;
      add_unit(&arrays->down, config.in_channels, filter_channels, 3);
    }
    add_unit(&arrays->expand, config.expanded, config.in_channels, 1);
    arrays->blocks.resize(config.blocks);
    for (ResidualStageArrays::Block& block : arrays->blocks) {
      add_unit(&block.a, bottleneck, channels, 1);
      add_unit(&block.b, bottleneck, bottleneck / config.groups, 3);
      add_unit(&block.c, channels, bottleneck, 1);
    }
    add_unit(&arrays->partial_transition, channels, channels, 1);
    add_unit(&arrays->transition, config.out_channels, config.expanded, 1);
  }

 private:
  void add_unit(ConvBnArrays* unit, int out_channels, int filter_channels, int kernel) {
    add(&unit->conv, out_channels, filter_channels, kernel);
    add(&unit->bn, out_channels);
  }
};

}  // namespace gluondense
