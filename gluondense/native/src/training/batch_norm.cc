// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "training/stage_worker.h"

namespace gluondense {

template <class T>
ChannelSums StageWorker<T>::channel_sums(int thread, int layer) const {
  double* const sums = buffers_.thread_sums + thread * layout_.thread_sums;
  if (layer == kMaps) return {sums, sums + layout_.map_sums};
  double* const bottleneck = sums + 2 * (layout_.map_sums + layer * layout_.bottleneck_sums);
  return {bottleneck, bottleneck + bottleneck_stride(layer)};
}

template <class T>
void StageWorker<T>::reset_sums(int layer) const {
  const ChannelSums sums = channel_sums(rank_, layer);
  std::fill(sums.first, sums.second + (sums.second - sums.first), 0.0);
}

// Returns both sums of a channel over all threads. The order of the additions is fixed, so that
// runs with the same number of threads are bitwise equal.
template <class T>
std::pair<double, double> StageWorker<T>::total_sums(int layer, int channel) const {
  double first = 0, second = 0;
  for (int t = 0; t < threads(); ++t) {
    const ChannelSums sums = channel_sums(t, layer);
    first += sums.first[channel];
    second += sums.second[channel];
  }
  return {first, second};
}

// Computes the statistics of channels [first, last).
template <class T>
void StageWorker<T>::finish_statistics(int layer, int first, int last,
                                       BatchStatistics* statistics) const {
  const double pixels = static_cast<double>(config_.pixels());
  for (int c = first; c < last; ++c) {
    const auto [sum, square] = total_sums(layer, c);
    const double mean = sum / pixels;
    const double var = std::max(0.0, square / pixels - mean * mean);
    statistics->var[c] = var;
    statistics->mean[c] = static_cast<float>(mean);
    statistics->inv_std[c] = static_cast<float>(1 / std::sqrt(var + config_.eps));
  }
}

// Updates the running statistics of a normalization of the channels [first, first + channels).
template <class T>
void StageWorker<T>::update_running_stats(const BatchNormArrays& bn,
                                          const BatchStatistics& statistics, int first,
                                          int channels) const {
  if (rank_ != 0) return;
  const float old = config_.momentum, update = 1 - config_.momentum;
  for (int c = 0; c < channels; ++c) {
    const float mean = statistics.mean[first + c];
    const float var = static_cast<float>(statistics.var[first + c]);
    bn.running_mean[c] = bn.running_mean[c] * old + mean * update;
    bn.running_var[c] = bn.running_var[c] * old + var * update;
  }
}

// Computes and saves the statistics of the channels [first, first + channels) of a bottleneck, and
// sets the scale and shift of their normalization.
template <class T>
void StageWorker<T>::normalize_bottleneck(int layer, const BatchNormArrays& bn, int first,
                                          int channels) {
  BatchStatistics& statistics = bottleneck_statistics_;
  finish_statistics(layer, first, first + channels, &statistics);
  const float* const mean = statistics.mean.data() + first;
  const float* const inv_std = statistics.inv_std.data() + first;
  set_affine(bn, mean, inv_std, first, channels, &bottleneck_affine_);
  update_running_stats(bn, statistics, first, channels);
  if (rank_ != 0) return;
  const std::ptrdiff_t offset = bottleneck_offset(layer) + first;
  std::copy_n(mean, channels, buffers_.saved.bottleneck_mean.data() + offset);
  std::copy_n(inv_std, channels, buffers_.saved.bottleneck_inv_std.data() + offset);
}

// Sets the scale and shift of the same normalization from the saved statistics.
template <class T>
void StageWorker<T>::set_bottleneck_affine(int layer, const BatchNormArrays& bn, int first,
                                           int channels) {
  const std::ptrdiff_t offset = bottleneck_offset(layer) + first;
  set_affine(bn, buffers_.saved.bottleneck_mean.data() + offset,
             buffers_.saved.bottleneck_inv_std.data() + offset, first, channels,
             &bottleneck_affine_);
}

// Writes the gradients of a bottleneck's normalization, and adds to bottleneck_correction_.
template <class T>
void StageWorker<T>::finish_bottleneck_backward(int layer, const BatchNormArrays& bn,
                                                const BatchNormArrays& gradient, int first,
                                                int channels) {
  std::fill_n(bottleneck_correction_.d_mean.data() + first, channels, 0.0);
  std::fill_n(bottleneck_correction_.d_xhat.data() + first, channels, 0.0);
  finish_bn_backward(layer, bn, gradient, first, channels,
                     buffers_.saved.bottleneck_inv_std.data() + bottleneck_offset(layer) + first,
                     &bottleneck_correction_);
}

// Writes the gradients of gamma and beta, and adds to the correction, which sums over layers, for
// the channels [first, first + channels); inv_std is that of channel `first`. In
// dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat)), BnReluBackward has computed the first
// term; the other two are the correction.
template <class T>
void StageWorker<T>::finish_bn_backward(int layer, const BatchNormArrays& bn,
                                        const BatchNormArrays& gradient, int first, int channels,
                                        const float* inv_std, BnCorrection* correction) const {
  const double pixels = static_cast<double>(config_.pixels());
  for (int c = 0; c < channels; ++c) {
    const auto [sum_dy, sum_dy_xmu] = total_sums(layer, first + c);
    if (rank_ == 0) {
      gradient.beta[c] = static_cast<float>(sum_dy);
      gradient.gamma[c] = static_cast<float>(sum_dy_xmu * inv_std[c]);
    }
    const double scale = static_cast<double>(bn.gamma[c]) * inv_std[c] / pixels;
    correction->d_mean[first + c] += scale * sum_dy;
    correction->d_xhat[first + c] += scale * inv_std[c] * inv_std[c] * sum_dy_xmu;
  }
}

// Converts the correction of channels [first, first + count) to a scale and a shift.
template <class T>
void StageWorker<T>::set_correction(const BnCorrection& correction, const float* mean, int first,
                                    int count) {
  for (int c = 0; c < count; ++c) {
    const double d_xhat = correction.d_xhat[first + c];
    correction_.scale[c] = static_cast<float>(-d_xhat);
    correction_.shift[c] =
        static_cast<float>(d_xhat * mean[first + c] - correction.d_mean[first + c]);
  }
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
