// SPDX-License-Identifier: Apache-2.0
// Sums in doubles.
#pragma once

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

typedef float Half __attribute__((vector_size(kWidth * 2), aligned(4), may_alias));
typedef double Wide __attribute__((vector_size(kWidth * 4), aligned(8), may_alias));

inline Wide& wide_at(double* p) { return *reinterpret_cast<Wide*>(p); }
inline Wide to_double(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const Half*>(p), Wide);
}
inline Wide to_double(const Bf16* p) {
  typedef std::uint16_t Short __attribute__((vector_size(kWidth), aligned(2), may_alias));
  typedef std::uint32_t Long __attribute__((vector_size(kWidth * 2), may_alias));
  const Long bits = __builtin_convertvector(*reinterpret_cast<const Short*>(p), Long) << 16;
  return __builtin_convertvector((Half)bits, Wide);
}

// Adds the first `count` floats, at most a vector.
inline void add_wide(Vector x, double* to, int count) {
  float parts[kWidth];
  at(parts) = x;
  if (count < kWidth) {
    for (int i = 0; i < count; ++i) to[i] += parts[i];
    return;
  }
  for (int h = 0; h < kWidth; h += kWidth / 2) wide_at(to + h) += to_double(parts + h);
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
