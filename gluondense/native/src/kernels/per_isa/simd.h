// SPDX-License-Identifier: Apache-2.0
// Vectors of the instruction set that a file of this folder is compiled for.
//
// Each file here is compiled once for each instruction set, with GLUONDENSE_ISA_NAMESPACE naming
// it: the compiler's vector types become that set's registers. Everything but the tables has
// internal linkage or is in that namespace, and no inline function of a library may be called: the
// linker keeps one copy of such a function for all, which could be one that this processor cannot
// run.
#pragma once

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>

#include "kernels/inference_kernels.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// Floats of a vector, and rows of a register tile: 2 vectors a row are sums, and the rest holds two
// vectors of weights and a broadcast input.
#if defined(__AVX512F__)
constexpr int kWidth = 16, kMaxTilePixels = 14;  // 28 of 32 registers
#elif defined(__AVX2__)
constexpr int kWidth = 8, kMaxTilePixels = 6;  // 12 of 16 registers
#else
constexpr int kWidth = 4, kMaxTilePixels = 6;
#endif

// Unaligned: a slice of channels begins anywhere in a pixel.
typedef float Vector __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

inline Vector& at(float* p) { return *reinterpret_cast<Vector*>(p); }
inline const Vector& at(const float* p) { return *reinterpret_cast<const Vector*>(p); }

// The larger of two, or b if one is NaN.
inline Vector max(Vector a, Vector b) {
#if defined(__AVX512F__)
  return (Vector)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (Vector)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (Vector)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}

// Leaky ReLU, for slopes up to 1, which is none. NaN propagates. ReLU does not multiply: inf * 0
// is NaN.
inline Vector activate(Vector x, float negative_slope) {
  if (negative_slope == 1) return x;
  return max(negative_slope == 0 ? Vector{} : x * negative_slope, x);
}

// Adds the residual, activates and stores the first `count` channels, at most a vector.
inline void store_activated(Vector x, const float* residual, float negative_slope, int count,
                            float* dst) {
  if (count >= kWidth) {
    if (residual) x += at(residual);
    at(dst) = activate(x, negative_slope);
  } else if (count > 0) {  // the channels behind belong to another slice
    float rest[kWidth] = {};
    if (residual) __builtin_memcpy(rest, residual, count * sizeof(float));
    x += at(rest);
    at(rest) = activate(x, negative_slope);
    __builtin_memcpy(dst, rest, count * sizeof(float));
  }
}

// 2^23: adding it rounds a float to an integer, ties to even, in its lowest bits.
constexpr float kRound = 8388608.0f;

// Rounds and clips to 0..255; NaN gives 0.
inline std::uint8_t to_u8(float value) {
  value = value > 0 ? value : 0;
  value = (value < 255 ? value : 255) + kRound;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint8_t>(bits);
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
