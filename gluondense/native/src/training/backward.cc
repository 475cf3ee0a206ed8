// SPDX-License-Identifier: Apache-2.0
// The backward pass of a dense stage: the sequence of steps.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {

template <class T>
void StageWorker<T>::backward(Barrier& barrier, const float* dy, float* dx,
                              const DenseStageArrays& gradients) {
  barrier_ = &barrier;
  bypass_backward(dy, dx);
  dy += config_.bypass_out_floats(), dx += config_.bypass_floats();
  const int total = config_.total_channels(), last_layer = config_.layers - 1;
  if (config_.kind == DenseStageConfig::kTwoWay) {
    two_way_backward(dy, gradients);
    return input_backward(dx);
  }
  tail_backward(dy);
  pack_recompute_filters(last_layer);
  barrier.wait();
  if (config_.tail != DenseStageConfig::kFeatures) {
    finish_bn_backward(kMaps, buffers_.arrays.tail_bn, gradients.tail_bn, 0, total,
                       buffers_.saved.inv_std.data(), &map_correction_);
  }
  if (config_.tail == DenseStageConfig::kTransition) {
    reduce_d_conv1x1(total, config_.out_channels, gradients.tail_conv);
  }
  for (int layer = last_layer; layer >= 0; --layer) {
    layer_backward(layer, gradients.layers[layer]);
  }
  input_backward(dx);
}

template <class T>
void StageWorker<T>::layer_backward(int layer, const DenseStageArrays::Layer& gradients) {
  const SavedForBackward& saved = buffers_.saved;
  const auto& arrays = buffers_.arrays.layers[layer];
  const int in_channels = config_.layer_in_channels(layer);
  finish_d_new_maps(in_channels, config_.growth_rate);
  set_affine(config_.bottleneck ? arrays.bn1 : arrays.bn2, saved.mean.data(), saved.inv_std.data(),
             0, in_channels, &map_affine_);
  if (config_.recompute_bottleneck) conv1x1_forward(layer, false);
  pack_conv3x3(arrays.conv3x3, config_.conv3x3_in_channels(layer), config_.growth_rate, true,
               conv3x3_panels(0));
  if (config_.bottleneck) {
    pack_conv1x1_t(arrays.conv1x1, in_channels, config_.bottleneck, conv1x1_panels_t());
  }
  barrier_->wait();
  if (config_.bottleneck) {
    bottleneck_backward(layer, gradients);
  } else {
    const BnReluInput<T> input = maps_input(in_channels), dy = d_new_maps(config_.growth_rate);
    reset_sums(kMaps);
    conv3x3_backward_data(dy, conv3x3_panels(0), input, maps_gradient(0, true));
    conv3x3_backward_filter(input, dy, d_conv3x3(rank_, 0));
    barrier_->wait();
    reduce_d_conv3x3(0, in_channels, config_.growth_rate, gradients.conv3x3);
  }
  const bool bottleneck = config_.bottleneck > 0;
  finish_bn_backward(kMaps, bottleneck ? arrays.bn1 : arrays.bn2,
                     bottleneck ? gradients.bn1 : gradients.bn2, 0, in_channels,
                     saved.inv_std.data(), &map_correction_);
}

// Propagates the gradient of a layer's new maps through both convolutions.
template <class T>
void StageWorker<T>::bottleneck_backward(int layer, const DenseStageArrays::Layer& gradients) {
  const auto& arrays = buffers_.arrays.layers[layer];
  const int in_channels = config_.layer_in_channels(layer), channels = config_.bottleneck;
  set_bottleneck_affine(layer, arrays.bn2, 0, channels);
  const BnReluInput<T> input = bottleneck_input(layer, channels);
  const BnReluInput<T> dy = d_new_maps(config_.growth_rate);
  reset_sums(layer);
  conv3x3_backward_data(dy, conv3x3_panels(0), input, bottleneck_gradient(layer));
  conv3x3_backward_filter(input, dy, d_conv3x3(rank_, 0));
  pack_recompute_filters(layer - 1);
  barrier_->wait();
  reduce_d_conv3x3(0, channels, config_.growth_rate, gradients.conv3x3);
  finish_bottleneck_backward(layer, arrays.bn2, gradients.bn2, 0, channels);
  set_correction(bottleneck_correction_,
                 buffers_.saved.bottleneck_mean.data() + bottleneck_offset(layer), 0, channels);
  reset_sums(kMaps);
  conv1x1_backward(layer);
  barrier_->wait();
  reduce_d_conv1x1(in_channels, channels, gradients.conv1x1);
}

// Packs the filters that recompute a layer's bottleneck.
template <class T>
void StageWorker<T>::pack_recompute_filters(int layer) const {
  if (!config_.recompute_bottleneck || layer < 0) return;
  if (config_.kind == DenseStageConfig::kTwoWay) return pack_two_way_conv1x1(layer);
  pack_conv1x1(buffers_.arrays.layers[layer].conv1x1, config_.layer_in_channels(layer),
               config_.bottleneck, conv1x1_panels(layer));
}

// Writes the gradient of the stage's input, once all layers have added to it in d_maps.
template <class T>
void StageWorker<T>::input_backward(float* dx) {
  const int channels = config_.in_channels, stride = pad_to_cache_line(channels);
  set_correction(map_correction_, buffers_.saved.mean.data(), 0, channels);
  const auto buffer = scratch<RowsScratch<T>>(stride);
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    for (int i = 0; i < count; ++i) {
      kernels().add_affine(d_map(pixel + i), map(pixel + i), correction_.scale.data(),
                           correction_.shift.data(), buffer.rows + i * stride, channels);
    }
    nhwc_to_nchw(buffer.rows, stride, channels, pixel, count, config_.height * config_.width, dx,
                 config_.image_in_channels());
  });
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
