// SPDX-License-Identifier: Apache-2.0
// One thread's share of 1x1 and grouped 3x3 convolutions that normalize their input while they read
// it: what dual-path and residual stages have in common.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "training/norm_conv/norm_conv_layout.h"
#include "training/stage_data.h"
#include "training/stage_thread.h"

namespace gluondense {

// Channels that are read through BN-ReLU: a range of a buffer, and its place in the statistics.
template <class T>
struct NormalizedMaps {
  T *x, *dx;  // (pixels, stride)
  int stride, dx_stride, channels, statistics;
  bool accumulate;  // the gradient
  float slope = 0;  // of the ReLU for negative values; 1 for none
};

// The input of a 1x1 convolution: one or two ranges of channels.
template <class T>
struct ConvInput {
  NormalizedMaps<T> parts[2];
  int count, channels;
  int stride;                 // 2 reads the even pixels of even rows
  int height = 0, width = 0;  // of the maps; only used with stride 2
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

// What all threads share.
struct NormConvBuffers {
  const NormConvLayout& layout;
  double* thread_sums;
  char* scratch;
  float eps, momentum;
};

template <class T>
class NormConvWorker : protected StageThread<T> {
 protected:
  typedef StageThread<T> Thread;
  using Thread::rank_, Thread::barrier_, Thread::kernels, Thread::threads, Thread::share,
      Thread::for_each_block;

  NormConvWorker(const NormConvBuffers& shared, int rank);

  template <class Scratch, class... Args>
  Scratch scratch(Args... args) const {
    ScratchAllocator memory(shared_.scratch + rank_ * shared_.layout.scratch);
    return Scratch(memory, args...);
  }

  // batch_statistics.cc
  ChannelSums channel_sums(int thread, int statistics) const;
  void reset_sums(const ConvInput<T>& input) const;
  void finish_statistics(int first, int channels, std::int64_t pixels);
  void set_input_affine(const BatchNormArrays& bn, const ConvInput<T>& input);
  void update_running_stats(const BatchNormArrays& bn, const ConvInput<T>& input) const;
  void finish_bn_backward(const BatchNormArrays& bn, const BatchNormArrays& gradient,
                          const ConvInput<T>& input, std::int64_t pixels);
  void set_correction(int first, int channels);
  void set_channels(BnReluBackward<T>* args, const NormalizedMaps<T>& maps, int first,
                    int count) const;

  // norm_conv1x1.h and norm_conv1x1.cc
  void pack_conv1x1_t(float* filters, const ConvInput<T>& input, int out_channels, T* panels) const;
  void normalize_rows(const ConvInput<T>& input, std::int64_t first, int count, int row_stride,
                      T* rows) const;
  template <class Multiply, class Finish>
  void for_each_product(const ConvInput<T>& input, std::int64_t pixels, const T* panels,
                        int out_channels, const PanelScratch<T>& buffer, Multiply multiply,
                        Finish finish) const;
  void conv1x1_to_maps(const ConvInput<T>& input, std::int64_t pixels, const T* panels,
                       int out_channels, T* y, int y_stride, const ChannelSums* sums) const;
  void conv1x1_backward(const ConvInput<T>& input, std::int64_t pixels,
                        const OutputGradient<T>& gradient, const T* panels_t,
                        float* d_filters) const;

  // norm_conv3x3.cc and norm_conv3x3_backward.cc
  void pack_grouped(const GroupedConv& conv, const float* filters, bool transposed,
                    float* panels) const;
  void grouped_forward(const GroupedConv& conv, const NormalizedMaps<T>& maps, const float* panels,
                       T* y, int y_stride, const ChannelSums* sums) const;
  void grouped_backward(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                        const OutputGradient<T>& gradient, const float* panels_t,
                        float* d_panels) const;
  void reduce_d_grouped(const GroupedConv& conv, float* d_panels, std::ptrdiff_t distance,
                        float* filters) const;

  // All by the place in the statistics.
  BatchStatistics statistics_;
  Affine affine_;      // of the current normalizations
  Affine correction_;  // a BnCorrection as a scale and a shift
  BnCorrection bn_correction_;

