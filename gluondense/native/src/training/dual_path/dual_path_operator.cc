// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_dual_path_stage: MXNet's interface to DualPathStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "training/dual_path/dual_path_parameters.h"
#include "training/dual_path/dual_path_stage.h"
#include "training/stage_operator.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxBlocks = 1 << 12, kMaxChannels = 1 << 14;  // products and sums fit into an int

struct Traits {
  typedef DualPathConfig Config;
  typedef DualPathArrays Arrays;
  typedef DualPathParameters ParameterList;
  typedef DualPathStage Stage;
  static constexpr char kMessagePrefix[] = "gluondense dual-path stage: ";
  static Config parse(const Attributes& attributes);
  template <class Shape>
  static void set_input_shape(Config* config, const Shape& shape);
  static int out_channels(const Config& config) { return config.out_channels(); }
};

// Parses the attributes. The input's shape is set later.
Traits::Config Traits::parse(const Attributes& attributes) {
  DualPathConfig config;
  config.blocks = count_attribute(attributes, "blocks", kMaxBlocks);
  config.stride = count_attribute(attributes, "stride", 2);
  config.bottleneck = count_attribute(attributes, "bottleneck", kMaxChannels);
  config.groups = count_attribute(attributes, "groups", kMaxChannels);
  config.residual = count_attribute(attributes, "residual", kMaxChannels);
  config.increment = count_attribute(attributes, "increment", kMaxChannels);
  config.recompute_bottlenecks = count_attribute(attributes, "recompute", 1);
  config.eps = float_attribute(attributes, "eps");
  config.momentum = float_attribute(attributes, "momentum");
  config.bf16 = bf16_attribute(attributes);
  for (int count : {config.blocks, config.stride, config.bottleneck, config.groups, config.residual,
                    config.increment}) {
    if (count < 1) {
      throw std::invalid_argument(
          "blocks, stride, groups and the numbers of channels must be positive");
    }
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
}

typedef StageOperator<Traits> DualPathOperator;

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_dual_path_stage)
    .setParseAttrs(DualPathOperator::parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(DualPathOperator::infer_shape)
    .setMutateInputs(DualPathOperator::mutable_inputs)
    .setCreateOpState(create<DualPathOperator>, "cpu");
