// SPDX-License-Identifier: Apache-2.0
// One thread's share of the work on a dual-path stage.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "training/dual_path/dual_path_layout.h"
#include "training/dual_path/dual_path_stage.h"
#include "training/stage_data.h"
#include "training/stage_thread.h"

namespace gluondense {

// Buffers that all threads share; feature maps are of type T. The gradients are null in forward.
template <class T>
struct DualPathBuffers {
  const DualPathConfig& config;
  const DualPathLayout<T>& layout;
  const DualPathArrays& arrays;
  DualPathSaved& saved;
  T *input = nullptr, *dense = nullptr, *residual = nullptr, *bottlenecks = nullptr;
  double* thread_sums = nullptr;
  char* scratch = nullptr;
  T* conv1x1_panels = nullptr;
  float* grouped_panels = nullptr;
  T *d_input = nullptr, *d_dense = nullptr, *d_out = nullptr, *d_a = nullptr, *d_b = nullptr;
  float* d_filters = nullptr;
};

// Channels that are normalized: a range of a buffer, and its place in the statistics.
template <class T>
struct NormalizedMaps {
  T *x, *dx;  // (pixels, stride)
  int stride, dx_stride, channels, statistics;
  bool accumulate;  // the gradient
};

// The input of a 1x1 convolution: the residual and the dense path, or one buffer.
template <class T>
struct ConvInput {
  NormalizedMaps<T> parts[2];
  int count, channels;
  int stride;  // 2 reads the even pixels of even rows
  const NormalizedMaps<T>* begin() const { return parts; }
  const NormalizedMaps<T>* end() const { return parts + count; }
};

// The gradient of a convolution's output: rows of dy, plus those of y as an affine function if y is
// not null; `statistics` is the place of y's channels.
template <class T>
struct OutputGradient {
  const T *dy, *y;
  int dy_stride, y_stride, channels, statistics;
};

// Members are as in StageWorker: the constructor allocates all memory, and all threads call
// forward() or backward() of their worker at the same time.
template <class T>
class DualPathWorker : private StageThread<T> {
 public:
  DualPathWorker(const DualPathBuffers<T>& buffers, int rank);
  void forward(Barrier& barrier, const float* x, float* y);
  void backward(Barrier& barrier, const float* dy, float* dx, const DualPathArrays& gradients);

 private:
  typedef StageThread<T> Thread;
  using Thread::rank_, Thread::barrier_, Thread::kernels, Thread::threads, Thread::share,
      Thread::for_each_block, Thread::pack_conv1x1;

  const DualPathBuffers<T>& buffers_;
  const DualPathConfig& config_;
  const DualPathLayout<T>& layout_;
  // All by the place in the statistics.
  BatchStatistics statistics_;
  Affine affine_;      // of the current normalizations
  Affine correction_;  // a BnCorrection as a scale and a shift
  BnCorrection bn_correction_;

  template <class Scratch, class... Args>
  Scratch scratch(Args... args) const {
    ScratchAllocator memory(buffers_.scratch + rank_ * layout_.scratch);
    return Scratch(memory, args...);
  }
  // The bottlenecks of a block, and the residual path behind it.
  T* a(int block) const { return buffers_.bottlenecks + bottleneck_offset(block); }
  T* b(int block) const { return a(block) + (block ? layout_.a : layout_.first_a); }
  std::size_t bottleneck_offset(int block) const;
  T* residual(int block) const {
    return buffers_.residual + block * config_.out_pixels() * layout_.residual_stride;
  }
  // Places in the statistics.
  int a_statistics(int block) const {
    return layout_.bottleneck_statistics + 2 * block * config_.bottleneck;
  }
  int b_statistics(int block) const { return a_statistics(block) + config_.bottleneck; }
  int residual_statistics(int block) const {
    return layout_.residual_statistics + block * config_.residual;
  }
  ConvInput<T> stage_input(int stride, bool accumulate) const;
  ConvInput<T> block_input(int block) const;
  // The bottlenecks as inputs of the next convolution.
  ConvInput<T> a_input(int block) const {
    return bottleneck_input(a(block), buffers_.d_a, a_statistics(block));
  }
  ConvInput<T> b_input(int block) const {
    return bottleneck_input(b(block), buffers_.d_b, b_statistics(block));
  }
  ConvInput<T> bottleneck_input(T* x, T* dx, int statistics) const {
    const int stride = layout_.bottleneck_stride, channels = config_.bottleneck;
    return {{{x, dx, stride, stride, channels, statistics, false}}, 1, channels, 1};
  }
  // Packed filters, and the gradients of a thread: of a or the projection, of c, and of b.
  T* in_panels() const { return buffers_.conv1x1_panels; }
  T* out_panels() const { return in_panels() + layout_.in_panels; }
  float* d_in(int thread) const { return buffers_.d_filters + thread * layout_.filters; }
  float* d_out(int thread) const { return d_in(thread) + layout_.in_panels; }
  float* d_grouped(int thread) const { return d_out(thread) + layout_.out_panels; }

