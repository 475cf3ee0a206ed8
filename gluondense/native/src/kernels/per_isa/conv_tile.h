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
    for (int m = 0; m < pixels; ++m) {
      float* const outputs = t.dst[m] + t.channel + first;
      gelu_f32(outputs, outputs, channels);
    }
  }
}

// Stores a whole vector of a pixel's output channels; the activation is the identity or a ReLU.
template <class T, bool kHasResidual, bool kIsRelu>
struct StoreWhole {
  T* const* dst;
  const T* const* residual;
  int first;  // see ConvTileBase::channel

  void operator()(Vector x, int pixel, int channel) const {
    if constexpr (kHasResidual) x += load(residual[pixel] + first + channel);
    store(kIsRelu ? activate(x, 0) : x, dst[pixel] + first + channel);
  }
};

// Calls `rows` with a function (vector, pixel, channel) that stores outputs of `vectors` vectors of
// a tile, from channel `first` on. Activation and residual are chosen before the loop.
template <class In, class Out, class Rows>
inline __attribute__((always_inline)) void store_rows(const ConvTileBase<In, Out>& t, int first,
                                                      int vectors, const Rows& rows) {
  const bool is_whole = t.channels - first >= vectors * kWidth;
  const bool is_relu = t.negative_slope == 0, is_plain = is_relu || t.negative_slope == 1;
  if (!is_whole || !is_plain || (t.residual && t.add_last)) {
    rows([&t](Vector x, int pixel, int channel) {
      const int c = t.channel + channel;
      store_activated(x, t.residual ? t.residual[pixel] + c : nullptr, t.negative_slope,
                      t.channels - channel, t.dst[pixel] + c, t.add_last);
    });
  } else if (t.residual) {
    is_relu ? rows(StoreWhole<Out, true, true>{t.dst, t.residual, t.channel})
            : rows(StoreWhole<Out, true, false>{t.dst, t.residual, t.channel});
  } else {
    is_relu ? rows(StoreWhole<Out, false, true>{t.dst, nullptr, t.channel})
            : rows(StoreWhole<Out, false, false>{t.dst, nullptr, t.channel});
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
  store_rows(
      t, first, V, [&](const auto& store_vector) __attribute__((always_inline)) {
#pragma GCC unroll 14  // otherwise the sums would be in memory
        for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
          for (int v = 0; v < V; ++v) store_vector(sum[m][v], m, first + v * kWidth);
        }
      });
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
