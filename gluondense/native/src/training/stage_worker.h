// SPDX-License-Identifier: Apache-2.0
// One thread's share of the work on a dense stage.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "memory.h"
#include "tile_grid.h"
#include "training/dense_stage.h"
#include "training/stage_data.h"
#include "training/stage_layout.h"
#include "training/stage_thread.h"
#include "training/transpose.h"

namespace gluondense {

// Feature maps and the operands of 1x1 convolutions are of type T, float or Bf16. Each file of this
// folder instantiates the members that it defines.
//
// The constructor allocates all memory, because an exception in a parallel region would end the
// process. All threads call forward() or backward() of their worker at the same time.
template <class T>
class StageWorker : private StageThread<T> {
 public:
  StageWorker(const StageBuffers<T>& buffers, int rank);
  void forward(Barrier& barrier, const float* x, float* y);
  void backward(Barrier& barrier, const float* dy, float* dx, const DenseStageArrays& gradients);

 private:
  typedef StageThread<T> Thread;
  using Thread::rank_, Thread::barrier_, Thread::kernels, Thread::threads, Thread::share,
      Thread::for_each_block, Thread::pack_conv1x1;

  static constexpr int kMaps = -1;  // the feature maps, instead of the bottleneck of a layer

  const StageBuffers<T>& buffers_;
  const DenseStageConfig& config_;
  const StageLayout<T>& layout_;
  const TileGrid grid_;
  Affine map_affine_, bottleneck_affine_;  // of the current normalizations
  Affine correction_;                      // a BnCorrection as a scale and a shift
  BatchStatistics map_statistics_, bottleneck_statistics_;
  BnCorrection map_correction_, bottleneck_correction_;

  template <class Scratch, class... Args>
  Scratch scratch(Args... args) const {
    ScratchAllocator memory(buffers_.scratch + rank_ * layout_.scratch);
    return Scratch(memory, args...);
  }
  T* map(std::int64_t pixel) const { return buffers_.maps + pixel * layout_.map_stride; }
  T* d_map(std::int64_t pixel) const { return buffers_.d_maps + pixel * layout_.map_stride; }
  // A two-way stage's transition begins with a 1x1 convolution, too: it has the bottleneck of
  // layer `layers`.
  T* bottleneck(int layer) const {
    const std::int64_t size = config_.pixels() * layout_.bottleneck_stride;
    return buffers_.bottlenecks + (config_.recompute_bottleneck ? 0 : layer * size);
  }
  int bottleneck_channels(int layer) const {
    return layer == config_.layers ? config_.out_channels : config_.bottleneck;
  }
  int bottleneck_stride(int layer) const {
    return layer == config_.layers ? layout_.transition_stride : layout_.bottleneck_stride;
  }
  // The place of a layer's first channel in the statistics of all bottlenecks.
  std::ptrdiff_t bottleneck_offset(int layer) const {
    return std::ptrdiff_t{layer} * layout_.bottleneck_stride;
  }
  // Packed filters are double-buffered: the next layer's are packed while a layer's are in use.
  T* conv1x1_panels(int layer) const {
    return buffers_.conv1x1_panels + (layer & 1) * layout_.conv1x1_panels;
  }
  float* conv3x3_panels(int layer, int conv = 0) const {
    return buffers_.conv3x3_panels +
           ((layer & 1) * config_.convs3x3() + conv) * layout_.conv3x3_panels;
  }
  // The transposed filters of a 1x1 convolution, which backward packs behind those of two layers.
  T* conv1x1_panels_t() const { return buffers_.conv1x1_panels + 2 * layout_.conv1x1_panels; }
  // The filter gradients of a thread.
  float* d_conv1x1(int thread) const { return buffers_.d_filters + thread * layout_.filters; }
  float* d_conv3x3(int thread, int conv) const {
    return d_conv1x1(thread) + layout_.conv1x1_panels + conv * layout_.conv3x3_panels;
  }

