// SPDX-License-Identifier: Apache-2.0
// The register tile: sums of up to kMaxTilePixels rows and two vectors of columns.
#pragma once

#include <utility>

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// Instances of a kernel by their number of rows: rows[m - 1] is Kernel<m>::run.
template <template <int> class Kernel,
          class Sequence = std::make_integer_sequence<int, kMaxTilePixels>>
struct ByRows;

template <template <int> class Kernel, int... M>
struct ByRows<Kernel, std::integer_sequence<int, M...>> {
  static constexpr decltype(&Kernel<1>::run) rows[] = {Kernel<M + 1>::run...};
};

// Rows of a panel that are prefetched ahead. Saves 4 % of a network's time; 8 to 32 are equal.
constexpr int kPrefetchRows = 16;

// A product of float32.
struct MultiplyF32 {
  template <int V>
  static void add(const float& x, const Vector* w, Vector* sum) {
    for (int v = 0; v < V; ++v) sum[v] += x * w[v];
  }
};

// sum[m][v] += sum_k a[m * a_stride + k] * panel[k * kPanelWidth + v * kWidth]; returns the panel's
// end. The sums stay in registers.
template <class Multiply, int M, int V>
inline __attribute__((always_inline)) const float* multiply_add(const float* a,
                                                                std::ptrdiff_t a_stride, int depth,
                                                                const float* panel,
                                                                Vector (&sum)[M][V]) {
  for (int k = 0; k < depth; ++k, panel += kPanelWidth) {
    Vector w[V];
    for (int v = 0; v < V; ++v) {
      w[v] = at(panel + v * kWidth);
      __builtin_prefetch(panel + kPrefetchRows * kPanelWidth + v * kWidth);
    }
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) Multiply::template add<V>(a[m * a_stride + k], w, sum[m]);
  }
  return panel;
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
