// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_residual_stage: MXNet's interface to ResidualStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "training/residual/residual_parameters.h"
#include "training/residual/residual_stage.h"
#include "training/stage_operator.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxBlocks = 1 << 12, kMaxChannels = 1 << 14;  // products and sums fit into an int

struct Traits {
  typedef ResidualStageConfig Config;
  typedef ResidualStageArrays Arrays;
  typedef ResidualStageParameters ParameterList;
  typedef ResidualStage Stage;
  static constexpr char kMessagePrefix[] = "gluondense residual stage: ";
  static Config parse(const Attributes& attributes);
  template <class Shape>
  static void set_input_shape(Config* config, const Shape& shape);
  static int out_channels(const Config& config) { return config.out_channels; }
};

// Parses the attributes. The input's shape is set later.
Traits::Config Traits::parse(const Attributes& attributes) {
  ResidualStageConfig config;
  config.stride = count_attribute(attributes, "stride", 2);
  config.expanded = count_attribute(attributes, "expanded", kMaxChannels);
  config.bypass = count_attribute(attributes, "bypass", kMaxChannels);
  config.blocks = count_attribute(attributes, "blocks", kMaxBlocks);
  config.bottleneck = count_attribute(attributes, "bottleneck", kMaxChannels);
  config.groups = count_attribute(attributes, "groups", kMaxChannels);
  config.out_channels = count_attribute(attributes, "out_channels", kMaxChannels);
  config.recompute_bottlenecks = count_attribute(attributes, "recompute", 1);
  config.slope = slope_attribute(attributes);
  config.eps = float_attribute(attributes, "eps");
  config.momentum = float_attribute(attributes, "momentum");
  config.bf16 = bf16_attribute(attributes);
  for (int count : {config.stride, config.expanded, config.bypass, config.blocks, config.bottleneck,
                    config.groups, config.out_channels}) {
    if (count < 1) {
      throw std::invalid_argument(
          "blocks, stride, groups and the numbers of channels must be positive");
    }
  }
  if (config.bypass >= config.expanded) {
    throw std::invalid_argument("bypass must be less than expanded");
  }
  if (config.bottleneck % config.groups) {
    throw std::invalid_argument("bottleneck must be a multiple of groups");
  }
  return config;
}

template <class Shape>
void Traits::set_input_shape(Config* config, const Shape& shape) {
  check_maps_shape(shape, kMaxChannels);
  const auto dim = [&](int axis) { return static_cast<int>(shape[axis]); };
  config->batch = dim(0), config->in_channels = dim(1);
  config->height = dim(2), config->width = dim(3);
  if (config->has_down() && config->in_channels % config->groups) {
    throw std::invalid_argument("the input's channels must be a multiple of groups");
  }
}

typedef StageOperator<Traits> ResidualStageOperator;

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_residual_stage)
    .setParseAttrs(ResidualStageOperator::parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(ResidualStageOperator::infer_shape)
    .setMutateInputs(ResidualStageOperator::mutable_inputs)
    .setCreateOpState(create<ResidualStageOperator>, "cpu");
