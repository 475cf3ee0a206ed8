// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/gemm_tile.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// Adds a row of taps to the sums of M pixels, for one vector of channels, of which `count` exist.
struct AnyRow {
  // Each input is loaded for one tap: loads take as long as multiply-adds, if all are in L1.
  template <bool kWhole, int M>
  static void add(const DepthwiseTile& t, const float* src, const float* weights, int count,
                  Vector (&sum)[M]) {
    for (int x = 0; x < t.kernel[1]; ++x, src += t.src_tap_stride, weights += kGroupedWidth) {
      const Vector w = at(weights);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        const float* const p = src + m * t.src_stride;
        sum[m] += (kWhole ? at(p) : load(p, count)) * w;
      }
    }
  }
};

// Of K taps with a stride of 1: each input is loaded once for all taps.
template <int K>
struct UnitStrideRow {
  template <bool kWhole, int M>
  static void add(const DepthwiseTile& t, const float* src, const float* weights, int count,
                  Vector (&sum)[M]) {
    Vector w[K];
#pragma GCC unroll 7
    for (int x = 0; x < K; ++x) w[x] = at(weights + x * kGroupedWidth);
#pragma GCC unroll 20
    for (int i = 0; i < M + K - 1; ++i) {
      const float* const p = src + i * t.src_tap_stride;
      const Vector input = kWhole ? at(p) : load(p, count);
#pragma GCC unroll 7
      for (int x = 0; x < K; ++x) {
        if (i >= x && i - x < M) sum[i - x] += input * w[x];
      }
    }
  }
};

template <class Row>
struct Depthwise {
  template <int M>
  struct Kernel {
    template <bool kWhole>
    static void conv(const DepthwiseTile& t, int first, int count) {
      Vector sum[M];
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) sum[m] = at(t.bias + first);
      for (int y = 0; y < t.kernel[0]; ++y) {
        Row::template add<kWhole, M>(t, t.src + y * t.src_row_stride + first,
                                     t.weights + y * t.kernel[1] * kGroupedWidth + first, count,
                                     sum);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        store_activated(sum[m], t.residual ? t.residual + m * t.residual_stride + first : nullptr,
                        t.negative_slope, count, t.dst + m * t.dst_stride + first, t.add_last);
      }
    }

    static void run(const DepthwiseTile& t) {
      for (int first = 0; first < t.channels; first += kWidth) {
        const int count = t.channels - first;
        count >= kWidth ? conv<true>(t, first, kWidth) : conv<false>(t, first, count);
      }
    }
  };
};

}  // namespace

void depthwise_conv_f32(const DepthwiseTile& t) {
  const bool is_rdnets = t.kernel[1] == 7 && t.src_stride == t.src_tap_stride;
  (is_rdnets ? ByRows<Depthwise<UnitStrideRow<7>>::Kernel>::rows
             : ByRows<Depthwise<AnyRow>::Kernel>::rows)[t.pixels - 1](t);
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
