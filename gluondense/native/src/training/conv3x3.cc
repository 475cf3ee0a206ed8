// SPDX-License-Identifier: Apache-2.0
// The 3x3 convolutions of the layers: in bfloat16 without a transform where the processor
// multiplies it fast, and else with Winograd's algorithm.
#include "training/stage_worker.h"

namespace gluondense {

template <class T>
void StageWorker<T>::pack_conv3x3(const float* weight, int in_channels, int out_channels,
                                  bool transposed, float* panels) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_direct_conv3x3()) {
      return direct_pack_conv3x3(weight, in_channels, out_channels, transposed, panels);
    }
  }
  winograd_pack_conv3x3(weight, in_channels, out_channels, transposed, panels);
}

template <class T>
void StageWorker<T>::conv3x3_forward(const BnReluInput<T>& input, const float* panels, int first,
                                     int out_channels) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_direct_conv3x3()) {
      return direct_conv3x3_forward(input, panels, first, out_channels);
    }
  }
  winograd_conv3x3_forward(input, panels, first, out_channels);
}

template <class T>
void StageWorker<T>::conv3x3_backward_data(const BnReluInput<T>& dy, const float* panels,
                                           const BnReluInput<T>& input,
                                           const BnReluGradient<T>& gradient) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_direct_conv3x3()) return direct_conv3x3_backward_data(dy, panels, input, gradient);
  }
  winograd_conv3x3_backward_data(dy, panels, input, gradient);
}

template <class T>
void StageWorker<T>::conv3x3_backward_filter(const BnReluInput<T>& input, const BnReluInput<T>& dy,
                                             float* d_filters) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_direct_conv3x3()) return direct_conv3x3_backward_filter(input, dy, d_filters);
  }
  winograd_conv3x3_backward_filter(input, dy, d_filters);
}

template <class T>
void StageWorker<T>::reduce_d_conv3x3(int conv, int in_channels, int out_channels,
                                      float* weight) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (has_direct_conv3x3()) {
      return direct_reduce_d_conv3x3(conv, in_channels, out_channels, weight);
    }
  }
  winograd_reduce_d_conv3x3(conv, in_channels, out_channels, weight);
}

// Copies the gradient of the maps [channel, channel + count), once all layers have added to it, and
// corrects it. `first` is the first column of the copy.
template <class T>
void StageWorker<T>::finish_d_new_maps(int channel, int count, int first) {
  set_correction(map_correction_, buffers_.saved.mean.data(), channel, count);
  constexpr int kAhead = 32;  // pixels: new maps are few cache lines of each
  const auto [begin, end] = share(config_.pixels());
  for (std::int64_t pixel = begin; pixel < end; ++pixel) {
    const T* const d_later = d_map(pixel + kAhead) + channel;
    const T* const later = map(pixel + kAhead) + channel;
    __builtin_prefetch(d_later), __builtin_prefetch(d_later + count - 1);
    __builtin_prefetch(later), __builtin_prefetch(later + count - 1);
    kernels().add_affine(d_map(pixel) + channel, map(pixel) + channel, correction_.scale.data(),
                         correction_.shift.data(),
                         buffers_.d_new_maps + pixel * layout_.growth_stride + first, count);
  }
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
