// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_dense_stage: MXNet's interface to DenseStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "training/dense_stage.h"
#include "training/stage_operator.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxLayers = 1 << 12, kMaxChannels = 1 << 16;  // products and sums fit into an int

struct Traits {
  typedef DenseStageConfig Config;
  typedef DenseStageArrays Arrays;
  typedef gluondense::ParameterList ParameterList;
  typedef DenseStage Stage;
  static constexpr char kMessagePrefix[] = "gluondense dense stage: ";
  static Config parse(const Attributes& attributes);
  template <class Shape>
  static void set_input_shape(Config* config, const Shape& shape);
  static int out_channels(const Config& config) { return config.image_out_channels(); }
};

DenseStageConfig::LayerKind parse_layer_kind(const std::string& word) {
  if (word == "pre_activation") return DenseStageConfig::kPreActivation;
  if (word == "two_way") return DenseStageConfig::kTwoWay;
  throw std::invalid_argument("layer must be pre_activation or two_way, not " + word);
}

DenseStageConfig::Tail parse_tail(const std::string& word) {
  if (word == "maps") return DenseStageConfig::kFeatures;
  if (word == "norm") return DenseStageConfig::kBnRelu;
  if (word == "conv") return DenseStageConfig::kTransition;
  throw std::invalid_argument("tail must be maps, norm or conv, not " + word);
}

void check_two_way(const DenseStageConfig& config) {
  if (config.tail == DenseStageConfig::kBnRelu) {
    throw std::invalid_argument("tail must be maps or conv for layer=two_way");
  }
  if (config.bottleneck < 2 || config.bottleneck % 2 || config.growth_rate < 2) {
    throw std::invalid_argument(
        "layer=two_way needs a growth of at least 2, and a middle that is even and positive");
  }
}

// Parses the attributes. The input's shape is set later.
Traits::Config Traits::parse(const Attributes& attributes) {
  DenseStageConfig config;
  config.kind = parse_layer_kind(attribute(attributes, "layer"));
  config.layers = count_attribute(attributes, "layers", kMaxLayers);
  config.growth_rate = count_attribute(attributes, "growth", kMaxChannels);
  config.bottleneck = count_attribute(attributes, "middle", kMaxChannels);
  config.out_channels = count_attribute(attributes, "out_channels", kMaxChannels);
  config.pool = count_attribute(attributes, "pool", 1);
  config.bypass = count_attribute(attributes, "bypass", kMaxChannels);
  config.recompute_bottleneck = count_attribute(attributes, "recompute", 1);
  config.eps = float_attribute(attributes, "eps");
  config.momentum = float_attribute(attributes, "momentum");
  config.tail = parse_tail(attribute(attributes, "tail"));
  config.bf16 = bf16_attribute(attributes);
  const bool transition = config.tail == DenseStageConfig::kTransition;
  if (transition != (config.out_channels > 0) || (config.pool && !transition)) {
    throw std::invalid_argument("out_channels must be positive for tail=conv, else 0, as pool");
  }
  if (config.kind == DenseStageConfig::kTwoWay) check_two_way(config);
  return config;
}

template <class Shape>
void Traits::set_input_shape(Config* config, const Shape& shape) {
  check_maps_shape(shape, kMaxChannels);
  const auto dim = [&](int axis) { return static_cast<int>(shape[axis]); };
  if (dim(1) <= config->bypass) {
    throw std::invalid_argument(
        "the input must have more channels than bypass=" + std::to_string(config->bypass) +
        ", not " + std::to_string(shape[1]));
  }
  config->batch = dim(0), config->in_channels = dim(1) - config->bypass;
  config->height = dim(2), config->width = dim(3);
}

typedef StageOperator<Traits> DenseStageOperator;

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_dense_stage)
    .setParseAttrs(DenseStageOperator::parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(DenseStageOperator::infer_shape)
    .setMutateInputs(DenseStageOperator::mutable_inputs)
    .setCreateOpState(create<DenseStageOperator>, "cpu");
