// SPDX-License-Identifier: Apache-2.0
// Trains a dense stage: layers that each append feature maps to their input, and an optional tail.
//
// All feature maps of a stage share one NHWC buffer: a layer writes its new channels after those of
// the previous layers, so that no concatenation is needed. The batch statistics of a channel are
// computed once, when it is written, and used by all layers that normalize it. In backward, the two
// correction terms of batch normalization are an affine function of its input. Their coefficients
// are summed over all layers that read a channel, and applied once, when its gradient is used.
#pragma once

#include <cstdint>
#include <vector>

#include "memory.h"

namespace gluondense {

struct DenseStageConfig {
  // The output: all feature maps; BN-ReLU of them; or BN-ReLU-Conv1x1, the transition.
  enum Tail { kFeatures, kBnRelu, kTransition };

  int batch = 0, in_channels = 0, height = 0, width = 0;  // of the input
  int layers = 0, growth_rate = 0;
  int bottleneck = 0;  // output channels of the layers' 1x1 convolution; 0 for no bottleneck
  Tail tail = kFeatures;
  int out_channels = 0;               // of the transition
  bool pool = false;                  // 2x2 average pooling after the transition's convolution
  bool recompute_bottleneck = false;  // in backward, instead of saving it
  float eps = 1e-5f, momentum = 0.9f;

  std::int64_t pixels() const { return std::int64_t{batch} * height * width; }
  std::int64_t out_pixels() const { return std::int64_t{batch} * out_height() * out_width(); }
  int layer_in_channels(int layer) const { return in_channels + layer * growth_rate; }
  int conv3x3_in_channels(int layer) const {
    return bottleneck ? bottleneck : layer_in_channels(layer);
  }
  int total_channels() const { return layer_in_channels(layers); }
  int out_height() const { return pool ? height / 2 : height; }
  int out_width() const { return pool ? width / 2 : width; }
};

struct BatchNormArrays {
  float *gamma = nullptr, *beta = nullptr, *running_mean = nullptr, *running_var = nullptr;
};

// The parameters of a stage, or their gradients (without running statistics).
struct DenseStageArrays {
  struct Layer {
    BatchNormArrays bn1;  // bn1 and conv1x1 only with a bottleneck
    float* conv1x1 = nullptr;
    BatchNormArrays bn2;
    float* conv3x3 = nullptr;
  };
  std::vector<Layer> layers;
  BatchNormArrays tail_bn;
  float* tail_conv = nullptr;
};

// Memory of one pass, reused by later ones.
struct Workspace {
  AlignedBuffer scratch, thread_sums, panels, bottleneck, d_bottleneck, d_maps, d_new_maps,
      d_filters;
};

// Saved by forward for backward. inv_std is 1 / sqrt(var + eps).
struct SavedForBackward {
  AlignedBuffer maps, bottlenecks;
  std::vector<float> mean, inv_std;                        // (total channels)
  std::vector<float> bottleneck_mean, bottleneck_inv_std;  // (layers, bottleneck stride)
};

// One stage. Different stages may run at the same time.
class DenseStage {
 public:
  // x and y are (N, C, H, W). Updates the running statistics.
  void forward(const DenseStageConfig& config, const float* x, const DenseStageArrays& arrays,
               float* y);
  // Computes the gradients of the last forward pass. Throws std::logic_error if there was none.
  void backward(const float* dy, const DenseStageArrays& arrays, float* dx,
                const DenseStageArrays& gradients);

 private:
  DenseStageConfig config_;
  SavedForBackward saved_;
  bool has_forward_ = false;
};

}  // namespace gluondense