  // dual_path_forward.cc
  void load_input(const float* x);
  void project();
  void block_forward(int block);
  void conv_a_forward(int block, bool with_sums) const;
  void conv_c_forward(int block) const;
  void store_output(float* y) const;

  // dual_path_backward.cc
  void load_gradient(const float* dy) const;
  void block_backward(int block, const DualPathArrays::Block& gradients);
  void recompute_bottlenecks(int block);
  void projection_backward(const DualPathArrays& gradients);
  void finish_d_out(int block);
  void finish_d_dense(int first, int channels);
  void input_backward(float* dx);

  // dual_path_norm.cc
  ChannelSums channel_sums(int thread, int statistics) const;
  void reset_sums(const ConvInput<T>& input) const;
  void finish_statistics(int first, int channels, std::int64_t pixels);
  void set_input_affine(const BatchNormArrays& bn, const ConvInput<T>& input);
  void update_running_stats(const BatchNormArrays& bn, const ConvInput<T>& input) const;
  void finish_bn_backward(const BatchNormArrays& bn, const BatchNormArrays& gradient,
                          const ConvInput<T>& input, std::int64_t pixels);
  void set_correction(int first, int channels);

  // dual_path_conv1x1.cc
  void pack_conv1x1_t(float* filters, const ConvInput<T>& input, int out_channels, T* panels) const;
  std::int64_t input_pixel(std::int64_t out_pixel, int stride) const;
  void normalize_rows(const ConvInput<T>& input, std::int64_t first, int count, int stride,
                      T* rows) const;
  template <class Multiply, class Finish>
  void for_each_product(const ConvInput<T>& input, std::int64_t pixels, const T* panels,
                        int out_channels, const PanelScratch<T>& buffer, Multiply multiply,
                        Finish finish) const;
  void conv1x1_backward(const ConvInput<T>& input, std::int64_t pixels,
                        const OutputGradient<T>& gradient, const T* panels_t,
                        float* d_filters) const;
  void normalize_columns(const NormalizedMaps<T>& maps, int stride, std::int64_t first, int count,
                         const Conv1x1GradScratch<T>& buffer) const;
  void load_gradient_rows(const OutputGradient<T>& gradient, std::int64_t first, int count,
                          const Conv1x1GradScratch<T>& buffer) const;
  void conv1x1_backward_data(const NormalizedMaps<T>& maps, int stride,
                             const Conv1x1GradScratch<T>& buffer, std::int64_t first, int count,
                             int out_channels, const T* panels_t) const;
  void set_channels(BnReluBackward<T>* args, const NormalizedMaps<T>& maps, int first,
                    int count) const {
    const int place = maps.statistics + first;
    const ChannelSums sums = channel_sums(rank_, place);
    args->scale = affine_.scale.data() + place;
    args->shift = affine_.shift.data() + place;
    args->mean = statistics_.mean.data() + place;
    args->sum_dy = sums.first;
    args->sum_dy_xmu = sums.second;
    args->channels = count;
  }
  void reduce_d_conv1x1(float* sums, int in_channels, int out_channels, float* filters) const {
    Thread::reduce_d_conv1x1(sums, layout_.filters, in_channels, out_channels, filters);
  }

  // dual_path_conv3x3.cc and dual_path_conv3x3_backward.cc
  struct Band;
  template <class Function>
  void for_each_band(const GroupedBlocking& blocking, Function f) const;
  template <class Function>
  void for_each_filter(float* panels, Function f) const;
  void pack_grouped(const float* filters, bool transposed) const;
  void fill_padded_input(const NormalizedMaps<T>& maps, int stride, const GroupedBlocking& blocking,
                         const Band& band, float* strip) const;
  void fill_padded_gradient(const OutputGradient<T>& gradient, const GroupedBlocking& blocking,
                            const Band& band, const GroupedScratch<T>& buffer) const;
  void spread_gradient(const GroupedBlocking& blocking, const Band& band,
                       const GroupedScratch<T>& buffer) const;
  void grouped_forward(int block, bool with_sums) const;
  void grouped_backward(int block) const;
  void grouped_backward_filter(int stride, const GroupedBlocking& blocking, const Band& band,
                               const GroupedScratch<T>& buffer) const;
  void grouped_backward_data(int stride, const NormalizedMaps<T>& maps,
                             const GroupedBlocking& blocking, const Band& band,
                             const GroupedScratch<T>& buffer) const;
  void reduce_d_grouped(float* filters) const;
};

}  // namespace gluondense
