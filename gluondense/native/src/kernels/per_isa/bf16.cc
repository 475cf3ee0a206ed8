// SPDX-License-Identifier: Apache-2.0
#if defined(__AVX512BF16__)  // elsewhere, everything is in float32

#include "kernels/per_isa/conv_bf16.h"
#include "kernels/per_isa/pool.h"
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void grouped_conv3x3_bf16(const GroupedConvTile<Bf16>& t);

namespace {

void pack_f32(const float* src, const std::ptrdiff_t* offsets, int segments, int length,
              const float* scale, const float* shift, Bf16* dst) {
  for (int s = 0; s < segments; ++s, dst += (length + 1) / 2 * 2) {
    for (int c = 0; c < length; c += kWidth) {
      const __mmask16 mask = length - c >= kWidth ? 0xffff : (1u << (length - c)) - 1;
      __m512 x = _mm512_maskz_loadu_ps(mask, src + offsets[s] + c);
      if (scale) {
        x = _mm512_fmadd_ps(x, _mm512_maskz_loadu_ps(mask, scale + c),
                            _mm512_maskz_loadu_ps(mask, shift + c));
        x = _mm512_max_ps(_mm512_setzero_ps(), x);  // in this order, NaN propagates
      }
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + c), (__m256i)_mm512_cvtneps_pbh(x));
    }
  }
}

void affine(const Bf16* src, const float* scale, const float* shift, float negative_slope,
            Bf16* dst, int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    store(activate(load(src + c) * at(scale + c) + at(shift + c), negative_slope), dst + c);
  }
  if (const int left = channels - c; left > 0) {
    const Vector a = load(scale + c, left), b = load(shift + c, left);
    store(activate(load(src + c, left) * a + b, negative_slope), dst + c, left);
  }
}

}  // namespace

extern const Bf16Kernels bf16_table;
const Bf16Kernels bf16_table = {kMaxBf16Pixels,
                                kBf16Speedup,
                                kMultipliesGroups,
                                conv_bf16<Bf16>,
                                conv_bf16<float>,
                                pack_f32,
                                affine,
                                grouped_conv3x3_bf16,
                                pool<Bf16>,
                                pixels_to_planes<InputTransform, Bf16>,
                                sums_to_pixels<Bf16>};

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
