// SPDX-License-Identifier: Apache-2.0
// MXNet's interface to a stage that trains: see StageOperator.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "mxnet_operator.h"
#include "training/stage_parameters.h"

namespace gluondense {

// Raises an error unless a shape is (N, C, H, W) with at most `most` channels.
template <class Shape>
void check_maps_shape(const Shape& shape, unsigned int most) {
  if (shape.size() != 4) {
    throw std::invalid_argument("the input must be (N, C, H, W), not of " +
                                std::to_string(shape.size()) + " dimensions");
  }
  for (auto size : shape) checked_dim(size);
  if (checked_dim(shape[1]) > most) {
    throw std::invalid_argument("the input must have at most " + std::to_string(most) +
                                " channels, not " + std::to_string(shape[1]));
  }
}

// An operator whose inputs are feature maps and the parameters of a stage. The traits have the
// types Config, Arrays, ParameterList and Stage, the prefix of messages kMessagePrefix, and the
// functions parse(attributes), set_input_shape(&config, shape) and out_channels(config).
template <class Traits>
class StageOperator : public mxnet::ext::CustomStatefulOp {
  typedef typename Traits::Config Config;
  typedef typename Traits::Arrays Arrays;
  typedef typename Traits::ParameterList ParameterList;
  typedef mxnet::ext::MXReturnValue Return;
  typedef std::vector<mxnet::ext::MXTensor> Tensors;
  typedef std::vector<std::vector<unsigned int>> Shapes;

 public:
  static constexpr const char* kMessagePrefix = Traits::kMessagePrefix;

  explicit StageOperator(const Attributes& attributes) : config_(Traits::parse(attributes)) {}

  Return Forward(Tensors* inputs, Tensors* outputs, const mxnet::ext::OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      Traits::set_input_shape(&config_, inputs->at(0).shape);
      stage_.forward(config_, inputs->at(0).data<float>(), bind_arrays(inputs, 1),
                     outputs->at(0).data<float>());
    });
  }

  // Inputs: the gradient of the output, all inputs, the output.
  Return Backward(Tensors* inputs, Tensors* outputs, const mxnet::ext::OpResource&) override {
    return guarded(kMessagePrefix, [&] {
      stage_.backward(inputs->at(0).data<float>(), bind_arrays(inputs, 2),
                      outputs->at(0).data<float>(), bind_arrays(outputs, 1));
    });
  }

  static Return parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
    return guarded(kMessagePrefix, [&] {
      Arrays arrays;
      *inputs = 1 + ParameterList(Traits::parse(attributes), &arrays).size();
      *outputs = 1;
    });
  }

  static Return infer_shape(const Attributes& attributes, Shapes* in, Shapes* out) {
    return guarded(kMessagePrefix, [&] {
      Config config = Traits::parse(attributes);
      Traits::set_input_shape(&config, in->at(0));
      Arrays arrays;
      std::size_t next = 1;
      for (const Parameter& parameter : ParameterList(config, &arrays)) {
        in->at(next++) = parameter.shape;
      }
      out->at(0) = {checked_dim(config.batch), checked_dim(Traits::out_channels(config)),
                    checked_dim(config.out_height()), checked_dim(config.out_width())};
    });
  }

  static Return mutable_inputs(const Attributes& attributes, std::vector<int>* indices) {
    return guarded(kMessagePrefix, [&] {
      Arrays arrays;
      int index = 0;
      for (const Parameter& parameter : ParameterList(Traits::parse(attributes), &arrays)) {
        ++index;  // input 0 is the stage's
        if (parameter.is_statistic) indices->push_back(index);
      }
    });
  }

 private:
  // Returns the arrays of MXNet's tensors, starting with tensor `next`.
  Arrays bind_arrays(Tensors* tensors, std::size_t next) const {
    Arrays arrays;
    for (const Parameter& parameter : ParameterList(config_, &arrays)) {
      *parameter.array = tensors->at(next++).template data<float>();
    }
    return arrays;
  }

  Config config_;
  typename Traits::Stage stage_;
};

}  // namespace gluondense
