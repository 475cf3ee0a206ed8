// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/pool.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void pool_f32(const float* const* pixels, int count, bool is_max, float factor, float* dst,
              int channels) {
  pool(pixels, count, is_max, factor, dst, channels);
}

void pool_u8(const std::uint8_t* const* pixels, int count, bool is_max,
             std::uint8_t* __restrict dst, int channels) {
  constexpr int kBytes = 64;
  typedef std::uint8_t Bytes __attribute__((vector_size(kBytes), aligned(1), may_alias));
  typedef std::uint16_t Sums __attribute__((vector_size(2 * kBytes)));
  for (int begin = 0; begin < channels; begin += kBytes) {
// A macro: a function with such vectors would have another ABI for each instruction set.
#define BYTES(i) (*reinterpret_cast<const Bytes*>(pixels[i] + begin))
    Bytes pooled = BYTES(0);
    if (is_max) {
      for (int i = 1; i < count; ++i) pooled = pooled > BYTES(i) ? pooled : BYTES(i);
    } else {
      Sums sum = __builtin_convertvector(pooled, Sums);  // of at most kMaxAveragedBytes
      for (int i = 1; i < count; ++i) sum += __builtin_convertvector(BYTES(i), Sums);
      if (count == 4) {
        pooled = __builtin_convertvector((sum + 2) >> 2, Bytes);
      } else {
        const float factor = 1.0f / static_cast<float>(count);
        for (int c = 0; c < kBytes; ++c) pooled[c] = to_u8(sum[c] * factor);
      }
    }
#undef BYTES
    const int left = channels - begin;
    __builtin_memcpy(dst + begin, &pooled, left < kBytes ? left : kBytes);
  }
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
