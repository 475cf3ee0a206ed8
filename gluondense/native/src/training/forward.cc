// SPDX-License-Identifier: Apache-2.0
// The forward pass of a dense stage: the sequence of steps.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {

template <class T>
StageWorker<T>::StageWorker(const StageBuffers<T>& buffers, int rank)
    : Thread(rank),
      buffers_(buffers),
      config_(buffers.config),
      layout_(buffers.layout),
      grid_(config_.batch, config_.height, config_.width) {
  const std::size_t widest = std::max<std::size_t>(layout_.map_stride, layout_.widest_bottleneck());
  for (auto* affine : {&map_affine_, &bottleneck_affine_, &correction_}) {
    affine->scale.resize(widest), affine->shift.resize(widest);
  }
  for (auto* statistics : {&map_statistics_, &bottleneck_statistics_}) {
    statistics->mean.resize(widest), statistics->inv_std.resize(widest);
    statistics->var.resize(widest);
  }
  for (auto* correction : {&map_correction_, &bottleneck_correction_}) {
    correction->d_mean.resize(widest), correction->d_xhat.resize(widest);
  }
}

template <class T>
void StageWorker<T>::forward(Barrier& barrier, const float* x, float* y) {
  barrier_ = &barrier;
  bypass_forward(x, y);
  x += config_.bypass_floats(), y += config_.bypass_out_floats();
  const ChannelSums sums = channel_sums(rank_, kMaps);
  std::fill_n(sums.first, layout_.thread_sums, 0.0);
  const bool two_way = config_.kind == DenseStageConfig::kTwoWay;
  const int plane = config_.height * config_.width;
  const auto [first, last] = share(std::int64_t{config_.batch} * config_.height);
  for (std::int64_t row = first; row < last; ++row) {
    const std::int64_t pixel = row * config_.width;
    nchw_to_nhwc(x, config_.image_in_channels(), config_.in_channels, pixel, config_.width, plane,
                 map(pixel), layout_.map_stride);
    if (two_way) continue;  // the input is not normalized
    kernels().channel_sums(map(pixel), layout_.map_stride, config_.width, config_.in_channels,
                           sums.first, sums.second);
  }
  if (two_way) two_way_set_input_affine();
  pack_filters(0);
  barrier.wait();
  for (int layer = 0; layer < config_.layers; ++layer) {
    two_way ? two_way_layer_forward(layer) : layer_forward(layer);
    pack_filters(layer + 1);
    barrier.wait();
    if (two_way) two_way_finish_layer(layer);
  }
  const int total = config_.total_channels(), channels = config_.buffer_channels();
  if (!two_way) {
    finish_statistics(kMaps, config_.layers ? total - config_.growth_rate : 0, total,
                      &map_statistics_);
  }
  if (rank_ == 0) {
    std::copy_n(map_statistics_.mean.data(), channels, buffers_.saved.mean.data());
    std::copy_n(map_statistics_.inv_std.data(), channels, buffers_.saved.inv_std.data());
  }
  tail_forward(y);
}

// Packs the filters of a layer or, after the last layer, those of the transition.
template <class T>
void StageWorker<T>::pack_filters(int layer) const {
  if (layer == config_.layers) {
    if (config_.tail == DenseStageConfig::kTransition) {
      pack_conv1x1(buffers_.arrays.tail_conv, config_.total_channels(), config_.out_channels,
                   conv1x1_panels(layer));
    }
    return;
  }
  if (config_.kind == DenseStageConfig::kTwoWay) {
    pack_two_way_conv1x1(layer);
    return pack_two_way_conv3x3(layer, false);
  }
  const auto& arrays = buffers_.arrays.layers[layer];
  if (config_.bottleneck) {
    pack_conv1x1(arrays.conv1x1, config_.layer_in_channels(layer), config_.bottleneck,
                 conv1x1_panels(layer));
  }
  pack_conv3x3(arrays.conv3x3, config_.conv3x3_in_channels(layer), config_.growth_rate, false,
               conv3x3_panels(layer));
}

template <class T>
void StageWorker<T>::layer_forward(int layer) {
  const auto& arrays = buffers_.arrays.layers[layer];
  const int in_channels = config_.layer_in_channels(layer);
  // The channels that the previous layer wrote; all channels of the input for the first layer.
  finish_statistics(kMaps, layer ? in_channels - config_.growth_rate : 0, in_channels,
                    &map_statistics_);
  const BatchNormArrays& bn = config_.bottleneck ? arrays.bn1 : arrays.bn2;
  set_affine(bn, map_statistics_.mean.data(), map_statistics_.inv_std.data(), 0, in_channels,
             &map_affine_);
  update_running_stats(bn, map_statistics_, 0, in_channels);
  const float* const panels = conv3x3_panels(layer);
  if (!config_.bottleneck) {
    conv3x3_forward(maps_input(in_channels), panels, in_channels, config_.growth_rate);
    return;
  }
  conv1x1_forward(layer, true);
  barrier_->wait();
  normalize_bottleneck(layer, arrays.bn2, 0, config_.bottleneck);
  conv3x3_forward(bottleneck_input(layer, config_.bottleneck), panels, in_channels,
                  config_.growth_rate);
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