 private:
  static std::int64_t input_pixel(const ConvInput<T>& input, std::int64_t out_pixel);
  void normalize_columns(const ConvInput<T>& input, const NormalizedMaps<T>& maps,
                         std::int64_t first, int count, const Conv1x1GradScratch<T>& buffer) const;
  void load_gradient_rows(const OutputGradient<T>& gradient, std::int64_t first, int count,
                          const Conv1x1GradScratch<T>& buffer) const;
  void conv1x1_backward_data(const ConvInput<T>& input, const NormalizedMaps<T>& maps,
                             const Conv1x1GradScratch<T>& buffer, std::int64_t first, int count,
                             int out_channels, const T* panels_t) const;

  struct Band;
  template <class Function>
  void for_each_band(const GroupedConv& conv, const GroupedBlocking& blocking, Function f) const;
  template <class Function>
  void for_each_filter(const GroupedConv& conv, float* panels, Function f) const;
  void fill_padded_input(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                         const GroupedBlocking& blocking, const Band& band, float* strip) const;
  void fill_padded_gradient(const GroupedConv& conv, const OutputGradient<T>& gradient,
                            const GroupedBlocking& blocking, const Band& band,
                            const GroupedScratch<T>& buffer) const;
  void spread_gradient(const GroupedConv& conv, const GroupedBlocking& blocking, const Band& band,
                       const GroupedScratch<T>& buffer) const;
  void grouped_backward_filter(const GroupedConv& conv, const GroupedBlocking& blocking,
                               const Band& band, const GroupedScratch<T>& buffer,
                               float* d_panels) const;
  void grouped_backward_data(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                             const GroupedBlocking& blocking, const Band& band,
                             const GroupedScratch<T>& buffer, const float* panels_t) const;

  // direct_norm_conv3x3.cc, of bfloat16 only; the first four are as those without "direct"
  void direct_pack_grouped(const GroupedConv& conv, const float* filters, bool transposed,
                           float* panels) const;
  void direct_grouped_forward(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                              const float* panels, T* y, int y_stride,
                              const ChannelSums* sums) const;
  void direct_grouped_backward(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                               const OutputGradient<T>& gradient, const float* panels_t,
                               float* d_panels) const;
  void direct_reduce_d_grouped(const GroupedConv& conv, const float* d_panels,
                               std::ptrdiff_t distance, float* filters) const;
  struct Strip;
  template <class Function>
  void for_each_strip(const GroupedConv& conv, Function f) const;
  void fill_strip(const GroupedConv& conv, const NormalizedMaps<T>& maps, const Strip& strip,
                  Bf16* pixels) const;
  void fill_gradient_strip(const GroupedConv& conv, const OutputGradient<T>& gradient,
                           const Strip& strip, Bf16* pixels) const;
  template <class Out, class Multiply>
  void convolve_strip(const Bf16* pixels, int row_pixels, int rows, int width, int stride,
                      const Bf16* weights, int channels, Multiply multiply) const;
  void direct_grouped_backward_filter(const GroupedConv& conv, const Strip& strip,
                                      const DirectGroupedScratch& buffer, float* d_panels) const;
  void direct_grouped_backward_data(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                                    const Strip& strip, const DirectGroupedScratch& buffer,
                                    const float* panels_t) const;
  static const Bf16* direct_panel(const float* panels, int panel) {
    return reinterpret_cast<const Bf16*>(panels) +
           std::ptrdiff_t{9} * panel * kPanelWidth * kPanelWidth;
  }

  const NormConvBuffers shared_;
};

// Calls pass(worker, barrier) in each thread.
template <class Worker, class Buffers, class Pass>
void run_workers(const Buffers& buffers, Pass pass) {
  std::vector<Worker> workers;
  workers.reserve(num_threads());
  for (int rank = 0; rank < num_threads(); ++rank) workers.emplace_back(buffers, rank);
  parallel(num_threads(), [&](Barrier& barrier, int rank) {
    const TileRegisters registers;
    pass(workers[rank], barrier);
  });
}

}  // namespace gluondense
