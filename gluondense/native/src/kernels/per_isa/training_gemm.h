// SPDX-License-Identifier: Apache-2.0
// The matrix products of training: see MapKernels.
#pragma once

#include <type_traits>

#include "kernels/per_isa/amx_gemm.h"
#include "kernels/per_isa/gemm_tile.h"
#include "kernels/per_isa/multiply_bf16.h"
#include "kernels/training_kernels.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

template <class T>
using Multiply = std::conditional_t<std::is_same_v<T, float>, MultiplyF32, MultiplyBf16>;

// What one product reads: a float, or a pair of bfloat16, whose 32 bits are declared as a float.
template <class T>
const float* products(const T* p) {
  return reinterpret_cast<const float*>(p);
}

template <class T>
int product_count(int depth) {
  return (depth + kProductDepth<T> - 1) / kProductDepth<T>;
}

// C = A B, in tiles of M rows and V vectors of columns.
template <class T, class Out, int V>
struct Gemm {
  template <int M>
  struct Tile {
    static void run(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, Out* c,
                    std::ptrdiff_t c_stride) {
      Vector sum[M][V];
      // Without unrolling, the sums would be in memory before and after the products.
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[m][v] = Vector{};
      }
      multiply_add<Multiply<T>>(a, a_stride, depth, b, sum);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(sum[m][v], c + m * c_stride + v * kWidth);
      }
    }
  };
};

template <class T, class Out>
void gemm(const T* a, std::ptrdiff_t a_stride, int depth, const T* b, Out* c,
          std::ptrdiff_t c_stride, int rows, int columns) {
#if defined(__AMX_TILE__)
  if constexpr (std::is_same_v<T, Bf16>) {
    return amx_gemm(a, a_stride, depth, b, c, c_stride, rows, columns);
  }
#endif
  for (int n = 0; n < columns; n += 2 * kWidth) {
    const auto& run = columns - n > kWidth ? ByRows<Gemm<T, Out, 2>::template Tile>::rows[rows - 1]
                                           : ByRows<Gemm<T, Out, 1>::template Tile>::rows[rows - 1];
    run(products(a), a_stride / kProductDepth<T>, product_count<T>(depth), products(b) + n, c + n,
        c_stride);
  }
}

// C += A^T B, in tiles of M rows and V vectors of columns.
template <class T, int V>
struct GemmTn {
  template <int M>
  struct Tile {
    static void run(const float* a, std::ptrdiff_t a_stride, const float* b,
                    std::ptrdiff_t b_stride, int pixels, float* c, std::ptrdiff_t c_stride) {
      Vector sum[M][V];
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sum[m][v] = at(c + m * c_stride + v * kWidth);
      }
      for (int p = 0; p < pixels; ++p, a += a_stride, b += b_stride) {
        Vector r[V];
        for (int v = 0; v < V; ++v) r[v] = at(b + v * kWidth);
#pragma GCC unroll 14
        for (int m = 0; m < M; ++m) Multiply<T>::template add<V>(a[m], r, sum[m]);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) at(c + m * c_stride + v * kWidth) = sum[m][v];
      }
    }
  };
};

template <class T>
void gemm_tn(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride, int pixels,
             float* c, std::ptrdiff_t c_stride, int rows, int columns) {
#if defined(__AMX_TILE__)
  if constexpr (std::is_same_v<T, Bf16>) {
    return amx_gemm_tn(a, a_stride, b, b_stride, pixels, c, c_stride, rows, columns);
  }
#endif
  // A row of products has all channels of kProductDepth pixels: as many floats as one pixel has T.
  const int depth = product_count<T>(pixels);
  const int tiles = (rows + kMaxTilePixels - 1) / kMaxTilePixels;  // of nearly equal height
  for (int tile = 0; tile < tiles; ++tile) {
    const int m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
    for (int n = 0; n < columns; n += 2 * kWidth) {
      const auto& run = columns - n > kWidth ? ByRows<GemmTn<T, 2>::template Tile>::rows[count - 1]
                                             : ByRows<GemmTn<T, 1>::template Tile>::rows[count - 1];
      run(products(a) + m, a_stride, products(b) + n, b_stride, depth, c + m * c_stride + n,
          c_stride);
    }
  }
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