  // `layer` is a layer with a bottleneck, or kMaps.
  ChannelSums channel_sums(int thread, int layer) const;
  std::pair<double, double> total_sums(int layer, int channel) const;
  void reset_sums(int layer) const;  // of this thread
  // `channels` channels, from `first` on.
  BnReluInput<T> maps_input(int channels, int first = 0) const {
    return {buffers_.maps + first, layout_.map_stride, channels, map_affine_.scale.data() + first,
            map_affine_.shift.data() + first};
  }
  BnReluInput<T> bottleneck_input(int layer, int channels, int first = 0) const {
    return {bottleneck(layer) + first, bottleneck_stride(layer), channels,
            bottleneck_affine_.scale.data() + first, bottleneck_affine_.shift.data() + first};
  }
  BnReluGradient<T> maps_gradient(int first, bool accumulate) const {
    const ChannelSums sums = channel_sums(rank_, kMaps);
    return {buffers_.d_maps + first,
            buffers_.saved.mean.data() + first,
            {sums.first + first, sums.second + first},
            accumulate};
  }
  BnReluGradient<T> bottleneck_gradient(int layer, int first = 0) const {
    const ChannelSums sums = channel_sums(rank_, layer);
    const std::ptrdiff_t offset = bottleneck_offset(layer) + first;
    return {buffers_.d_bottleneck + first,
            buffers_.saved.bottleneck_mean.data() + offset,
            {sums.first + first, sums.second + first},
            false};
  }

  // forward.cc and backward.cc
  void pack_filters(int layer) const;
  void layer_forward(int layer);
  void layer_backward(int layer, const DenseStageArrays::Layer& gradients);
  void bottleneck_backward(int layer, const DenseStageArrays::Layer& gradients);
  void pack_recompute_filters(int layer) const;
  void input_backward(float* dx);

  // bypass.cc
  template <class Function>
  void for_each_bypass_plane(Function f) const;
  void bypass_forward(const float* x, float* y) const;
  void bypass_backward(const float* dy, float* dx) const;

  // two_way.cc
  struct Conv3x3;
  std::array<Conv3x3, 3> two_way_convs(int layer) const;
  void pack_two_way_conv1x1(int layer) const;
  void pack_two_way_conv3x3(int layer, bool transposed) const;
  void two_way_set_input_affine();
  void normalize_maps(const BatchNormArrays& bn, int first, int channels);
  void two_way_layer_forward(int layer);
  void two_way_finish_layer(int layer);
  void two_way_backward(const float* dy, const DenseStageArrays& gradients);
  void finish_d_conv3x3(const Conv3x3& conv, const BatchNormArrays& bn,
                        const BatchNormArrays& gradient);
  void two_way_layer_backward(int layer, const DenseStageArrays::TwoWayLayer& gradients);

  // two_way_transition.cc
  void two_way_transition_forward(float* y);
  void two_way_transition_backward(const float* dy, const DenseStageArrays& gradients);
  void two_way_pool_backward(const float* dy) const;

  // batch_norm.cc
  void finish_statistics(int layer, int first, int last, BatchStatistics* statistics) const;
  void update_running_stats(const BatchNormArrays& bn, const BatchStatistics& statistics, int first,
                            int channels) const;
  void normalize_bottleneck(int layer, const BatchNormArrays& bn, int first, int channels);
  void set_bottleneck_affine(int layer, const BatchNormArrays& bn, int first, int channels);
  void finish_bottleneck_backward(int layer, const BatchNormArrays& bn,
                                  const BatchNormArrays& gradient, int first, int channels);
  void finish_bn_backward(int layer, const BatchNormArrays& bn, const BatchNormArrays& gradient,
                          int first, int channels, const float* inv_std,
                          BnCorrection* correction) const;
  void set_correction(const BnCorrection& correction, const float* mean, int first, int count);

  // conv1x1.cc
  void pack_conv1x1_t(const Conv1x1Filters& filters, int in_channels, int out_channels,
                      T* panels) const {
    Thread::pack_conv1x1_t(filters, in_channels, in_channels, out_channels, panels);
  }
  void conv1x1_forward(int layer, bool with_sums) const;
  void conv1x1_backward(int layer) const;
  template <int kParts, bool kAccumulate, class PixelOf>  // conv1x1.h
  void conv1x1_backward_data(const Conv1x1GradScratch<T>& scratch, int count, int first, int last,
                             int out_channels, PixelOf pixel_of) const;
  void reduce_d_conv1x1(int in_channels, int out_channels, const Conv1x1Filters& filters) const {
    Thread::reduce_d_conv1x1(d_conv1x1(0), layout_.filters, in_channels, out_channels, filters);
  }

