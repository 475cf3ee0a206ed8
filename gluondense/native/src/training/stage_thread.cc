// SPDX-License-Identifier: Apache-2.0
#include "training/stage_thread.h"

#include <algorithm>

#include "training/conv1x1.h"
#include "training/stage_layout.h"

namespace gluondense {

// Packs a matrix (depth, columns) into panels of columns; fill(panel, first row, rows, destination)
// writes rows (rows, kPanelWidth) of it, in which the destination has zeros.
template <class T>
template <class Fill>
void StageThread<T>::pack_panels(int depth, int columns, T* panels, Fill fill) const {
  constexpr int kRows = 64;
  const int padded = product_depth<T>(depth), chunks = div_up(padded, kRows);
  T buffer[kRows * kPanelWidth];
  const auto [first, last] = share(std::int64_t{panel_count(columns)} * chunks);
  for (std::int64_t i = first; i < last; ++i) {
    const int panel = static_cast<int>(i / chunks), row = static_cast<int>(i % chunks) * kRows;
    const int rows = std::min(kRows, padded - row);
    T* const destination = panels + (std::ptrdiff_t{panel} * padded + row) * kPanelWidth;
    T* const filled = kProductDepth<T> == 1 ? destination : buffer;
    std::fill_n(filled, rows * kPanelWidth, T(0.0f));
    fill(panel, row, std::min(rows, depth - row), filled);
    to_columns(filled, kPanelWidth, rows, kPanelWidth, destination);
  }
}

template <class T>
void StageThread<T>::pack_conv1x1(const Conv1x1Filters& filters, int in_channels, int out_channels,
                                  T* panels) const {
  pack_panels(in_channels, out_channels, panels, [&](int panel, int k, int rows, T* out) {
    const int first = panel * kPanelWidth, last = std::min(out_channels, first + kPanelWidth);
    filters.for_each_run(first, last, in_channels, [&](float* run, int n, int count) {
      kernels().planes_to_rows(run + k, in_channels, out + n - first, kPanelWidth, rows, count);
    });
  });
}

template <class T>
void StageThread<T>::pack_conv1x1_t(const Conv1x1Filters& filters, int in_channels, int channels,
                                    int out_channels, T* panels) const {
  pack_panels(out_channels, channels, panels, [&](int panel, int n, int rows, T* out) {
    const int k = panel * kPanelWidth, count = std::min(kPanelWidth, channels - k);
    for (int i = 0; i < rows; ++i) {
      const float* const filter = filters.filter(n + i, in_channels) + k;
      for (int lane = 0; lane < count; ++lane) out[i * kPanelWidth + lane] = T(filter[lane]);
    }
  });
}

template <class T>
void StageThread<T>::reduce_d_conv1x1(float* sums, std::ptrdiff_t distance, int in_channels,
                                      int out_channels, const Conv1x1Filters& filters) const {
  const std::ptrdiff_t stride = pad_to_cache_line(out_channels);
  const auto [first, last] = share(panel_count(in_channels));
  for (std::int64_t panel = first; panel < last; ++panel) {
    const int begin = static_cast<int>(panel) * kPanelWidth;
    const int count = std::min(kPanelWidth, in_channels - begin);
    float* const rows = sums + begin * stride;
    for (int t = 1; t < threads(); ++t) {
      const float* const other = rows + t * distance;
      for (std::ptrdiff_t i = 0; i < count * stride; ++i) rows[i] += other[i];
    }
    filters.for_each_run(0, out_channels, in_channels, [&](float* run, int n, int channels) {
      map_kernels<float>().rows_to_planes(rows + n, stride, run + begin, in_channels, count,
                                          channels);
    });
  }
}

template class StageThread<float>;
template class StageThread<Bf16>;

}  // namespace gluondense
