// SPDX-License-Identifier: Apache-2.0
// One thread's share of the work on a residual stage.
#pragma once

#include <cstdint>

#include "training/norm_conv/norm_conv.h"
#include "training/residual/residual_layout.h"
#include "training/residual/residual_stage.h"

namespace gluondense {

// Buffers that all threads share; feature maps are of type T. The gradients are null in forward.
template <class T>
struct ResidualStageBuffers {
  const ResidualStageConfig& config;
  const ResidualStageLayout<T>& layout;
  const ResidualStageArrays& arrays;
  ResidualStageSaved& saved;
  T *maps = nullptr, *bottlenecks = nullptr;
  double* thread_sums = nullptr;
  char* scratch = nullptr;
  T* conv1x1_panels = nullptr;
  float* grouped_panels = nullptr;
  T *d_input = nullptr, *d_down = nullptr, *d_expanded = nullptr, *d_block = nullptr,
    *d_a = nullptr, *d_b = nullptr, *d_c = nullptr, *d_partial = nullptr, *d_output = nullptr;
  float* d_filters = nullptr;
};

// Members are as in StageWorker: the constructor allocates all memory, and all threads call
// forward() or backward() of their worker at the same time.
template <class T>
class ResidualStageWorker : private NormConvWorker<T> {
 public:
  ResidualStageWorker(const ResidualStageBuffers<T>& buffers, int rank);
  void forward(Barrier& barrier, const float* x, float* y);
  void backward(Barrier& barrier, const float* dy, float* dx, const ResidualStageArrays& gradients);

 private:
  typedef NormConvWorker<T> Base;
  using Base::rank_, Base::barrier_, Base::kernels, Base::share, Base::for_each_block,
      Base::channel_sums, Base::reset_sums, Base::statistics_, Base::affine_;

  const ResidualStageBuffers<T>& buffers_;
  const ResidualStageConfig& config_;
  const ResidualStageLayout<T>& layout_;

  // residual_maps.cc: the maps as what a convolution reads, and as what one has written.
  NormalizedMaps<T> input() const;
  NormalizedMaps<T> down() const;
  NormalizedMaps<T> stage_input() const { return config_.has_down() ? down() : input(); }
  NormalizedMaps<T> expanded() const;
  NormalizedMaps<T> bypass() const;
  NormalizedMaps<T> block_input(int block) const;  // that of the next one is the block's output
  NormalizedMaps<T> a(int block) const;
  NormalizedMaps<T> b(int block) const;
  NormalizedMaps<T> c(int block) const;
  NormalizedMaps<T> partial() const;
  NormalizedMaps<T> output() const;
  NormalizedMaps<T> unchanged(T* x, T* dx, int stride, int channels, bool accumulate) const;
  static ConvInput<T> read(const NormalizedMaps<T>& maps) { return {{maps}, 1, maps.channels, 1}; }
  ConvInput<T> both_parts() const { return {{bypass(), partial()}, 2, config_.expanded, 1}; }

  // residual_forward.cc
  void load_input(const float* x);
  void grouped_unit(const GroupedConv& conv, const ConvBnArrays& arrays,
                    const NormalizedMaps<T>& in, const NormalizedMaps<T>& out, bool recompute);
  void conv1x1_unit(const ConvBnArrays& arrays, const ConvInput<T>& in,
                    const NormalizedMaps<T>& out, bool recompute);
  void normalize(const ConvBnArrays& arrays, const NormalizedMaps<T>& out);
  void block_units(int block, bool recompute);
  void add_block(int block) const;
  void store_output(float* y) const;

  // residual_backward.cc
  void load_statistics();
  void load_gradient(const float* dy) const;
  void grouped_unit_backward(const GroupedConv& conv, const ConvBnArrays& arrays,
                             const ConvBnArrays& gradients, const NormalizedMaps<T>& in,
                             const NormalizedMaps<T>& out);
  void conv1x1_unit_backward(const ConvBnArrays& arrays, const ConvBnArrays& gradients,
                             const ConvInput<T>& in, const NormalizedMaps<T>& out);
  OutputGradient<T> finish_gradient(const ConvBnArrays& arrays, const ConvBnArrays& gradients,
                                    const NormalizedMaps<T>& out);
  void block_backward(int block, const ResidualStageArrays::Block& gradients);
  void add_block_backward(int block) const;
  void store_input_gradient(float* dx) const;
};

}  // namespace gluondense
