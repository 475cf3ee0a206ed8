// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/gemm_tile.h"

#if defined(__AVX512F__)  // elsewhere a permutation of 16 lanes is too slow
#include <immintrin.h>

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// S is the stride.
template <int S>
struct Strided {
  template <int M>
  struct Kernel {
    static constexpr int kWindow = (M - 1) * S + 3;  // input pixels of a row that M outputs read

    static void run(const GroupedConvTile& t) {
      Vector sum[M];
      for (int m = 0; m < M; ++m) sum[m] = at(t.bias);
      const float* weights = t.weights;
      for (int y = 0; y < 3; ++y) {
        const float* const src = t.src + y * t.src_row_stride;
        for (int k = 0; k < t.group_channels; ++k, weights += 3 * kGroupedWidth) {
          const __m512i lanes =
              _mm512_add_epi32(_mm512_loadu_si512(t.channel_of_lane), _mm512_set1_epi32(k));
          const Vector w[3] = {at(weights), at(weights + kGroupedWidth),
                               at(weights + 2 * kGroupedWidth)};
          // Each input pixel is permuted once for all three columns of the filter.
#pragma GCC unroll 32
          for (int i = 0; i < kWindow; ++i) {
            const Vector x = _mm512_permutexvar_ps(lanes, _mm512_loadu_ps(src + i * t.src_stride));
#pragma GCC unroll 3
            for (int column = 0; column < 3; ++column) {
              const int m = (i - column) / S;
              if (i >= column && (i - column) % S == 0 && m < M) sum[m] += x * w[column];
            }
          }
        }
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        store_activated(sum[m], t.residual ? t.residual + m * t.residual_stride : nullptr,
                        t.negative_slope, t.channels, t.dst + m * t.dst_stride, t.add_last);
      }
    }
  };
};

}  // namespace

void grouped_conv3x3_f32(const GroupedConvTile& t) {
  (t.stride == 1 ? ByRows<Strided<1>::Kernel>::rows
                 : ByRows<Strided<2>::Kernel>::rows)[t.pixels - 1](t);
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
