// SPDX-License-Identifier: Apache-2.0
#include "training/stage_thread.h"

#include <algorithm>

#include "training/stage_layout.h"

namespace gluondense {

template <class T>
void StageThread<T>::pack_conv1x1(const Conv1x1Filters& filters, int in_channels, int out_channels,
                                  T* panels) const {
  constexpr int kDepth = kProductDepth<T>;
  const int depth = product_depth<T>(in_channels);
  const auto [first, last] = share(std::int64_t{panel_count(out_channels)} * depth);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t panel = i / depth, k = i % depth, part = k % kDepth;
    T* const row = panels + (i - part) * kPanelWidth + part;
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const std::int64_t n = panel * kPanelWidth + lane;
      const bool valid = n < out_channels && k < in_channels;
      row[lane * kDepth] = T(valid ? filters.filter(n, in_channels)[k] : 0.0f);
    }
  }
}

template <class T>
void StageThread<T>::pack_conv1x1_t(const Conv1x1Filters& filters, int in_channels, int channels,
                                    int out_channels, T* panels) const {
  constexpr int kDepth = kProductDepth<T>;
  const int depth = product_depth<T>(out_channels);
  const auto [first, last] = share(std::int64_t{panel_count(channels)} * depth);
  for (std::int64_t i = first; i < last; ++i) {
    const int k = static_cast<int>(i / depth) * kPanelWidth;
    const std::int64_t n = i % depth, part = n % kDepth;
    const int valid = n < out_channels ? std::min(kPanelWidth, channels - k) : 0;
    const float* const filter = valid ? filters.filter(n, in_channels) + k : nullptr;
    T* const row = panels + (i - part) * kPanelWidth + part;
    for (int lane = 0; lane < valid; ++lane) row[lane * kDepth] = T(filter[lane]);
    for (int lane = valid; lane < kPanelWidth; ++lane) row[lane * kDepth] = T(0.0f);
  }
}

template <class T>
void StageThread<T>::reduce_d_conv1x1(float* sums, std::ptrdiff_t distance, int in_channels,
                                      int out_channels, const Conv1x1Filters& filters) const {
  const std::ptrdiff_t stride = pad_to_cache_line(out_channels);
  const auto [first, last] = share(panel_count(in_channels));
  for (std::int64_t panel = first; panel < last; ++panel) {
    const int begin = static_cast<int>(panel) * kPanelWidth;
    const int end = std::min(in_channels, begin + kPanelWidth);
    for (int k = begin; k < end; ++k) {
      float* const sum = sums + k * stride;
      for (int t = 1; t < threads(); ++t) {
        const float* const other = sum + t * distance;
        for (int n = 0; n < out_channels; ++n) sum[n] += other[n];
      }
    }
    for (int n = 0; n < out_channels; ++n) {
      float* const filter = filters.filter(n, in_channels);
      for (int k = begin; k < end; ++k) filter[k] = sums[k * stride + n];
    }
  }
}

template class StageThread<float>;
template class StageThread<Bf16>;

}  // namespace gluondense
