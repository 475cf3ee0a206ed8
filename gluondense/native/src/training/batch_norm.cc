// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "training/stage_worker.h"

namespace gluondense {

ChannelSums StageWorker::channel_sums(int thread, int layer) const {
  double* const sums = buffers_.thread_sums + thread * layout_.thread_sums;
  if (layer == kMaps) return {sums, sums + layout_.map_sums};
  double* const bottleneck = sums + 2 * (layout_.map_sums + layer * layout_.bottleneck_sums);
  return {bottleneck, bottleneck + layout_.bottleneck_sums};
}

// Returns both sums of a channel over all threads. The order of the additions is fixed, so that
// runs with the same number of threads are bitwise equal.
std::pair<double, double> StageWorker::total_sums(int layer, int channel) const {
  double first = 0, second = 0;
  for (int t = 0; t < threads(); ++t) {
    const ChannelSums sums = channel_sums(t, layer);
    first += sums.first[channel];
    second += sums.second[channel];
  }
  return {first, second};
}

// Computes the statistics of channels [first, last).
void StageWorker::finish_statistics(int layer, int first, int last,
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

// Sets scale_ and shift_ to those of a batch normalization.
void StageWorker::set_affine(const BatchNormArrays& bn, const float* mean, const float* inv_std,
                             int channels) {
  for (int c = 0; c < channels; ++c) {
    scale_[c] = bn.gamma[c] * inv_std[c];
    shift_[c] = bn.beta[c] - mean[c] * scale_[c];
  }
}

void StageWorker::update_running_stats(const BatchNormArrays& bn, const BatchStatistics& statistics,
                                       int channels) const {
  if (rank_ != 0) return;
  const float old = config_.momentum, update = 1 - config_.momentum;
  for (int c = 0; c < channels; ++c) {
    bn.running_mean[c] = bn.running_mean[c] * old + statistics.mean[c] * update;
    bn.running_var[c] = bn.running_var[c] * old + static_cast<float>(statistics.var[c]) * update;
  }
}

// Writes the gradients of gamma and beta, and adds to the correction, which sums over layers. In
// dx = scale * (dy - mean(dy) - xhat * mean(dy * xhat)), BnReluBackward has computed the first
// term; the other two are the correction.
void StageWorker::finish_bn_backward(int layer, const BatchNormArrays& bn,
                                     const BatchNormArrays& gradient, int channels,
                                     const float* inv_std, BnCorrection* correction) const {
  const double pixels = static_cast<double>(config_.pixels());
  for (int c = 0; c < channels; ++c) {
    const auto [sum_dy, sum_dy_xmu] = total_sums(layer, c);
    if (rank_ == 0) {
      gradient.beta[c] = static_cast<float>(sum_dy);
      gradient.gamma[c] = static_cast<float>(sum_dy_xmu * inv_std[c]);
    }
    const double scale = static_cast<double>(bn.gamma[c]) * inv_std[c] / pixels;
    correction->d_mean[c] += scale * sum_dy;
    correction->d_xhat[c] += scale * inv_std[c] * inv_std[c] * sum_dy_xmu;
  }
}

// Converts the correction of channels [first, first + count) to a scale and a shift.
void StageWorker::set_correction(const BnCorrection& correction, const float* mean, int first,
                                 int count) {
  for (int c = 0; c < count; ++c) {
    const double d_xhat = correction.d_xhat[first + c];
    correction_scale_[c] = static_cast<float>(-d_xhat);
    correction_shift_[c] =
        static_cast<float>(d_xhat * mean[first + c] - correction.d_mean[first + c]);
  }
}

}  // namespace gluondense