  // conv3x3.cc
  void pack_conv3x3(const float* weight, int in_channels, int out_channels, bool transposed,
                    float* panels) const;
  void conv3x3_forward(const BnReluInput<T>& input, const float* panels, int first,
                       int channels) const;
  void conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                             const BnReluInput<T>& input, const BnReluGradient<T>& gradient) const;
  void conv3x3_backward_filter(const BnReluInput<T>& input, const BnReluInput<T>& dy,
                               float* d_filters) const;
  void reduce_d_conv3x3(int conv, int in_channels, int out_channels, float* weight) const;
  // `channels` channels of d_new_maps, from `first` on.
  BnReluInput<T> d_new_maps(int channels, int first = 0) const {
    return {buffers_.d_new_maps + first, layout_.growth_stride, channels, nullptr, nullptr};
  }
  void finish_d_new_maps(int channel, int count, int first = 0);

  // winograd_conv3x3.cc
  const float* padded_tile(PaddedStrip* strip, const BnReluInput<T>& input, std::int64_t tile,
                           int first_channel, int channels) const;
  void fill_padded_strip(const PaddedStrip& strip, const BnReluInput<T>& input, int channels) const;
  template <class Prefetch, class Store>
  void winograd_conv3x3(const BnReluInput<T>& input, const float* panels, int out_channels,
                        const Conv3x3Scratch& scratch, Prefetch prefetch, Store store) const;
  void winograd_pack_conv3x3(const float* weight, int in_channels, int out_channels,
                             bool transposed, float* panels) const;
  void winograd_conv3x3_forward(const BnReluInput<T>& input, const float* panels, int first,
                                int channels) const;
  void winograd_conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                                      const BnReluInput<T>& input,
                                      const BnReluGradient<T>& gradient) const;
  void winograd_conv3x3_backward_filter(const BnReluInput<T>& input, const BnReluInput<T>& dy,
                                        float* d_filters) const;
  void winograd_reduce_d_conv3x3(int conv, int in_channels, int out_channels, float* weight) const;

  // direct_conv3x3.cc, of bfloat16 only
  DirectStrip direct_strip(int channels) const {
    return scratch<DirectStrip>(direct_strip_rows(config_.height, config_.width, channels),
                                config_.width, channels);
  }
  void fill_direct_strip(const DirectStrip& strip, const BnReluInput<T>& input, std::int64_t image,
                         int y, int rows) const;
  template <class Function>
  void for_each_strip(int rows, Function f) const;
  template <class Out, class Multiply>
  void direct_conv3x3(const DirectStrip& strip, int rows, const float* panels, int out_channels,
                      Multiply multiply) const;
  void direct_pack_conv3x3(const float* weight, int in_channels, int out_channels, bool transposed,
                           float* panels) const;
  void direct_conv3x3_forward(const BnReluInput<T>& input, const float* panels, int first,
                              int channels) const;
  void direct_conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                                    const BnReluInput<T>& input,
                                    const BnReluGradient<T>& gradient) const;
  void direct_conv3x3_backward_filter(const BnReluInput<T>& input, const BnReluInput<T>& dy,
                                      float* d_filters) const;
  void direct_reduce_d_conv3x3(int conv, int in_channels, int out_channels, float* weight) const;

  // tail.cc
  void tail_forward(float* y);
  void features_forward(float* y) const;
  void bn_relu_forward(float* y) const;
  void transition_forward(float* y) const;
  void tail_backward(const float* dy);
  void bn_relu_backward(const float* dy) const;
  void transition_backward(const float* dy) const;
  std::int64_t pooled_pixel(std::int64_t out_pixel, int part) const;
  void pack_pooled(const BnReluInput<T>& input, std::int64_t first, int count, int stride,
                   T* packed) const;
};

}  // namespace gluondense
