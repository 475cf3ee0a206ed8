// SPDX-License-Identifier: Apache-2.0
// Trains a cross-stage partial stage of residual blocks, CSPResNeXt's.
//
// Every convolution is a Conv-BN, most with a leaky ReLU. `down`, a grouped 3x3 of stride 2, may
// begin the stage; `expand`, a 1x1 without a ReLU, computes x0. The first channels of x0 bypass the
// blocks. The others pass through them: 1x1 (a), grouped 3x3 (b) and 1x1 (c) without a ReLU, added
// to the block's input before the last ReLU. `partial_transition`, a 1x1, follows, and
// `transition`, a 1x1, reads the bypass and its output.
//
// All feature maps are NHWC. What is saved of a convolution is its output: normalization and ReLU
// are done while the next one reads it. Only the outputs of blocks are computed, as the next block
// reads them twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"
#include "training/dense_stage.h"
#include "training/norm_conv/norm_conv_layout.h"

namespace gluondense {

struct ResidualStageConfig {
  int batch = 0, in_channels = 0, height = 0, width = 0;  // of the input
  int stride = 1;                                         // of `down`; there is none if it is 1
  int expanded = 0, bypass = 0;        // channels of x0, and those that bypass the blocks
  int blocks = 0, bottleneck = 0;      // residual blocks; channels of a and b
  int groups = 1;                      // of all 3x3 convolutions
  int out_channels = 0;                // of the transition
  bool recompute_bottlenecks = false;  // a, b and c, in backward, instead of saving them
  float slope = 0, eps = 1e-5f, momentum = 0.9f;
  bool bf16 = false;  // feature maps and the operands of 1x1 convolutions

  int out_height() const { return (height - 1) / stride + 1; }
  int out_width() const { return (width - 1) / stride + 1; }
  std::int64_t pixels() const { return std::int64_t{batch} * height * width; }
  std::int64_t out_pixels() const { return std::int64_t{batch} * out_height() * out_width(); }
  int block_channels() const { return expanded - bypass; }
  bool has_down() const { return stride != 1; }
  GroupedConv down() const { return {batch, in_channels, groups, stride, height, width}; }
  GroupedConv conv_b() const { return {batch, bottleneck, groups, 1, out_height(), out_width()}; }
};

// The parameters of a stage, or their gradients (without running statistics).
struct ResidualStageArrays {
  struct Block {
    ConvBnArrays a, b, c;
  };
  ConvBnArrays down, expand;
  std::vector<Block> blocks;
  ConvBnArrays partial_transition, transition;
};

// Saved by forward for backward. inv_std is 1 / sqrt(var + eps).
struct ResidualStageSaved {
  AlignedBuffer maps, bottlenecks;
  std::vector<float> mean, inv_std;  // see ResidualStageLayout
};

// One stage. Different stages may run at the same time.
class ResidualStage {
 public:
  // x and y are (N, C, H, W). Updates the running statistics.
  void forward(const ResidualStageConfig& config, const float* x, const ResidualStageArrays& arrays,
               float* y);
  // Computes the gradients of the last forward pass. Throws std::logic_error if there was none.
  void backward(const float* dy, const ResidualStageArrays& arrays, float* dx,
                const ResidualStageArrays& gradients);

 private:
  template <class T>
  void forward_in(const float* x, const ResidualStageArrays& arrays, float* y);
  template <class T>
  void backward_in(const float* dy, const ResidualStageArrays& arrays, float* dx,
                   const ResidualStageArrays& gradients);

  ResidualStageConfig config_;
  ResidualStageSaved saved_;
  bool has_forward_ = false;
};

}  // namespace gluondense
