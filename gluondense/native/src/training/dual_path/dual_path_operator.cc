// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_dual_path_stage: MXNet's interface to DualPathStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "mxnet_operator.h"
#include "training/dual_path/dual_path_parameters.h"
#include "training/dual_path/dual_path_stage.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxBlocks = 1 << 12, kMaxChannels = 1 << 14;  // products and sums fit into an int

constexpr char kMessagePrefix[] = "gluondense dual-path stage: ";

// Parses the attributes. The input's shape is set later.
DualPathConfig parse_config(const Attributes& attributes) {
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
void set_input_shape(DualPathConfig* config, const Shape& shape) {
  if (shape.size() != 4) {
    throw std::invalid_argument("the input must be (N, C, H, W), not of " +
                                std::to_string(shape.size()) + " dimensions");
  }
  const auto dim = [&](int axis) { return static_cast<int>(checked_dim(shape[axis])); };
  if (shape[1] > kMaxChannels) {
    throw std::invalid_argument("the input must have at most " + std::to_string(kMaxChannels) +
                                " channels, not " + std::to_string(shape[1]));
  }
  config->batch = dim(0), config->in_channels = dim(1);
  config->height = dim(2), config->width = dim(3);
}

// Returns the arrays of MXNet's tensors, starting with tensor `next`.
DualPathArrays bind_arrays(const DualPathConfig& config, std::vector<MXTensor>* tensors,
                           std::size_t next) {
  DualPathArrays arrays;
  for (const Parameter& parameter : DualPathParameters(config, &arrays)) {
    *parameter.array = tensors->at(next++).data<float>();
  }
  return arrays;
}

MXReturnValue parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded(kMessagePrefix, [&] {
    DualPathArrays arrays;
    *inputs = 1 + DualPathParameters(parse_config(attributes), &arrays).size();
    *outputs = 1;
  });
}

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded(kMessagePrefix, [&] {
    DualPathConfig config = parse_config(attributes);
    set_input_shape(&config, in->at(0));
    DualPathArrays arrays;
    std::size_t next = 1;
    for (const Parameter& parameter : DualPathParameters(config, &arrays)) {
      in->at(next++) = parameter.shape;
    }
    out->at(0) = {checked_dim(config.batch), checked_dim(config.out_channels()),
                  checked_dim(config.out_height()), checked_dim(config.out_width())};
  });
}

MXReturnValue mutable_inputs(const Attributes& attributes, std::vector<int>* indices) {
  return guarded(kMessagePrefix, [&] {
    DualPathArrays arrays;
    int index = 0;
    for (const Parameter& parameter : DualPathParameters(parse_config(attributes), &arrays)) {
      ++index;  // input 0 is the stage's
      if (parameter.is_statistic) indices->push_back(index);
    }
  });
}

class DualPathOperator : public CustomStatefulOp {
 public:
  static constexpr const char* kMessagePrefix = gluondense::kMessagePrefix;

  explicit DualPathOperator(const Attributes& attributes) : config_(parse_config(attributes)) {}

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
  DualPathConfig config_;
  DualPathStage stage_;
};

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_dual_path_stage)
    .setParseAttrs(parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(infer_shape)
    .setMutateInputs(mutable_inputs)
    .setCreateOpState(create<DualPathOperator>, "cpu");
