// SPDX-License-Identifier: Apache-2.0
// Trains a dense stage: layers that each append feature maps to their input, and an optional tail.
//
// All feature maps of a stage share one NHWC buffer: a layer writes its new channels after those of
// the previous layers, so that no concatenation is needed. The batch statistics of a channel are
// computed once, when it is written, and used by all layers that normalize it. In backward, the two
// correction terms of batch normalization are an affine function of its input. Their coefficients
// are summed over all layers that read a channel, and applied once, when its gradient is used.
//
// In bfloat16, feature maps, their gradients and the operands of 1x1 convolutions are rounded.
// Statistics, the gradients of parameters and the sums of products are in float32 or in doubles.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "memory.h"

namespace gluondense {

struct DenseStageConfig {
  // A pre-activation layer, DenseNet's, is BN-ReLU-Conv1x1-BN-ReLU-Conv3x3. A two-way layer,
  // PeleeNet's, has two branches of Conv-BN-ReLU: 1x1 and 3x3, and 1x1, 3x3 and 3x3.
  enum LayerKind { kPreActivation, kTwoWay };
  // The output: all feature maps; BN-ReLU of them, not with two-way layers; or the transition,
  // BN-ReLU-Conv1x1 or, with two-way layers, Conv1x1-BN-ReLU.
  enum Tail { kFeatures, kBnRelu, kTransition };

  int batch = 0, in_channels = 0, height = 0, width = 0;  // of the input that the layers read
  LayerKind kind = kPreActivation;
  int layers = 0, growth_rate = 0;
  int bottleneck = 0;  // output channels of a layer's 1x1 convolutions; 0 for no bottleneck
  Tail tail = kFeatures;
  int out_channels = 0;  // of the transition
  bool pool = false;     // 2x2 average pooling at the end of the transition
  // Channels of the input before those that the layers read, in a cross-stage partial stage: they
  // begin the output, pooled if the transition is.
  int bypass = 0;
  bool recompute_bottleneck = false;  // in backward, instead of saving it
  float eps = 1e-5f, momentum = 0.9f;
  bool bf16 = false;  // feature maps and the operands of 1x1 convolutions

  std::int64_t pixels() const { return std::int64_t{batch} * height * width; }
  std::int64_t out_pixels() const { return std::int64_t{batch} * out_height() * out_width(); }
  int layer_in_channels(int layer) const { return in_channels + layer * growth_rate; }
  int conv3x3_in_channels(int layer) const {
    return bottleneck ? bottleneck : layer_in_channels(layer);
  }
  int total_channels() const { return layer_in_channels(layers); }
  int tail_channels() const { return tail == kTransition ? out_channels : total_channels(); }
  // Channels of the operator's input and output.
  int image_in_channels() const { return bypass + in_channels; }
  int image_out_channels() const { return bypass + tail_channels(); }
  // The new maps of a two-way layer's branches, and the output of the second branch's first 3x3
  // convolution. In the maps' buffer, the latter is behind the maps of all layers.
  int branch_bottleneck() const { return bottleneck / 2; }
  int first_branch_channels() const { return growth_rate / 2; }
  int second_branch_channels() const { return growth_rate - first_branch_channels(); }
  int inner_channels() const { return kind == kTwoWay ? second_branch_channels() : 0; }
  int inner_channel(int layer) const { return total_channels() + layer * inner_channels(); }
  int buffer_channels() const { return inner_channel(layers); }
  int convs3x3() const { return kind == kTwoWay ? 3 : 1; }  // of a layer
  int out_height() const { return pool ? height / 2 : height; }
  int out_width() const { return pool ? width / 2 : width; }
  // From an image to the first of the layers' channels, in the input and in the output.
  std::ptrdiff_t bypass_floats() const { return std::ptrdiff_t{bypass} * height * width; }
  std::ptrdiff_t bypass_out_floats() const {
    return std::ptrdiff_t{bypass} * out_height() * out_width();
  }
};

struct BatchNormArrays {
  float *gamma = nullptr, *beta = nullptr, *running_mean = nullptr, *running_var = nullptr;
};

struct ConvBnArrays {
  float* conv = nullptr;
  BatchNormArrays bn;
};

// The parameters of a stage, or their gradients (without running statistics).
struct DenseStageArrays {
  struct Layer {
    BatchNormArrays bn1;  // bn1 and conv1x1 only with a bottleneck
    float* conv1x1 = nullptr;
    BatchNormArrays bn2;
    float* conv3x3 = nullptr;
  };
  struct TwoWayLayer {
    ConvBnArrays conv1x1[2];  // of each branch
    ConvBnArrays conv3x3[3];  // of the first branch, and the two of the second
  };
  std::vector<Layer> layers;  // one of the two has the layers
  std::vector<TwoWayLayer> two_way_layers;
  BatchNormArrays tail_bn;
  float* tail_conv = nullptr;
};

// Saved by forward for backward. inv_std is 1 / sqrt(var + eps).
struct SavedForBackward {
  AlignedBuffer maps, bottlenecks;
  std::vector<float> mean, inv_std;                        // (channels of the maps' buffer)
  std::vector<float> bottleneck_mean, bottleneck_inv_std;  // (layers, bottleneck stride)
};

// One stage. Different stages may run at the same time.
class DenseStage {
 public:
  // x and y are (N, C, H, W). Updates the running statistics. With two-way layers, x must not be
  // negative: it is the output of a ReLU, or of a pooling behind one.
  void forward(const DenseStageConfig& config, const float* x, const DenseStageArrays& arrays,
               float* y);
  // Computes the gradients of the last forward pass. Throws std::logic_error if there was none.
  void backward(const float* dy, const DenseStageArrays& arrays, float* dx,
                const DenseStageArrays& gradients);

 private:
  template <class T>
  void forward_in(const float* x, const DenseStageArrays& arrays, float* y);
  template <class T>
  void backward_in(const float* dy, const DenseStageArrays& arrays, float* dx,
                   const DenseStageArrays& gradients);

  DenseStageConfig config_;
  SavedForBackward saved_;
  bool has_forward_ = false;
};

}  // namespace gluondense
