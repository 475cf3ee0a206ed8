// SPDX-License-Identifier: Apache-2.0
// Convolutions over floats and bfloat16, and the affine transforms in front of them.
#include "kernels/per_isa/gemm_tile.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void gelu_f32(const float* src, float* dst, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    const Vector x = left >= kWidth ? at(src + c) : load(src + c, left);
    store_activated(gelu(x), nullptr, 1, left, dst + c);
  }
}

namespace {

// M pixels and V vectors of output channels, from channel `first` of the panel.
template <class Multiply, int M, int V>
void conv(const ConvTile<float>& t, int first) {
  Vector sum[M][V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Vector bias = at(t.bias + first + v * kWidth);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) sum[m][v] = bias;
  }
  const float* weights = t.weights + first;
  for (int s = 0; s < t.segments; ++s) {
    weights = multiply_add<Multiply>(t.src + t.segment_offsets[s], t.src_stride, t.segment_length,
                                     weights, sum);
  }
#pragma GCC unroll 14  // otherwise the sums would be in memory
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const int channel = first + v * kWidth;
      store_activated(sum[m][v], t.residual ? t.residual[m] + channel : nullptr, t.negative_slope,
                      t.channels - channel, t.dst[m] + channel, t.add_last);
    }
  }
  if (!t.is_gelu) return;
  // From memory: the sums leave no registers for it.
  const int left = t.channels - first, count = left < V * kWidth ? left : V * kWidth;
  for (int m = 0; m < M; ++m) gelu_f32(t.dst[m] + first, t.dst[m] + first, count);
}

template <class Multiply>
struct Conv {
  template <int M>
  struct Kernel {
    static void run(const ConvTile<float>& t) {
      for (int first = 0; first < t.channels; first += 2 * kWidth) {
        if (t.channels - first > kWidth) {
          conv<Multiply, M, 2>(t, first);
        } else {
          conv<Multiply, M, 1>(t, first);
        }
      }
    }
  };
};

#if defined(__AVX512BF16__)

// A product of pairs of bfloat16, whose 32 bits are declared as a float.
struct MultiplyBf16 {
  template <int V>
  static void add(const float& x, const Vector* w, Vector* sum) {
    // Copies: GCC 12 would keep elements of an array that are operands in memory, too, and store
    // all sums after each product.
    Vector first = sum[0], second = sum[V - 1];
    __m512 all;
    // One statement for the reason in conv_u8.cc.
    if constexpr (V == 2) {
      asm("vbroadcastss %3, %2\n\tvdpbf16ps %2, %4, %0\n\tvdpbf16ps %2, %5, %1"
          : "+v"(first), "+v"(second), "=&v"(all)
          : "m"(x), "v"(w[0]), "v"(w[1]));
      sum[1] = second;
    } else {
      asm("vdpbf16ps %1%{1to16%}, %2, %0" : "+v"(first) : "m"(x), "v"(w[0]));
    }
    sum[0] = first;
  }
};

#endif

}  // namespace

void conv_f32(const ConvTile<float>& t) {
  ByRows<Conv<MultiplyF32>::Kernel>::rows[t.pixels - 1](t);
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

#if defined(__AVX512BF16__)

void conv_bf16(const ConvTile<float>& t) {
  ByRows<Conv<MultiplyBf16>::Kernel>::rows[t.pixels - 1](t);
}

void affine_relu_bf16(const float* src, const float* scale, const float* shift, float* dst,
                      int channels) {
  for (int c = 0; c < channels; c += 2 * kWidth) {
    __m512 x[2];
    for (int v = 0; v < 2; ++v) {
      const int first = c + v * kWidth, left = channels - first;
      const __mmask16 mask = left >= kWidth ? 0xffff : left > 0 ? (1u << left) - 1 : 0;
      x[v] = _mm512_maskz_loadu_ps(mask, src + first);
      if (!scale) continue;
      x[v] = _mm512_fmadd_ps(x[v], _mm512_maskz_loadu_ps(mask, scale + first),
                             _mm512_maskz_loadu_ps(mask, shift + first));
      x[v] = _mm512_max_ps(_mm512_setzero_ps(), x[v]);  // in this order, NaN propagates
    }
    _mm512_storeu_si512(dst + c / 2, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
  }
}

#endif

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
