// SPDX-License-Identifier: Apache-2.0
// The matrix products of training in AMX's tiles: see MapKernels.
#pragma once

#if defined(__AMX_TILE__)

#include "kernels/per_isa/amx.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

template <class Out>
void amx_gemm(const Bf16* a, std::ptrdiff_t a_stride, int depth, const Bf16* b, Out* c,
              std::ptrdiff_t c_stride, int rows, int columns) {
  alignas(kAmxRowBytes) float sums[kAmxMaxRows][kPanelWidth];
  const std::ptrdiff_t offset = 0;
  amx_multiply<Bf16>({a, a_stride, &offset, 1, (depth + 1) / 2 * 2, b, rows, columns}, sums);
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; n += kWidth) store(at(sums[m] + n), c + m * c_stride + n);
  }
}

// dst[i][j] = src[j][i], over 16 x 16 pairs of bfloat16. Rows of src from `rows` on are zeros, and
// columns from `columns` on are not read.
inline void transpose_pairs(const Bf16* src, std::ptrdiff_t stride, int rows, int columns,
                            Bf16 (*dst)[kAmxRowBytes / sizeof(Bf16)]) {
  const __mmask16 mask = columns >= kAmxRows ? 0xffff : (1u << columns) - 1;
  __m512i x[16], y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    x[i] = i < rows ? _mm512_maskz_loadu_epi32(mask, src + i * stride) : _mm512_setzero_si512();
  }
  // Blocks of 1, 2, 4 and 8 columns change places with those of as many rows.
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    _mm512_store_si512(dst[i], _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88));
    _mm512_store_si512(dst[i + 8], _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd));
  }
}

// Adds to 32 rows and `columns` of c the products of up to kChunks * 16 pairs of pixels.
constexpr int kAmxPairs = 16, kAmxChunks = 4;

using AmxRows = Bf16[kAmxRows][kAmxRowBytes / sizeof(Bf16)];

template <bool kTwoRows, bool kTwoColumns>
void multiply_transposed(const AmxRows (*a)[2], const Bf16* b, std::ptrdiff_t b_row_bytes,
                         int chunks, float* c, std::ptrdiff_t c_row_bytes) {
  auto* const lower = reinterpret_cast<char*>(c) + kAmxRows * c_row_bytes;
  load_tile<0>(c, c_row_bytes);
  if constexpr (kTwoColumns) load_tile<1>(c + kWidth, c_row_bytes);
  if constexpr (kTwoRows) {
    load_tile<2>(lower, c_row_bytes);
    if constexpr (kTwoColumns) load_tile<3>(lower + kAmxRowBytes, c_row_bytes);
  }
  for (int i = 0; i < chunks; ++i) {
    multiply_chunk<Bf16, true, kTwoRows, kTwoColumns>(
        a[i][0], a[i][1], kAmxRowBytes,
        reinterpret_cast<const char*>(b) + i * kAmxPairs * b_row_bytes, b_row_bytes);
  }
  store_tile<0>(c, c_row_bytes);
  if constexpr (kTwoColumns) store_tile<1>(c + kWidth, c_row_bytes);
  if constexpr (kTwoRows) {
    store_tile<2>(lower, c_row_bytes);
    if constexpr (kTwoColumns) store_tile<3>(lower + kAmxRowBytes, c_row_bytes);
  }
}

void amx_gemm_tn(const Bf16* a, std::ptrdiff_t a_stride, const Bf16* b, std::ptrdiff_t b_stride,
                 int pixels, float* c, std::ptrdiff_t c_stride, int rows, int columns) {
  alignas(kAmxRowBytes) AmxRows transposed[kAmxChunks][2];
  alignas(kAmxRowBytes) Bf16 last[kAmxPairs][2 * kPanelWidth];  // rows of b, with zeros behind them
  const int pairs = (pixels + 1) / 2;
  const std::ptrdiff_t b_row_bytes = 2 * b_stride * sizeof(Bf16), c_row_bytes = c_stride * 4;
  const auto multiply = [&](bool two_rows, bool two_columns, auto... arguments) {
    if (two_rows) {
      two_columns ? multiply_transposed<true, true>(arguments...)
                  : multiply_transposed<true, false>(arguments...);
    } else {
      two_columns ? multiply_transposed<false, true>(arguments...)
                  : multiply_transposed<false, false>(arguments...);
    }
  };
  for (int m = 0; m < rows; m += kAmxMaxRows) {
    const int count = rows - m < kAmxMaxRows ? rows - m : kAmxMaxRows;
    const bool two_rows = count > kAmxRows;
    set_amx_tiles(count);
    for (int p = 0; p < pairs; p += kAmxChunks * kAmxPairs) {
      const int left = pairs - p;
      const int whole = left / kAmxPairs < kAmxChunks ? left / kAmxPairs : kAmxChunks;
      const int rest = whole < kAmxChunks ? left % kAmxPairs : 0;
      for (int i = 0; i < whole + (rest > 0); ++i) {
        const int first = p + i * kAmxPairs;
        const Bf16* const src = a + 2 * (first * a_stride + m);
        transpose_pairs(src, 2 * a_stride, pairs - first, count, transposed[i][0]);
        if (two_rows) {
          transpose_pairs(src + 2 * kAmxRows, 2 * a_stride, pairs - first, count - kAmxRows,
                          transposed[i][1]);
        }
      }
      for (int n = 0; n < columns; n += kPanelWidth) {
        const bool two_columns = columns - n > kWidth;
        const Bf16* const src = b + 2 * (p * b_stride + n);
        float* const dst = c + m * c_stride + n;
        if (whole) {
          multiply(two_rows, two_columns, transposed, src, b_row_bytes, whole, dst, c_row_bytes);
        }
        if (rest == 0) continue;
        __builtin_memset(last, 0, sizeof last);
        for (int i = 0; i < rest; ++i) {
          __builtin_memcpy(last[i], src + (whole * kAmxPairs + i) * 2 * b_stride,
                           (two_columns ? 2 : 1) * kAmxRowBytes);
        }
        multiply(two_rows, two_columns, transposed + whole, last[0], std::ptrdiff_t{sizeof last[0]},
                 1, dst, c_row_bytes);
      }
    }
  }
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
