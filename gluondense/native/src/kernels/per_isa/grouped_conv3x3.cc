// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/gemm_tile.h"

#if defined(__AVX512F__)  // elsewhere a permutation of 16 lanes is too slow
#include <immintrin.h>

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// Input channels of a product, the 16 channels of a pixel as such elements, and the product.
template <class T>
struct Elements;

template <>
struct Elements<float> {
  static constexpr int kChannels = 1;
  static __m512i load(const float* p) { return _mm512_loadu_si512(p); }
  static Vector multiply_add(__m512i x, __m512i w, Vector sum) {
    return sum + (Vector)x * (Vector)w;
  }
};

#if defined(__AVX512BF16__)
template <>
struct Elements<Bf16> {
  static constexpr int kChannels = 2;
  static __m512i load(const Bf16* p) {
    return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vector multiply_add(__m512i x, __m512i w, Vector sum) {
    return (Vector)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)w);
  }
};
#endif

// S is the stride.
template <class T, int S>
struct Strided {
  template <int M>
  struct Kernel {
    static constexpr int kWindow = (M - 1) * S + 3;  // input pixels of a row that M outputs read
    static constexpr int kChannels = Elements<T>::kChannels;
    static constexpr int kColumn = kGroupedWidth * kChannels;  // weights of a column of the filter

    static void run(const GroupedConvTile<T>& t) {
      Vector sum[M];
      for (int m = 0; m < M; ++m) sum[m] = at(t.bias);
      __m512i first = _mm512_loadu_si512(t.channel_of_lane);
      if (kChannels == 2) first = _mm512_srli_epi32(first, 1);
      const T* weights = t.weights;
      for (int y = 0; y < 3; ++y) {
        const T* const src = t.src + y * t.src_row_stride;
        for (int k = 0; k < t.group_channels / kChannels; ++k, weights += 3 * kColumn) {
          const __m512i lanes = _mm512_add_epi32(first, _mm512_set1_epi32(k));
          const __m512i w[3] = {_mm512_loadu_si512(weights), _mm512_loadu_si512(weights + kColumn),
                                _mm512_loadu_si512(weights + 2 * kColumn)};
          // Each input pixel is permuted once for all three columns of the filter.
#pragma GCC unroll 32
          for (int i = 0; i < kWindow; ++i) {
            const __m512i x =
                _mm512_permutexvar_epi32(lanes, Elements<T>::load(src + i * t.src_stride));
#pragma GCC unroll 3
            for (int column = 0; column < 3; ++column) {
              const int m = (i - column) / S;
              if (i >= column && (i - column) % S == 0 && m < M) {
                sum[m] = Elements<T>::multiply_add(x, w[column], sum[m]);
              }
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

template <class T>
void grouped_conv3x3(const GroupedConvTile<T>& t) {
  (t.stride == 1 ? ByRows<Strided<T, 1>::template Kernel>::rows
                 : ByRows<Strided<T, 2>::template Kernel>::rows)[t.pixels - 1](t);
}

}  // namespace

void grouped_conv3x3_f32(const GroupedConvTile<float>& t) { grouped_conv3x3(t); }

#if defined(__AVX512BF16__)
void grouped_conv3x3_bf16(const GroupedConvTile<Bf16>& t) { grouped_conv3x3(t); }
#endif

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
