// SPDX-License-Identifier: Apache-2.0
// The operator gluondense_stem: MXNet's interface to Stem. The gradient of the images is zero.
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "mxnet_operator.h"
#include "training/stem.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr int kMaxChannels = 1 << 12, kMaxSize = 1 << 16;  // products and sums fit into an int

constexpr char kMessagePrefix[] = "gluondense stem: ";

// The operator's inputs.
enum Input { kImages, kFilters, kGamma, kBeta, kRunningMean, kRunningVar, kInputs };

// Parses the attributes. The images' shape is set later.
StemConfig parse_config(const Attributes& attributes) {
  StemConfig config;
  config.out_channels = count_attribute(attributes, "out_channels", kMaxChannels);
  config.recompute = count_attribute(attributes, "recompute", 1);
  config.slope = slope_attribute(attributes);
  config.eps = float_attribute(attributes, "eps");
  config.momentum = float_attribute(attributes, "momentum");
  config.bf16 = bf16_attribute(attributes);
  if (!config.out_channels) throw std::invalid_argument("out_channels must be positive");
  return config;
}

template <class Shape>
void set_image_shape(StemConfig* config, const Shape& shape) {
  if (shape.size() != 4) {
    throw std::invalid_argument("the images must be (N, C, H, W), not of " +
                                std::to_string(shape.size()) + " dimensions");
  }
  const unsigned int most[] = {std::numeric_limits<int>::max(), kMaxChannels, kMaxSize, kMaxSize};
  int* const dims[] = {&config->batch, &config->in_channels, &config->height, &config->width};
  for (int axis = 0; axis < 4; ++axis) {
    if (const std::size_t size = shape[axis]; size < 1 || size > most[axis]) {
      throw std::invalid_argument("dimension " + std::to_string(axis) + " of the images must be " +
                                  "from 1 to " + std::to_string(most[axis]) + ", not " +
                                  std::to_string(size));
    }
    *dims[axis] = static_cast<int>(shape[axis]);
  }
}

// Returns the arrays of MXNet's tensors, starting with the images.
ConvBnArrays bind_arrays(std::vector<MXTensor>* tensors, std::size_t images) {
  const auto array = [&](Input input) { return tensors->at(images + input).data<float>(); };
  return {array(kFilters), {array(kGamma), array(kBeta), array(kRunningMean), array(kRunningVar)}};
}

MXReturnValue parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded(kMessagePrefix, [&] {
    parse_config(attributes);
    *inputs = kInputs;
    *outputs = 1;
  });
}

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded(kMessagePrefix, [&] {
    StemConfig config = parse_config(attributes);
    set_image_shape(&config, in->at(kImages));
    const unsigned int channels = config.out_channels, kernel = StemConfig::kKernel;
    in->at(kFilters) = {channels, checked_dim(config.in_channels), kernel, kernel};
    for (int i = kGamma; i < kInputs; ++i) in->at(i) = {channels};
    out->at(0) = {checked_dim(config.batch), channels, checked_dim(config.out_height()),
                  checked_dim(config.out_width())};
  });
}

MXReturnValue mutable_inputs(const Attributes&, std::vector<int>* indices) {
  *indices = {kRunningMean, kRunningVar};
  return MX_SUCCESS;
}

class StemOperator : public CustomStatefulOp {
 public:
  static constexpr const char* kMessagePrefix = gluondense::kMessagePrefix;

  explicit StemOperator(const Attributes& attributes) : config_(parse_config(attributes)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      set_image_shape(&config_, inputs->at(kImages).shape);
      stem_.forward(config_, inputs->at(kImages).data<float>(), bind_arrays(inputs, 0),
                    outputs->at(0).data<float>());
    });
  }

  // Inputs: the gradient of the output, all inputs, the output.
  MXReturnValue Backward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                         const OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      MXTensor& d_images = outputs->at(kImages);
      std::fill_n(d_images.data<float>(), d_images.size(), 0.0f);
      stem_.backward(inputs->at(0).data<float>(), inputs->at(1 + kImages).data<float>(),
                     bind_arrays(inputs, 1), bind_arrays(outputs, 0));
    });
  }

 private:
  StemConfig config_;
  Stem stem_;
};

}  // namespace
}  // namespace gluondense

// MXNet's macro requires names without a namespace.
using namespace gluondense;

REGISTER_OP(gluondense_stem)
    .setParseAttrs(parse_attributes)
    .setInferType(infer_float32)
    .setInferShape(infer_shape)
    .setMutateInputs(mutable_inputs)
    .setCreateOpState(create<StemOperator>, "cpu");
