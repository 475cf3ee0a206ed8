// SPDX-License-Identifier: Apache-2.0
// What the operators share of MXNet's extension interface.
#pragma once

#include <mxnet/lib_api.h>

#include <limits>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "numbers.h"

namespace gluondense {

typedef std::unordered_map<std::string, std::string> Attributes;

// Runs a function; an exception becomes a message, which begins with `prefix`, and a return code.
template <class Function>
mxnet::ext::MXReturnValue guarded(const char* prefix, Function function) {
  try {
    function();
    return mxnet::ext::MX_SUCCESS;
  } catch (const std::exception& error) {
    MX_ERROR_MSG << prefix << error.what() << std::endl;
    return mxnet::ext::MX_FAIL;
  }
}

inline const std::string& attribute(const Attributes& attributes, const char* key) {
  const auto found = attributes.find(key);
  if (found == attributes.end()) throw std::invalid_argument(std::string(key) + " is missing");
  return found->second;
}

// An integer from 0 to `most`.
inline int count_attribute(const Attributes& attributes, const char* key,
                           int most = std::numeric_limits<int>::max()) {
  const std::string& text = attribute(attributes, key);
  const double value = parse_number(text).value_or(-1);
  if (!(value >= 0 && value <= most) || value != static_cast<int>(value)) {
    throw std::invalid_argument(std::string(key) + " must be an integer from 0 to " +
                                std::to_string(most) + ", not " + text);
  }
  return static_cast<int>(value);
}

inline float float_attribute(const Attributes& attributes, const char* key) {
  const std::string& text = attribute(attributes, key);
  const std::optional<double> value = parse_number(text);
  if (!value) throw std::invalid_argument(std::string(key) + " must be a number, not " + text);
  return static_cast<float>(*value);
}

// The slope of a ReLU for negative values.
inline float slope_attribute(const Attributes& attributes) {
  const float slope = float_attribute(attributes, "slope");
  if (slope >= 0 && slope <= 1) return slope;
  throw std::invalid_argument("slope must be from 0 to 1, not " + attribute(attributes, "slope"));
}

// Whether the attribute dtype, float32 or bfloat16, is the latter.
inline bool bf16_attribute(const Attributes& attributes) {
  const std::string& dtype = attribute(attributes, "dtype");
  if (dtype != "float32" && dtype != "bfloat16") {
    throw std::invalid_argument("dtype must be float32 or bfloat16, not " + dtype);
  }
  return dtype == "bfloat16";
}

// MXNet's function for the types of an operator's arrays, which are all float32.
inline mxnet::ext::MXReturnValue infer_float32(const Attributes&, std::vector<int>* in,
                                               std::vector<int>* out) {
  for (int& type : *in) type = mxnet::ext::kFloat32;
  for (int& type : *out) type = mxnet::ext::kFloat32;
  return mxnet::ext::MX_SUCCESS;
}

// MXNet's function that creates a stateful operator, which is constructed from its attributes.
template <class Operator>
mxnet::ext::MXReturnValue create(const Attributes& attributes, const mxnet::ext::MXContext&,
                                 const std::vector<std::vector<unsigned int>>&,
                                 const std::vector<int>, mxnet::ext::CustomStatefulOp** op) {
  return guarded(Operator::kMessagePrefix, [&] {
    *op = new Operator(attributes);
    (*op)->ignore_warn = true;
  });
}

// A dimension in the type of MXNet's shapes.
inline unsigned int checked_dim(std::size_t size) {
  if (size > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    throw std::invalid_argument("a dimension of " + std::to_string(size) + " is too large");
  }
  return static_cast<unsigned int>(size);
}

}  // namespace gluondense
