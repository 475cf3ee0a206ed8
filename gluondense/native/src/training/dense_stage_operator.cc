// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_dense_stage: MXNet's interface to DenseStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "mxnet_operator.h"
#include "training/dense_stage.h"
#include "training/stage_parameters.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxLayers = 1 << 12, kMaxChannels = 1 << 16;  // products and sums fit into an int

constexpr char kMessagePrefix[] = "gluondense dense stage: ";

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
DenseStageConfig parse_config(const Attributes& attributes) {
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
void set_input_shape(DenseStageConfig* config, const Shape& shape) {
  if (shape.size() != 4) {
    throw std::invalid_argument("the input must be (N, C, H, W), not of " +
                                std::to_string(shape.size()) + " dimensions");
  }
  const auto dim = [&](int axis) { return static_cast<int>(checked_dim(shape[axis])); };
  if (shape[1] > kMaxChannels) {
    throw std::invalid_argument("the input must have at most " + std::to_string(kMaxChannels) +
                                " channels, not " + std::to_string(shape[1]));
  }
  if (dim(1) <= config->bypass) {
    throw std::invalid_argument(
        "the input must have more channels than bypass=" + std::to_string(config->bypass) +
        ", not " + std::to_string(shape[1]));
  }
  config->batch = dim(0), config->in_channels = dim(1) - config->bypass;
  config->height = dim(2), config->width = dim(3);
}

// Returns the arrays of MXNet's tensors, starting with tensor `next`.
DenseStageArrays bind_arrays(const DenseStageConfig& config, std::vector<MXTensor>* tensors,
                             std::size_t next) {
  DenseStageArrays arrays;
  for (const Parameter& parameter : ParameterList(config, &arrays)) {
    *parameter.array = tensors->at(next++).data<float>();
  }
  return arrays;
}

MXReturnValue parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded(kMessagePrefix, [&] {
    DenseStageArrays arrays;
    *inputs = 1 + ParameterList(parse_config(attributes), &arrays).size();
    *outputs = 1;
  });
}

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded(kMessagePrefix, [&] {
    DenseStageConfig config = parse_config(attributes);
    set_input_shape(&config, in->at(0));
    DenseStageArrays arrays;
    std::size_t next = 1;
    for (const Parameter& parameter : ParameterList(config, &arrays)) {
      in->at(next++) = parameter.shape;
    }
    out->at(0) = {checked_dim(config.batch), checked_dim(config.image_out_channels()),
                  checked_dim(config.out_height()), checked_dim(config.out_width())};
  });
}

MXReturnValue mutable_inputs(const Attributes& attributes, std::vector<int>* indices) {
  return guarded(kMessagePrefix, [&] {
    DenseStageArrays arrays;
    int index = 0;
    for (const Parameter& parameter : ParameterList(parse_config(attributes), &arrays)) {
      ++index;  // input 0 is the stage's
      if (parameter.is_statistic) indices->push_back(index);
    }
  });
}

class DenseStageOperator : public CustomStatefulOp {
 public:
  static constexpr const char* kMessagePrefix = gluondense::kMessagePrefix;

  explicit DenseStageOperator(const Attributes& attributes) : config_(parse_config(attributes)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      set_input_shape(&config_, inputs->at(0).shape);
      stage_.forward(config_, inputs->at(0).data<float>(), bind_arrays(config_, inputs, 1),
                     outputs->at(0).data<float>());
    });
  }

  // Inputs: the gradient of the output, all inputs, the output.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      stage_.backward(inputs->at(0).data<float>(), bind_arrays(config_, inputs, 2),
                      outputs->at(0).data<float>(), bind_arrays(config_, outputs, 1));
    });
  }

 private:
  DenseStageConfig config_;
  DenseStage stage_;
};

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_dense_stage)
    .setParseAttrs(parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(infer_shape)
    .setMutateInputs(mutable_inputs)
    .setCreateOpState(create<DenseStageOperator>, "cpu");
