// SPDX-License-Identifier: Apache-2.0
// Two-way dense layers, PeleeNet's, of Conv-BN-ReLU units.
//
// The buffer of the maps has the outputs of the convolutions; their readers apply BN-ReLU. Unlike
// in pre-activation layers, all readers of a channel share one normalization, so its scale and
// shift stay set, and the gradients and sums that the readers add are already those of that
// normalization. The stage's input is read with scale 1 and shift 0.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {
namespace {

Conv1x1Filters conv1x1_filters(const DenseStageArrays::TwoWayLayer& layer, int split) {
  return {layer.conv1x1[0].conv, layer.conv1x1[1].conv, split};
}

}  // namespace

// The channels of a 3x3 convolution of a layer. The first two read the bottleneck.
template <class T>
struct StageWorker<T>::Conv3x3 {
  int in_first, in_channels, out_first, out_channels;
  int dy_first;  // of the output's gradient in d_new_maps
};

template <class T>
std::array<typename StageWorker<T>::Conv3x3, 3> StageWorker<T>::two_way_convs(int layer) const {
  const int width = config_.branch_bottleneck(), maps = config_.layer_in_channels(layer);
  const int first = config_.first_branch_channels(), second = config_.second_branch_channels();
  const int inner = config_.inner_channel(layer);
  return {{{0, width, maps, first, 0},
           {width, width, inner, second, config_.growth_rate},
           {inner, second, maps + first, second, first}}};
}

template <class T>
void StageWorker<T>::pack_two_way_conv1x1(int layer) const {
  pack_conv1x1(conv1x1_filters(buffers_.arrays.two_way_layers[layer], config_.branch_bottleneck()),
               config_.layer_in_channels(layer), config_.bottleneck, conv1x1_panels(layer));
}

template <class T>
void StageWorker<T>::pack_two_way_conv3x3(int layer, bool transposed) const {
  const auto convs = two_way_convs(layer);
  for (int i = 0; i < 3; ++i) {
    pack_conv3x3(buffers_.arrays.two_way_layers[layer].conv3x3[i].conv, convs[i].in_channels,
                 convs[i].out_channels, transposed, conv3x3_panels(transposed ? 0 : layer, i));
  }
}

// The input has no normalization.
template <class T>
void StageWorker<T>::two_way_set_input_affine() {
  std::fill_n(map_affine_.scale.begin(), config_.in_channels, 1.0f);
  std::fill_n(map_affine_.shift.begin(), config_.in_channels, 0.0f);
}

// Normalizes the maps [first, first + channels).
template <class T>
void StageWorker<T>::normalize_maps(const BatchNormArrays& bn, int first, int channels) {
  BatchStatistics& statistics = map_statistics_;
  finish_statistics(kMaps, first, first + channels, &statistics);
  set_affine(bn, statistics.mean.data() + first, statistics.inv_std.data() + first, first, channels,
             &map_affine_);
  update_running_stats(bn, statistics, first, channels);
}

template <class T>
void StageWorker<T>::two_way_layer_forward(int layer) {
  const auto& arrays = buffers_.arrays.two_way_layers[layer];
  const auto convs = two_way_convs(layer);
  const int width = config_.branch_bottleneck();
  const auto conv3x3 = [&](int i, const BnReluInput<T>& input) {
    conv3x3_forward(input, conv3x3_panels(layer, i), convs[i].out_first, convs[i].out_channels);
  };
  conv1x1_forward(layer, true);
  barrier_->wait();
  for (int branch : {0, 1}) {
    normalize_bottleneck(layer, arrays.conv1x1[branch].bn, branch * width, width);
    conv3x3(branch, bottleneck_input(layer, width, branch * width));
  }
  barrier_->wait();
  normalize_maps(arrays.conv3x3[1].bn, convs[1].out_first, convs[1].out_channels);
  conv3x3(2, maps_input(convs[2].in_channels, convs[2].in_first));
}

// Normalizes the new maps of a layer, once all threads have written theirs.
template <class T>
void StageWorker<T>::two_way_finish_layer(int layer) {
  const auto convs = two_way_convs(layer);
  for (int i : {0, 2}) {
    normalize_maps(buffers_.arrays.two_way_layers[layer].conv3x3[i].bn, convs[i].out_first,
                   convs[i].out_channels);
  }
}

