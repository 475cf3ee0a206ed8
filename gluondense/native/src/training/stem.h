// SPDX-License-Identifier: Apache-2.0
// Trains the stem of networks for ImageNet: a 7x7 convolution of stride 2, BN-ReLU, and 3x3
// max-pooling of stride 2, on padded images.
//
// Saved for backward are the convolution's output, unless it is recomputed from the images, and
// which pixel of each window is the maximum. There is no gradient of the images.
//
// In bfloat16, the images, the convolution's output and its gradient are rounded, and products are
// those of pairs. Sums, statistics, the output and all gradients of parameters are in float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"
#include "training/dense_stage.h"

namespace gluondense {

struct StemConfig {
  static constexpr int kKernel = 7, kPad = 3;

  int batch = 0, in_channels = 0, height = 0, width = 0;  // of the images
  int out_channels = 0;
  bool recompute = false;  // the convolution's output, in backward
  bool bf16 = false;
  float slope = 0, eps = 1e-5f, momentum = 0.9f;  // of the ReLU; of the normalization

  int conv_height() const { return (height + 1) / 2; }
  int conv_width() const { return (width + 1) / 2; }
  int out_height() const { return (conv_height() + 1) / 2; }
  int out_width() const { return (conv_width() + 1) / 2; }
  std::int64_t conv_pixels() const { return std::int64_t{batch} * conv_height() * conv_width(); }
  std::int64_t out_pixels() const { return std::int64_t{batch} * out_height() * out_width(); }
};

// One stem. Different stems may run at the same time.
class Stem {
 public:
  // The images x and y are (N, C, H, W). Updates the running statistics.
  void forward(const StemConfig& config, const float* x, const ConvBnArrays& arrays, float* y);
  // Computes the gradients of the last forward pass, which had the same x and arrays. Throws
  // std::logic_error if there was none.
  void backward(const float* dy, const float* x, const ConvBnArrays& arrays,
                const ConvBnArrays& gradients);

 private:
  template <class T>
  void forward_in(const float* x, const ConvBnArrays& arrays, float* y);
  template <class T>
  void backward_in(const float* dy, const float* x, const ConvBnArrays& arrays,
                   const ConvBnArrays& gradients);

  StemConfig config_;
  AlignedBuffer conv_, argmax_;        // (conv_pixels, stride), (out_pixels, stride)
  std::vector<float> mean_, inv_std_;  // (stride)
  bool has_forward_ = false;
};

}  // namespace gluondense
