// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

float sum_of(Vector x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#else
  float sum = 0;
  for (int i = 0; i < kWidth; ++i) sum += x[i];
  return sum;
#endif
}

}  // namespace

void layer_norm_f32(const float* __restrict src, float eps, const float* __restrict scale,
                    const float* __restrict shift, float* __restrict dst, int channels) {
  const int whole = channels / kWidth * kWidth, rest = channels - whole;
  const float count = static_cast<float>(channels);
  Vector sum = {}, squares = {};
  for (int c = 0; c < whole; c += kWidth) sum += at(src + c);
  if (rest) sum += load(src + whole, rest);
  const float mean = sum_of(sum) / count;
  for (int c = 0; c < whole; c += kWidth) {
    const Vector x = at(src + c) - mean;
    squares += x * x;
  }
  float variance = sum_of(squares);
  for (int c = whole; c < channels; ++c) variance += (src[c] - mean) * (src[c] - mean);
  const float factor = 1 / __builtin_sqrtf(variance / count + eps);
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    Vector x = ((left >= kWidth ? at(src + c) : load(src + c, left)) - mean) * factor;
    if (scale) {
      x = left >= kWidth ? x * at(scale + c) + at(shift + c)
                         : x * load(scale + c, left) + load(shift + c, left);
    }
    store_activated(x, nullptr, 1, left, dst + c);
  }
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
