// The operator gluondense_dense_stage: MXNet's interface to DenseStage.
#include <stdexcept>
#include <string>
#include <vector>

#include "mxnet_operator.h"
#include "training/dense_stage.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxLayers = 1 << 12, kMaxChannels = 1 << 16;  // products and sums fit into an int

template <class Function>
MXReturnValue guarded_stage(Function function) {
  return guarded("gluondense dense stage: ", function);
}

DenseStageConfig::Tail parse_tail(const std::string& word) {
  if (word == "maps") return DenseStageConfig::kFeatures;
  if (word == "norm") return DenseStageConfig::kBnRelu;
  if (word == "conv") return DenseStageConfig::kTransition;
  throw std::invalid_argument("tail must be maps, norm or conv, not " + word);
}

// Parses the attributes. The input's shape is set later.
DenseStageConfig parse_config(const Attributes& attributes) {
  DenseStageConfig config;
  config.layers = count_attribute(attributes, "layers", kMaxLayers);
  config.growth_rate = count_attribute(attributes, "growth", kMaxChannels);
  config.bottleneck = count_attribute(attributes, "middle", kMaxChannels);
  config.out_channels = count_attribute(attributes, "out_channels", kMaxChannels);
  config.pool = count_attribute(attributes, "pool", 1);
  config.recompute_bottleneck = count_attribute(attributes, "recompute", 1);
  config.eps = float_attribute(attributes, "eps");
  config.momentum = float_attribute(attributes, "momentum");
  config.tail = parse_tail(attribute(attributes, "tail"));
  const bool transition = config.tail == DenseStageConfig::kTransition;
  if (transition != (config.out_channels > 0) || (config.pool && !transition)) {
    throw std::invalid_argument("out_channels must be positive for tail=conv, else 0, as pool");
  }
  return config;
}

template <class Shape>
void set_input_shape(DenseStageConfig* config, const Shape& shape) {
  if (shape.size() != 4) {
    throw std::invalid_argument("the input must be (N, C, H, W), not of " +
                                std::to_string(shape.size()) + " dimensions");
  }
  const auto dim = [&](int axis) { return static_cast<int>(checked_dim(shape[axis])); };
  config->batch = dim(0), config->in_channels = dim(1);
  config->height = dim(2), config->width = dim(3);
}

// Calls bn(arrays, channels) and conv(array, out_channels, in_channels, kernel) for each parameter,
// in the order of the operator's inputs.
template <class Bn, class Conv>
void for_each_parameter(const DenseStageConfig& config, DenseStageArrays* arrays, Bn bn,
                        Conv conv) {
  arrays->layers.resize(config.layers);
  for (int l = 0; l < config.layers; ++l) {
    auto& layer = arrays->layers[l];
    const int in_channels = config.layer_in_channels(l);
    if (config.bottleneck) {
      bn(&layer.bn1, in_channels);
      conv(&layer.conv1x1, config.bottleneck, in_channels, 1);
    }
    bn(&layer.bn2, config.conv3x3_in_channels(l));
    conv(&layer.conv3x3, config.growth_rate, config.conv3x3_in_channels(l), 3);
  }
  if (config.tail == DenseStageConfig::kFeatures) return;
  bn(&arrays->tail_bn, config.total_channels());
  if (config.tail == DenseStageConfig::kTransition) {
    conv(&arrays->tail_conv, config.out_channels, config.total_channels(), 1);
  }
}

// Returns the arrays of MXNet's tensors, starting with tensor `next`.
DenseStageArrays bind_arrays(const DenseStageConfig& config, std::vector<MXTensor>* tensors,
                             std::size_t next) {
  DenseStageArrays arrays;
  const auto data = [&] { return tensors->at(next++).data<float>(); };
  for_each_parameter(
      config, &arrays,
      [&](BatchNormArrays* bn, int) {
        bn->gamma = data(), bn->beta = data();
        bn->running_mean = data(), bn->running_var = data();
      },
      [&](float** weight, int, int, int) { *weight = data(); });
  return arrays;
}

MXReturnValue parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded_stage([&] {
    DenseStageArrays arrays;
    int count = 1;
    for_each_parameter(
        parse_config(attributes), &arrays, [&](BatchNormArrays*, int) { count += 4; },
        [&](float**, int, int, int) { ++count; });
    *inputs = count;
    *outputs = 1;
  });
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int& type : *in) type = kFloat32;
  for (int& type : *out) type = kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes,
                          std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded_stage([&] {
    DenseStageConfig config = parse_config(attributes);
    set_input_shape(&config, in->at(0));
    DenseStageArrays arrays;
    std::size_t next = 1;
    for_each_parameter(
        config, &arrays,
        [&](BatchNormArrays*, int channels) {
          for (int i = 0; i < 4; ++i) in->at(next++) = {checked_dim(channels)};
        },
        [&](float**, int out_channels, int in_channels, int kernel) {
          in->at(next++) = {checked_dim(out_channels), checked_dim(in_channels),
                            checked_dim(kernel), checked_dim(kernel)};
        });
    const bool transition = config.tail == DenseStageConfig::kTransition;
    out->at(0) = {checked_dim(config.batch),
                  checked_dim(transition ? config.out_channels : config.total_channels()),
                  checked_dim(config.out_height()), checked_dim(config.out_width())};
  });
}

// The operator modifies the running statistics.
MXReturnValue mutable_inputs(const Attributes& attributes, std::vector<int>* indices) {
  return guarded_stage([&] {
    DenseStageArrays arrays;
    int next = 1;
    for_each_parameter(
        parse_config(attributes), &arrays,
        [&](BatchNormArrays*, int) {
          indices->insert(indices->end(), {next + 2, next + 3});
          next += 4;
        },
        [&](float**, int, int, int) { ++next; });
  });
}

class DenseStageOperator : public CustomStatefulOp {
 public:
  explicit DenseStageOperator(const DenseStageConfig& config) : config_(config) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded_stage([&] {
      set_input_shape(&config_, inputs->at(0).shape);
      stage_.forward(config_, inputs->at(0).data<float>(), bind_arrays(config_, inputs, 1),
                     outputs->at(0).data<float>());
    });
  }

  // Inputs: the gradient of the output, all inputs, the output.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const OpResource&) override {
    return guarded_stage([&] {
      stage_.backward(inputs->at(0).data<float>(), bind_arrays(config_, inputs, 2),
                      outputs->at(0).data<float>(), bind_arrays(config_, outputs, 1));
    });
  }

 private:
  DenseStageConfig config_;
  DenseStage stage_;
};

MXReturnValue create(const Attributes& attributes, const MXContext&,
                     const std::vector<std::vector<unsigned int>>&, const std::vector<int>,
                     CustomStatefulOp** op) {
  return guarded_stage([&] {
    *op = new DenseStageOperator(parse_config(attributes));
    (*op)->ignore_warn = true;
  });
}

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_dense_stage)
    .setParseAttrs(parse_attributes)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setMutateInputs(mutable_inputs)
    .setCreateOpState(create, "cpu");
