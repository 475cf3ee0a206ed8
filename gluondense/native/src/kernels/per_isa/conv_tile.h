// SPDX-License-Identifier: Apache-2.0
// The register tile of convolutions in float32 and in bfloat16: see ConvTile.
#pragma once

#include <type_traits>

#include "kernels/per_isa/gemm_tile.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void gelu_f32(const float* src, float* dst, int channels);

namespace {

// What one product reads: a float, or a pair of bfloat16, whose 32 bits are declared as a float.
template <class T>
const float* elements(const T* p) {
  return reinterpret_cast<const float*>(p);
}

// The activation of a finished tile that has one instead of the slope.
template <class Tile>
inline void apply_gelu(const Tile& t, int pixels, int first, int channels) {
  if constexpr (std::is_same_v<decltype(t.dst), float* const*>) {
    if (!t.is_gelu) return;
    for (int m = 0; m < pixels; ++m) gelu_f32(t.dst[m] + first, t.dst[m] + first, channels);
  }
}

// M pixels and V vectors of output channels, from channel `first` of the panel.
template <class Multiply, class Tile, int M, int V>
void conv(const Tile& t, int first) {
  constexpr int kPerElement = sizeof(float) / sizeof(*t.src);
  Vector sum[M][V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Vector bias = at(t.bias + first + v * kWidth);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) sum[m][v] = bias;
  }
  const float* weights = elements(t.weights) + first;
  for (int s = 0; s < t.segments; ++s) {
    weights =
        multiply_add<Multiply>(elements(t.src + t.segment_offsets[s]), t.src_stride / kPerElement,
                               t.segment_length / kPerElement, weights, sum);
  }
#pragma GCC unroll 14  // otherwise the sums would be in memory
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const int channel = first + v * kWidth;
      store_activated(sum[m][v], t.residual ? t.residual[m] + channel : nullptr, t.negative_slope,
                      t.channels - channel, t.dst[m] + channel, t.add_last);
    }
  }
  // From memory: the sums leave no registers for it.
  const int left = t.channels - first;
  apply_gelu(t, M, first, left < V * kWidth ? left : V * kWidth);
}

template <class Multiply, class Tile>
struct Conv {
  template <int M>
  struct Kernel {
    static void run(const Tile& t) {
      for (int first = 0; first < t.channels; first += 2 * kWidth) {
        if (t.channels - first > kWidth) {
          conv<Multiply, Tile, M, 2>(t, first);
        } else {
          conv<Multiply, Tile, M, 1>(t, first);
        }
      }
    }
  };
};

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
