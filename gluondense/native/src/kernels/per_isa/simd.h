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
#include <type_traits>

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

#if defined(__AVX2__) && !defined(__AVX512F__)
inline __m256i lanes_below(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif

// The first `count` of fewer than kWidth floats; the others are 0.
inline Vector load(const float* p, int count) {
#if defined(__AVX512F__)
  return (Vector)_mm512_maskz_loadu_ps((1u << count) - 1, p);
#elif defined(__AVX2__)
  return (Vector)_mm256_maskload_ps(p, lanes_below(count));
#else
  Vector x = {};
  __builtin_memcpy(&x, p, count * sizeof(float));
  return x;
#endif
}

inline Vector load(const float* p) { return at(p); }

inline void store(Vector x, float* p) { at(p) = x; }
// The first `count` of fewer than kWidth floats.
inline void store(Vector x, float* p, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, (1u << count) - 1, (__m512)x);
#elif defined(__AVX2__)
  _mm256_maskstore_ps(p, lanes_below(count), (__m256)x);
#else
  __builtin_memcpy(p, &x, count * sizeof(float));
#endif
}

inline float value_of(float x) { return x; }

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

// bfloat16 is loaded as float32, and rounded to nearest, ties to even, when it is stored.
typedef std::uint32_t Bits __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef std::uint16_t HalfBits __attribute__((vector_size(kWidth * 2), aligned(2), may_alias));

inline float value_of(Bf16 x) {
  const std::uint32_t bits = std::uint32_t{x.bits} << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline Vector widen(HalfBits x) {
#if defined(__AVX512F__)  // GCC 12 would convert two halves
  return (Vector)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)x), 16);
#else
  return (Vector)(__builtin_convertvector(x, Bits) << 16);
#endif
}

inline HalfBits round_to_bf16(Vector x) {
#if defined(__AVX512BF16__)
  return (HalfBits)_mm512_cvtneps_pbh((__m512)x);
#else
  const Bits bits = (Bits)x, rounded = bits + 0x7fff + (bits >> 16 & 1);
  return __builtin_convertvector((x == x ? rounded : bits | 0x400000) >> 16, HalfBits);
#endif
}

inline Vector load(const Bf16* p) { return widen(*reinterpret_cast<const HalfBits*>(p)); }

// The first `count` channels, at most a vector; the others are 0.
inline Vector load(const Bf16* p, int count) {
#if defined(__AVX512BF16__)
  const __mmask16 mask = count >= kWidth ? 0xffff : (1u << count) - 1;
  return widen((HalfBits)_mm256_maskz_loadu_epi16(mask, p));
#else
  HalfBits x = {};
  __builtin_memcpy(&x, p, (count < kWidth ? count : kWidth) * sizeof(Bf16));
  return widen(x);
#endif
}

inline void store(Vector x, Bf16* p) { *reinterpret_cast<HalfBits*>(p) = round_to_bf16(x); }

inline void store(Vector x, Bf16* p, int count) {
#if defined(__AVX512BF16__)
  const __mmask16 mask = count >= kWidth ? 0xffff : (1u << count) - 1;
  _mm256_mask_storeu_epi16(p, mask, (__m256i)round_to_bf16(x));
#else
  const HalfBits rounded = round_to_bf16(x);
  __builtin_memcpy(p, &rounded, (count < kWidth ? count : kWidth) * sizeof(Bf16));
#endif
}

// Adds the residual, before or after the activation, and stores the first `count` channels, at most
// a vector. The residual may be nullptr, so T is that of dst.
template <class T>
inline void store_activated(Vector x, const std::remove_const_t<T>* residual, float negative_slope,
                            int count, T* dst, bool add_last = false) {
  const auto add_and_activate = [&](Vector added) {
    return add_last ? activate(x, negative_slope) + added : activate(x + added, negative_slope);
  };
  if (count >= kWidth) {
    store(add_and_activate(residual ? load(residual) : Vector{}), dst);
  } else if (count > 0) {  // the channels behind belong to another slice
    store(add_and_activate(residual ? load(residual, count) : Vector{}), dst, count);
  }
}

// e^x, for x clipped to where it is a normal number; within 2 ulp.
inline Vector exp(Vector x) {
  typedef std::int32_t Integers __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
  const Vector zero = {};
  x = max(zero - 87.0f, x);
  x = zero - max(zero - 88.0f, zero - x);
  // x = n log(2) + r: adding 1.5 * 2^23 rounds to an integer, in the lowest bits.
  const Vector shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
  const Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;  // log(2) as two numbers
  // The Taylor series, as |r| <= log(2) / 2.
  Vector y = r * (1.0f / 5040) + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = (y * r + 1.0f) * r + 1.0f;
  return (Vector)((Integers)y + ((Integers)shifted << 23));
}

// x * Phi(x), with Phi the normal distribution: the Gaussian error linear unit. The error is below
// 2.1e-7 |x|, twice that of a computation with a correctly rounded erf in float32; NaN propagates.
inline Vector gelu(Vector x) {
  // Beyond 5.25, Phi(x) is 1 and x * Phi(-x) below 4e-7.
  constexpr float kLimit = 5.25f;
  // The minimax polynomial of (Phi(x) - 1 / 2) / x in t = 2 x^2 / kLimit^2 - 1, from t^13 down.
  constexpr float kPolynomial[] = {-5.7246536e-4f, 1.4667086e-3f, -1.2960256e-3f, 1.8436502e-3f,
                                   -5.149934e-3f,  9.094754e-3f,  -1.2940643e-2f, 1.8315548e-2f,
                                   -2.4997862e-2f, 3.206625e-2f,  -3.9768383e-2f, 4.9643762e-2f,
                                   -6.7126654e-2f, 1.3465936e-1f};
  const Vector zero = {};
  x = max(zero - kLimit, x);
  const Vector y = zero - max(zero - kLimit, zero - x);
  const Vector t = y * y * (2 / (kLimit * kLimit)) - 1.0f;
  Vector p = zero + kPolynomial[0];
#pragma GCC unroll 13
  for (int i = 1; i < 14; ++i) p = p * t + kPolynomial[i];
  return x * (y * p + 0.5f);
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
