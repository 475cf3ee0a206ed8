// SPDX-License-Identifier: Apache-2.0
// Batch normalizations: see batch_norm.cc, whose formulas these are.
#include <algorithm>
#include <cmath>

#include "training/norm_conv/norm_conv.h"

namespace gluondense {
namespace {

// The arrays from a channel on.
BatchNormArrays from_channel(const BatchNormArrays& bn, int channel) {
  const auto from = [=](float* array) { return array ? array + channel : nullptr; };
  return {from(bn.gamma), from(bn.beta), from(bn.running_mean), from(bn.running_var)};
}

}  // namespace

template <class T>
NormConvWorker<T>::NormConvWorker(const NormConvBuffers& shared, int rank)
    : Thread(rank), shared_(shared) {
  const std::size_t size = shared.layout.statistics;
  statistics_ = {std::vector<float>(size), std::vector<float>(size), std::vector<double>(size)};
  affine_ = {std::vector<float>(size), std::vector<float>(size)};
  correction_ = affine_;
  bn_correction_ = {std::vector<double>(size), std::vector<double>(size)};
}

template <class T>
ChannelSums NormConvWorker<T>::channel_sums(int thread, int statistics) const {
  const NormConvLayout& layout = shared_.layout;
  double* const sums = shared_.thread_sums + thread * layout.thread_sums() + statistics;
  return {sums, sums + layout.statistics};
}

template <class T>
void NormConvWorker<T>::reset_sums(const ConvInput<T>& input) const {
  for (const auto& part : input) {
    const ChannelSums sums = channel_sums(rank_, part.statistics);
    std::fill_n(sums.first, part.channels, 0.0);
    std::fill_n(sums.second, part.channels, 0.0);
  }
}

// Computes the statistics of channels that have `pixels` pixels. The order of the additions is
// fixed, so that runs with the same number of threads are bitwise equal.
template <class T>
void NormConvWorker<T>::finish_statistics(int first, int channels, std::int64_t pixels) {
  const double count = static_cast<double>(pixels);
  for (int c = first; c < first + channels; ++c) {
    double sum = 0, square = 0;
    for (int t = 0; t < threads(); ++t) {
      const ChannelSums sums = channel_sums(t, c);
      sum += *sums.first, square += *sums.second;
    }
    const double mean = sum / count, var = std::max(0.0, square / count - mean * mean);
    statistics_.var[c] = var;
    statistics_.mean[c] = static_cast<float>(mean);
    statistics_.inv_std[c] = static_cast<float>(1 / std::sqrt(var + shared_.eps));
  }
}

// Sets the scale and shift of an input's normalization.
template <class T>
void NormConvWorker<T>::set_input_affine(const BatchNormArrays& bn, const ConvInput<T>& input) {
  int channel = 0;
  for (const auto& part : input) {
    set_affine(from_channel(bn, channel), statistics_.mean.data() + part.statistics,
               statistics_.inv_std.data() + part.statistics, part.statistics, part.channels,
               &affine_);
    channel += part.channels;
  }
}

template <class T>
void NormConvWorker<T>::update_running_stats(const BatchNormArrays& bn,
                                             const ConvInput<T>& input) const {
  if (rank_ != 0) return;
  const float old = shared_.momentum, update = 1 - shared_.momentum;
  int channel = 0;
  for (const auto& part : input) {
    for (int c = part.statistics; c < part.statistics + part.channels; ++c, ++channel) {
      float *const mean = bn.running_mean + channel, *const var = bn.running_var + channel;
      *mean = *mean * old + statistics_.mean[c] * update;
      *var = *var * old + static_cast<float>(statistics_.var[c]) * update;
    }
  }
}

// Writes the gradients of gamma and beta, and adds to the correction of the input's gradient.
template <class T>
void NormConvWorker<T>::finish_bn_backward(const BatchNormArrays& bn,
                                           const BatchNormArrays& gradient,
                                           const ConvInput<T>& input, std::int64_t pixels) {
  int channel = 0;
  for (const auto& part : input) {
    for (int c = part.statistics; c < part.statistics + part.channels; ++c, ++channel) {
      double sum_dy = 0, sum_dy_xmu = 0;
      for (int t = 0; t < threads(); ++t) {
        const ChannelSums sums = channel_sums(t, c);
        sum_dy += *sums.first, sum_dy_xmu += *sums.second;
      }
      const double inv_std = statistics_.inv_std[c];
      if (rank_ == 0) {
        gradient.beta[channel] = static_cast<float>(sum_dy);
        gradient.gamma[channel] = static_cast<float>(sum_dy_xmu * inv_std);
      }
      const double scale = bn.gamma[channel] * inv_std / static_cast<double>(pixels);
      bn_correction_.d_mean[c] += scale * sum_dy;
      bn_correction_.d_xhat[c] += scale * inv_std * inv_std * sum_dy_xmu;
    }
  }
}

// Converts the correction of channels to a scale and a shift.
template <class T>
void NormConvWorker<T>::set_correction(int first, int channels) {
  for (int c = first; c < first + channels; ++c) {
    const double d_xhat = bn_correction_.d_xhat[c];
    correction_.scale[c] = static_cast<float>(-d_xhat);
    correction_.shift[c] =
        static_cast<float>(d_xhat * statistics_.mean[c] - bn_correction_.d_mean[c]);
  }
}

// Sets the arguments for the channels [first, first + count) of a normalized input.
template <class T>
void NormConvWorker<T>::set_channels(BnReluBackward<T>* args, const NormalizedMaps<T>& maps,
                                     int first, int count) const {
  const int place = maps.statistics + first;
  const ChannelSums sums = channel_sums(rank_, place);
  args->scale = affine_.scale.data() + place;
  args->shift = affine_.shift.data() + place;
  args->slope = maps.slope;
  args->mean = statistics_.mean.data() + place;
  args->sum_dy = sums.first;
  args->sum_dy_xmu = sums.second;
  args->channels = count;
}

template class NormConvWorker<float>;
template class NormConvWorker<Bf16>;

}  // namespace gluondense
