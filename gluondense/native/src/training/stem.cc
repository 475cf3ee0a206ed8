// SPDX-License-Identifier: Apache-2.0
#include "training/stem.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

#include "training/stem_worker.h"
#include "training/workspace.h"

namespace gluondense {
namespace {

// The memory of both passes.
template <class T>
StemBuffers<T> make_buffers(const StemConfig& config, const StemLayout<T>& layout,
                            const float* filters, AlignedBuffer& conv, AlignedBuffer& argmax,
                            const WorkspaceLease& work) {
  const int threads = num_threads();
  StemBuffers<T> buffers = {config, layout};
  buffers.conv = (config.recompute ? work->d_maps : conv)
                     .template reserve<T>(config.conv_pixels() * layout.stride);
  buffers.argmax = argmax.reserve<std::uint8_t>(config.out_pixels() * layout.stride);
  buffers.panels = work->conv1x1_panels.reserve<T>(panel_count(layout.stride) * layout.panel);
  buffers.thread_sums = work->thread_sums.reserve<double>(std::size_t{2} * threads * layout.stride);
  buffers.scratch = work->scratch.reserve<char>(threads * layout.scratch);
  std::fill_n(buffers.thread_sums, std::ptrdiff_t{2} * threads * layout.stride, 0.0);
  pack_stem_filters(config, layout, filters, buffers.panels);
  return buffers;
}

// Calls step(worker) in each thread.
template <class T, class Step>
void run(const StemBuffers<T>& buffers, Step step) {
  parallel(num_threads(), [&](const Barrier& barrier, int rank) {
    const TileRegisters registers;
    step(StemWorker<T>(buffers, rank, barrier.size()));
  });
}

// Both sums of a channel over all threads, in a fixed order.
template <class T>
std::pair<double, double> total_sums(const StemBuffers<T>& buffers, int channel) {
  const int stride = buffers.layout.stride;
  double first = 0, second = 0;
  for (int t = 0; t < num_threads(); ++t) {
    const double* const sums = buffers.thread_sums + std::ptrdiff_t{2} * t * stride + channel;
    first += sums[0], second += sums[stride];
  }
  return {first, second};
}

Affine make_affine(int channels) {
  return {std::vector<float>(channels), std::vector<float>(channels)};
}

}  // namespace

void Stem::forward(const StemConfig& config, const float* x, const ConvBnArrays& arrays, float* y) {
  has_forward_ = false;
  inference_kernels();  // throws if the processor lacks the requested instruction set
  config_ = config;
  config_.bf16 ? forward_in<Bf16>(x, arrays, y) : forward_in<float>(x, arrays, y);
  has_forward_ = true;
}

void Stem::backward(const float* dy, const float* x, const ConvBnArrays& arrays,
                    const ConvBnArrays& gradients) {
  if (!has_forward_) throw std::logic_error("backward without a forward pass");
  config_.bf16 ? backward_in<Bf16>(dy, x, arrays, gradients)
               : backward_in<float>(dy, x, arrays, gradients);
}

template <class T>
void Stem::forward_in(const float* x, const ConvBnArrays& arrays, float* y) {
  const StemLayout<T> layout(config_);
  const WorkspaceLease work;
  auto buffers = make_buffers(config_, layout, arrays.conv, conv_, argmax_, work);
  mean_.assign(layout.stride, 0), inv_std_.assign(layout.stride, 0);
  Affine affine = make_affine(layout.stride);
  run(buffers, [&](const StemWorker<T>& worker) { worker.convolve(x, true); });

  const double pixels = static_cast<double>(config_.conv_pixels());
  const float old = config_.momentum, update = 1 - config_.momentum;
  for (int c = 0; c < config_.out_channels; ++c) {
    const auto [sum, square] = total_sums(buffers, c);
    const double mean = sum / pixels, var = std::max(0.0, square / pixels - mean * mean);
    mean_[c] = static_cast<float>(mean);
    inv_std_[c] = static_cast<float>(1 / std::sqrt(var + config_.eps));
    const BatchNormArrays& bn = arrays.bn;
    bn.running_mean[c] = bn.running_mean[c] * old + mean_[c] * update;
    bn.running_var[c] = bn.running_var[c] * old + static_cast<float>(var) * update;
  }
  set_affine(arrays.bn, mean_.data(), inv_std_.data(), 0, config_.out_channels, &affine);
  buffers.scale = affine.scale.data(), buffers.shift = affine.shift.data();
  run(buffers, [&](const StemWorker<T>& worker) { worker.pool(y); });
}

template <class T>
void Stem::backward_in(const float* dy, const float* x, const ConvBnArrays& arrays,
                       const ConvBnArrays& gradients) {
  const StemLayout<T> layout(config_);
  const WorkspaceLease work;
  auto buffers = make_buffers(config_, layout, arrays.conv, conv_, argmax_, work);
  buffers.d_filters = work->d_filters.reserve<float>(num_threads() * layout.d_filters);
  std::fill_n(buffers.d_filters, num_threads() * layout.d_filters, 0.0f);
  Affine affine = make_affine(layout.stride);
  set_affine(arrays.bn, mean_.data(), inv_std_.data(), 0, config_.out_channels, &affine);
  buffers.mean = mean_.data();
  buffers.scale = affine.scale.data(), buffers.shift = affine.shift.data();
  buffers.correction = make_affine(layout.stride);
  if (config_.recompute) {
    run(buffers, [&](const StemWorker<T>& worker) { worker.convolve(x, false); });
  }
  run(buffers, [&](const StemWorker<T>& worker) { worker.sum_gradient(dy); });

  const double pixels = static_cast<double>(config_.conv_pixels());
  for (int c = 0; c < config_.out_channels; ++c) {
    const auto [sum_dy, sum_dy_xmu] = total_sums(buffers, c);
    gradients.bn.beta[c] = static_cast<float>(sum_dy);
    gradients.bn.gamma[c] = static_cast<float>(sum_dy_xmu * inv_std_[c]);
    const double scale = static_cast<double>(affine.scale[c]) / pixels;
    const double d_xhat = scale * inv_std_[c] * inv_std_[c] * sum_dy_xmu;
    buffers.correction.scale[c] = static_cast<float>(-d_xhat);
    buffers.correction.shift[c] = static_cast<float>(d_xhat * mean_[c] - scale * sum_dy);
  }
  run(buffers, [&](const StemWorker<T>& worker) { worker.filter_gradient(x, dy); });

  constexpr int kTaps = StemConfig::kKernel * StemConfig::kKernel;
  float* filter = gradients.conv;
  for (int n = 0; n < config_.out_channels; ++n) {
    for (int c = 0; c < config_.in_channels; ++c) {
      for (int tap = 0; tap < kTaps; ++tap, ++filter) {
        const float* const sums =
            buffers.d_filters + (std::ptrdiff_t{tap} * config_.in_channels + c) * layout.stride + n;
        *filter = 0;
        for (int t = 0; t < num_threads(); ++t) *filter += sums[t * layout.d_filters];
      }
    }
  }
}

}  // namespace gluondense
