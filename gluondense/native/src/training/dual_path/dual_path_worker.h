// SPDX-License-Identifier: Apache-2.0
// One thread's share of the work on a dual-path stage.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "training/dual_path/dual_path_layout.h"
#include "training/dual_path/dual_path_stage.h"
#include "training/norm_conv/norm_conv.h"

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

// Members are as in StageWorker: the constructor allocates all memory, and all threads call
// forward() or backward() of their worker at the same time.
template <class T>
class DualPathWorker : private NormConvWorker<T> {
 public:
  DualPathWorker(const DualPathBuffers<T>& buffers, int rank);
  void forward(Barrier& barrier, const float* x, float* y);
  void backward(Barrier& barrier, const float* dy, float* dx, const DualPathArrays& gradients);

 private:
  typedef NormConvWorker<T> Base;
  using Base::rank_, Base::barrier_, Base::kernels, Base::share, Base::for_each_block,
      Base::pack_conv1x1, Base::pack_conv1x1_t, Base::channel_sums, Base::reset_sums,
      Base::finish_statistics, Base::set_input_affine, Base::update_running_stats,
      Base::finish_bn_backward, Base::set_correction, Base::statistics_, Base::correction_;

  const DualPathBuffers<T>& buffers_;
  const DualPathConfig& config_;
  const DualPathLayout<T>& layout_;
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
  void conv_b_forward(int block, bool with_sums) const;
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

  void reduce_d_conv1x1(float* sums, int in_channels, int out_channels, float* filters) const {
    Base::reduce_d_conv1x1(sums, layout_.filters, in_channels, out_channels, filters);
  }
};

}  // namespace gluondense