template <class T>
void StageWorker<T>::two_way_backward(const float* dy, const DenseStageArrays& gradients) {
  const SavedForBackward& saved = buffers_.saved;
  two_way_set_input_affine();
  for (int layer = 0; layer < config_.layers; ++layer) {
    const auto convs = two_way_convs(layer);
    for (int i = 0; i < 3; ++i) {
      const int first = convs[i].out_first;
      set_affine(buffers_.arrays.two_way_layers[layer].conv3x3[i].bn, saved.mean.data() + first,
                 saved.inv_std.data() + first, first, convs[i].out_channels, &map_affine_);
    }
  }
  reset_sums(kMaps);
  if (config_.tail == DenseStageConfig::kTransition) {
    two_way_transition_backward(dy, gradients);
  } else {
    bn_relu_backward(dy);
  }
  pack_recompute_filters(config_.layers - 1);
  barrier_->wait();
  for (int layer = config_.layers - 1; layer >= 0; --layer) {
    two_way_layer_backward(layer, gradients.two_way_layers[layer]);
  }
}

// Finishes the gradient of a 3x3 convolution's output, and copies it to d_new_maps.
template <class T>
void StageWorker<T>::finish_d_conv3x3(const Conv3x3& conv, const BatchNormArrays& bn,
                                      const BatchNormArrays& gradient) {
  finish_bn_backward(kMaps, bn, gradient, conv.out_first, conv.out_channels,
                     buffers_.saved.inv_std.data() + conv.out_first, &map_correction_);
  finish_d_new_maps(conv.out_first, conv.out_channels, conv.dy_first);
}

template <class T>
void StageWorker<T>::two_way_layer_backward(int layer,
                                            const DenseStageArrays::TwoWayLayer& gradients) {
  const auto& arrays = buffers_.arrays.two_way_layers[layer];
  const auto convs = two_way_convs(layer);
  const int in_channels = config_.layer_in_channels(layer), width = config_.branch_bottleneck();
  for (int i : {0, 2}) finish_d_conv3x3(convs[i], arrays.conv3x3[i].bn, gradients.conv3x3[i].bn);
  if (config_.recompute_bottleneck) conv1x1_forward(layer, false);
  pack_two_way_conv3x3(layer, true);
  pack_conv1x1_t(conv1x1_filters(arrays, width), in_channels, config_.bottleneck,
                 conv1x1_panels_t());
  reset_sums(layer);
  barrier_->wait();
  const auto backward = [&](int i, const BnReluInput<T>& input, const BnReluGradient<T>& gradient) {
    const BnReluInput<T> dy = d_new_maps(convs[i].out_channels, convs[i].dy_first);
    conv3x3_backward_data(dy, conv3x3_panels(0, i), input, gradient);
    conv3x3_backward_filter(input, dy, d_conv3x3(rank_, i));
  };
  const auto reduce = [&](int i) {
    reduce_d_conv3x3(i, convs[i].in_channels, convs[i].out_channels, gradients.conv3x3[i].conv);
  };
  backward(2, maps_input(convs[2].in_channels, convs[2].in_first),
           maps_gradient(convs[2].in_first, false));
  barrier_->wait();
  reduce(2);
  finish_d_conv3x3(convs[1], arrays.conv3x3[1].bn, gradients.conv3x3[1].bn);
  barrier_->wait();
  for (int i : {0, 1}) {
    set_bottleneck_affine(layer, arrays.conv1x1[i].bn, i * width, width);
    backward(i, bottleneck_input(layer, width, i * width), bottleneck_gradient(layer, i * width));
  }
  pack_recompute_filters(layer - 1);
  barrier_->wait();
  for (int i : {0, 1}) {
    reduce(i);
    finish_bottleneck_backward(layer, arrays.conv1x1[i].bn, gradients.conv1x1[i].bn, i * width,
                               width);
  }
  set_correction(bottleneck_correction_,
                 buffers_.saved.bottleneck_mean.data() + bottleneck_offset(layer), 0,
                 config_.bottleneck);
  conv1x1_backward(layer);
  barrier_->wait();
  reduce_d_conv1x1(in_channels, config_.bottleneck, conv1x1_filters(gradients, width));
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
