// SPDX-License-Identifier: Apache-2.0
// Trains a dual-path stage, DPN's: blocks whose output is partly added to a residual path, and
// partly appended to a dense path.
//
// A block is BN-ReLU-Conv1x1 (a), BN-ReLU-grouped Conv3x3 (b), BN-ReLU-Conv1x1 (c). The first one
// has the strides, and both paths begin with a projection, BN-ReLU-Conv1x1, of its input.
//
// All feature maps are NHWC. The dense path is one buffer, in which each block writes its channels
// after those of the previous ones; the statistics of a channel are computed once. Each block has
// its own copy of the residual path, because a sum has other statistics than its terms, and
// backward reads the terms: in bfloat16, subtracting would not recover them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"
#include "training/dense_stage.h"
#include "training/norm_conv/norm_conv_layout.h"

namespace gluondense {

struct DualPathConfig {
  int batch = 0, in_channels = 0, height = 0, width = 0;  // of the input
  int blocks = 0, stride = 1;
  int bottleneck = 0, groups = 1;      // channels of a and b; groups of b
  int residual = 0, increment = 0;     // channels of the residual path; those that a block appends
  bool recompute_bottlenecks = false;  // in backward, instead of saving them
  float eps = 1e-5f, momentum = 0.9f;
  bool bf16 = false;  // feature maps and the operands of 1x1 convolutions

  int out_height() const { return (height - 1) / stride + 1; }
  int out_width() const { return (width - 1) / stride + 1; }
  std::int64_t pixels() const { return std::int64_t{batch} * height * width; }
  std::int64_t out_pixels() const { return std::int64_t{batch} * out_height() * out_width(); }
  int projected() const { return residual + 2 * increment; }       // channels of the projection
  int block_channels() const { return residual + increment; }      // channels of c
  int dense_channels() const { return (blocks + 2) * increment; }  // after the last block
  int out_channels() const { return residual + dense_channels(); }
  // Channels of the dense path in front of those that a block appends.
  int dense_before(int block) const { return (block + 2) * increment; }
  int block_in_channels(int block) const {
    return block ? residual + dense_before(block) : in_channels;
  }
  // Pixels of a's output: the first block's is in front of the strides.
  std::int64_t a_pixels(int block) const { return block ? out_pixels() : pixels(); }
  GroupedConv conv_b(int block) const {
    if (block) return {batch, bottleneck, groups, 1, out_height(), out_width()};
    return {batch, bottleneck, groups, stride, height, width};
  }
};

// The parameters of a stage, or their gradients (without running statistics).
struct DualPathArrays {
  struct Block {
    ConvBnArrays a, b, c;
  };
  ConvBnArrays projection;
  std::vector<Block> blocks;
};

// Saved by forward for backward. inv_std is 1 / sqrt(var + eps).
struct DualPathSaved {
  AlignedBuffer input, dense, residual, bottlenecks;
  std::vector<float> mean, inv_std;  // see DualPathLayout
};

// One stage. Different stages may run at the same time.
class DualPathStage {
 public:
  // x and y are (N, C, H, W). Updates the running statistics.
  void forward(const DualPathConfig& config, const float* x, const DualPathArrays& arrays,
               float* y);
  // Computes the gradients of the last forward pass. Throws std::logic_error if there was none.
  void backward(const float* dy, const DualPathArrays& arrays, float* dx,
                const DualPathArrays& gradients);

 private:
  template <class T>
  void forward_in(const float* x, const DualPathArrays& arrays, float* y);
  template <class T>
  void backward_in(const float* dy, const DualPathArrays& arrays, float* dx,
                   const DualPathArrays& gradients);

  DualPathConfig config_;
  DualPathSaved saved_;
  bool has_forward_ = false;
};

}  // namespace gluondense
