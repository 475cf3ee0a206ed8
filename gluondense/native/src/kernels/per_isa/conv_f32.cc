// SPDX-License-Identifier: Apache-2.0
// Convolutions over floats, and the element-wise functions in front of them and behind.
#include "kernels/per_isa/conv_tile.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void gelu_f32(const float* src, float* dst, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    const Vector x = left >= kWidth ? at(src + c) : load(src + c, left);
    store_activated(gelu(x), nullptr, 1, left, dst + c);
  }
}

void conv_f32(const ConvTile<float>& t) {
  ByRows<Conv<MultiplyF32, ConvTile<float>>::Kernel>::rows[t.pixels - 1](t);
}

void affine_f32(const float* __restrict src, const float* __restrict scale,
                const float* __restrict shift, float negative_slope, float* __restrict dst,
                int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    at(dst + c) = activate(at(src + c) * at(scale + c) + at(shift + c), negative_slope);
  }
  for (; c < channels; ++c) {
    const float x = src[c] * scale[c] + shift[c], scaled = negative_slope ? negative_slope * x : 0;
    dst[c] = scaled > x ? scaled : x;
  }
}

void sigmoid_gate_f32(const float* src, const float* gate, float* __restrict dst, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    Vector x = {}, g = {};
    if (left >= kWidth) {
      x = at(src + c), g = at(gate + c);
    } else {
      __builtin_memcpy(&x, src + c, left * sizeof(float));
      __builtin_memcpy(&g, gate + c, left * sizeof(float));
    }
    store_activated(x / (exp(-g) + 1.0f), nullptr, 1, left, dst + c);
  }
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
