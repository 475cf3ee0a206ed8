// SPDX-License-Identifier: Apache-2.0
// Transposes between planes of pixels and rows of channels: see MapKernels.
#pragma once

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// a0 b0 a1 b1 ... of the first and of the second halves of two vectors.
inline void interleave(Vector a, Vector b, Vector* first, Vector* second) {
#if defined(__AVX512F__)
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  *first = (Vector)_mm512_permutex2var_ps((__m512)a, low, (__m512)b);
  *second = (Vector)_mm512_permutex2var_ps((__m512)a, high, (__m512)b);
#elif defined(__AVX2__)
  const __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b);
  const __m256 high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
  *first = (Vector)_mm256_permute2f128_ps(low, high, 0x20);
  *second = (Vector)_mm256_permute2f128_ps(low, high, 0x31);
#elif defined(__SSE2__)
  *first = (Vector)_mm_unpacklo_ps((__m128)a, (__m128)b);
  *second = (Vector)_mm_unpackhi_ps((__m128)a, (__m128)b);
#else
  for (int l = 0; l < kWidth; ++l) {
    (*first)[l] = (l % 2 ? b : a)[l / 2];
    (*second)[l] = (l % 2 ? b : a)[(kWidth + l) / 2];
  }
#endif
}

// Each step moves the highest bit of a vector's number to the lowest of the lanes' numbers.
inline void transpose(Vector (&rows)[kWidth]) {
  Vector next[kWidth];
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      interleave(rows[i], rows[i + kWidth / 2], &next[2 * i], &next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) rows[i] = next[i];
  }
}

// Calls f(first row, rows, first column, columns) for tiles of at most a vector each way.
template <class Function>
inline void for_each_square(int rows, int columns, Function f) {
  for (int c = 0; c < columns; c += kWidth) {
    for (int r = 0; r < rows; r += kWidth) {
      f(r, rows - r < kWidth ? rows - r : kWidth, c, columns - c < kWidth ? columns - c : kWidth);
    }
  }
}

// Loads rows of a tile, and zeros behind them.
template <class T>
inline void load_tile(const T* data, std::ptrdiff_t stride, int rows, int columns,
                      Vector (&tile)[kWidth]) {
  for (int i = 0; i < kWidth; ++i) {
    const T* const row = data + i * stride;
    tile[i] = i >= rows ? Vector{} : columns == kWidth ? load(row) : load(row, columns);
  }
}

template <class T>
inline void store_tile(const Vector (&tile)[kWidth], T* data, std::ptrdiff_t stride, int rows,
                       int columns) {
  for (int i = 0; i < rows; ++i) {
    T* const row = data + i * stride;
    if (columns == kWidth) {
      store(tile[i], row);
    } else {
      store(tile[i], row, columns);
    }
  }
}

template <class T>
void planes_to_rows(const float* planes, std::ptrdiff_t plane, T* rows, std::ptrdiff_t stride,
                    int pixels, int channels) {
  for_each_square(pixels, channels, [=](int p, int count, int c, int lanes) {
    Vector tile[kWidth];
    load_tile(planes + c * plane + p, plane, lanes, count, tile);
    transpose(tile);
    store_tile(tile, rows + p * stride + c, stride, count, lanes);
  });
}

template <class T>
void rows_to_planes(const T* rows, std::ptrdiff_t stride, float* planes, std::ptrdiff_t plane,
                    int pixels, int channels) {
  for_each_square(pixels, channels, [=](int p, int count, int c, int lanes) {
    Vector tile[kWidth];
    load_tile(rows + p * stride + c, stride, count, lanes, tile);
    transpose(tile);
    store_tile(tile, planes + c * plane + p, plane, lanes, count);
  });
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
