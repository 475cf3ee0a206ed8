// SPDX-License-Identifier: Apache-2.0
// What the steps of a stage read and write, and the arguments of their kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "training/dense_stage.h"
#include "training/stage_layout.h"

namespace gluondense {

// Buffers that all threads share; feature maps are of type T. The gradients are null in forward.
template <class T>
struct StageBuffers {
  const DenseStageConfig& config;
  const StageLayout<T>& layout;
  const DenseStageArrays& arrays;
  SavedForBackward& saved;
  T *maps = nullptr, *bottlenecks = nullptr;
  double* thread_sums = nullptr;
  char* scratch = nullptr;
  T* conv1x1_panels = nullptr;
  float* conv3x3_panels = nullptr;
  T *d_maps = nullptr, *d_bottleneck = nullptr, *d_new_maps = nullptr;
  float* d_filters = nullptr;
};

// Pixels that are read through BN-ReLU, max(0, x * scale + shift), or unchanged if scale is null.
template <class T>
struct BnReluInput {
  const T* data;  // (pixels, stride)
  int stride, channels;
  const float *scale, *shift;
};

// The scale and shift of each channel.
struct Affine {
  std::vector<float> scale, shift;
};

// The filters (out_channels, in_channels) of a 1x1 convolution, or of two that read the same input.
// The second's follow `split` filters of the first.
struct Conv1x1Filters {
  float *first, *second;
  int split;

  Conv1x1Filters(float* filters) : first(filters), second(nullptr), split(0) {}
  Conv1x1Filters(float* first, float* second, int split)
      : first(first), second(second), split(split) {}
  float* filter(std::int64_t n, int in_channels) const {
    return second && n >= split ? second + (n - split) * in_channels : first + n * in_channels;
  }
  // Calls f(filter, its number, count) for filters [begin, end) that follow each other in memory.
  template <class Function>
  void for_each_run(int begin, int end, int in_channels, Function f) const {
    const int middle = second ? std::min(std::max(begin, split), end) : end;
    if (begin < middle) f(filter(begin, in_channels), begin, middle - begin);
    if (middle < end) f(filter(middle, in_channels), middle, end - middle);
  }
};

// Two sums of each channel: of x and x^2 in forward, of dy and dy * (x - mean) in backward.
struct ChannelSums {
  double *first, *second;
};

// The gradient of an input of BN-ReLU: `data` has the rows of the input.
template <class T>
struct BnReluGradient {
  T* data;
  const float* mean;
  ChannelSums sums;
  bool accumulate;
};

struct BatchStatistics {
  std::vector<float> mean, inv_std;
  std::vector<double> var;
};

// The correction of a gradient by batch normalization: dx -= d_mean + d_xhat * (x - mean).
struct BnCorrection {
  std::vector<double> d_mean, d_xhat;
};

// The pixels around a row of tiles; see StageWorker::padded_tile.
struct PaddedStrip {
  float* data;
  int stride = 0;  // floats of a pixel
  std::int64_t row = -1;
  int first_channel = -1;
};

// Sets the scale and shift of `channels` channels of a batch normalization, from `first` on; mean
// and inv_std are those of channel `first`.
inline void set_affine(const BatchNormArrays& bn, const float* mean, const float* inv_std,
                       int first, int channels, Affine* affine) {
  for (int c = 0; c < channels; ++c) {
    const float scale = bn.gamma[c] * inv_std[c];
    affine->scale[first + c] = scale;
    affine->shift[first + c] = bn.beta[c] - mean[c] * scale;
  }
}

// Returns the arguments for rows of dy. The pixels and channels are set later.
template <class T>
BnReluBackward<T> bn_relu_args(const float* dy, int dy_stride, float dy_factor, bool accumulate) {
  BnReluBackward<T> args = {};
  args.dy = dy;
  args.dy_stride = dy_stride;
  args.dy_factor = dy_factor;
  args.accumulate = accumulate;
  return args;
}

// Sets the arguments for the channels [first, first + count) of a normalized input.
template <class T>
void set_channels(BnReluBackward<T>* args, const BnReluInput<T>& input,
                  const BnReluGradient<T>& gradient, int first, int count) {
  args->scale = input.scale + first;
  args->shift = input.shift + first;
  args->mean = gradient.mean + first;
  args->sum_dy = gradient.sums.first + first;
  args->sum_dy_xmu = gradient.sums.second + first;
  args->channels = count;
}

template <class T>
void prefetch_panel(const T* channels) {
  constexpr int kLine = kCacheLineBytes / sizeof(T);
  for (int c = 0; c < kPanelWidth; c += kLine) __builtin_prefetch(channels + c);
}

// Into the L2 cache, for use much later.
template <class T>
void prefetch_panel_l2(const T* channels) {
  constexpr int kLine = kCacheLineBytes / sizeof(T);
  for (int c = 0; c < kPanelWidth; c += kLine) __builtin_prefetch(channels + c, 0, 2);
}

}  // namespace gluondense
