// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/gemm_tile.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// One vector of channels, of which `count` exist. Each input is loaded for one tap: loads and
// multiply-adds take equally long.
template <int M, bool kWhole>
void conv(const DepthwiseTile& t, int first, int count) {
  Vector sum[M];
  for (int m = 0; m < M; ++m) sum[m] = at(t.bias + first);
  const float* weights = t.weights + first;
  for (int y = 0; y < t.kernel[0]; ++y) {
    const float* src = t.src + y * t.src_row_stride + first;
    for (int x = 0; x < t.kernel[1]; ++x, src += t.src_tap_stride, weights += kGroupedWidth) {
      const Vector w = at(weights);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        const float* const p = src + m * t.src_stride;
        sum[m] += (kWhole ? at(p) : load(p, count)) * w;
      }
    }
  }
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) {
    store_activated(sum[m], t.residual ? t.residual + m * t.residual_stride + first : nullptr,
                    t.negative_slope, count, t.dst + m * t.dst_stride + first, t.add_last);
  }
}

template <int M>
struct Kernel {
  static void run(const DepthwiseTile& t) {
    for (int first = 0; first < t.channels; first += kWidth) {
      const int count = t.channels - first;
      count >= kWidth ? conv<M, true>(t, first, kWidth) : conv<M, false>(t, first, count);
    }
  }
};

}  // namespace

void depthwise_conv_f32(const DepthwiseTile& t) { ByRows<Kernel>::rows[t.pixels - 1](t); }

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
