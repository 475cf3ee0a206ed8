// SPDX-License-Identifier: Apache-2.0
// The kernels over bytes.
#include "kernels/per_isa/amx.h"
#include "kernels/per_isa/gemm_tile.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// The output channel of a lane: in this order, packing 32-bit sums to bytes gives the natural one.
constexpr int panel_channel(int vector, int lane) { return lane / 4 * 8 + vector * 4 + lane % 4; }

#if defined(__AVX512VNNI__)

// The epilogue of one vector of sums, clipped from above only.
inline __m512 requantize(__m512i sum, const ConvTile<std::uint8_t>& t, int vector,
                         const std::uint8_t* residual) {
  const int first = vector * 16;
  __m512 x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(t.scale + first),
                             _mm512_loadu_ps(t.bias + first));
  const __m512 slope = _mm512_set1_ps(t.negative_slope);
  if (t.add_last) x = _mm512_max_ps(x, _mm512_mul_ps(x, slope));
  if (residual) {
    // Four bytes of every eight, by panel_channel().
    const __m512i bytes = _mm512_maskz_permutexvar_epi32(
        0xffff, _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 0, 0, 0, 0, 0, 0, 0, 0),
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(residual))));
    const __m128i half =
        vector ? _mm512_extracti32x4_epi32(bytes, 1) : _mm512_castsi512_si128(bytes);
    x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(half)),
                        _mm512_loadu_ps(t.residual_scale + first), x);
  }
  if (t.requant_scale) {
    if (!t.add_last) x = _mm512_max_ps(x, _mm512_mul_ps(x, slope));
    x = _mm512_fmadd_ps(x, _mm512_loadu_ps(t.requant_scale + first),
                        _mm512_loadu_ps(t.requant_shift + first));
  }
  // The conversion to integers that follows gives the smallest one for floats of 2^31 and above.
  return _mm512_min_ps(x, _mm512_set1_ps(255));
}

// Stores the output channels of a pixel.
inline void finish_pixel(const ConvTile<std::uint8_t>& t, int pixel, __m512i first,
                         __m512i second) {
  const std::uint8_t* const residual = t.residual ? t.residual[pixel] + t.channel : nullptr;
  std::uint8_t* const dst = t.dst[pixel] + t.channel;
  const __m512i words = _mm512_packs_epi32(_mm512_cvtps_epi32(requantize(first, t, 0, residual)),
                                           _mm512_cvtps_epi32(requantize(second, t, 1, residual)));
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const __m256i all =
      _mm512_castsi512_si256(_mm512_permutexvar_epi64(order, _mm512_packus_epi16(words, words)));
  if (t.channels == kPanelWidth) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), all);
  } else {  // the channels behind belong to another slice
    _mm256_mask_storeu_epi8(dst, (1u << t.channels) - 1, all);
  }
}

#if defined(__AMX_TILE__)

void conv_tiles(const ConvTile<std::uint8_t>& t) {
  alignas(kAmxRowBytes) std::int32_t sums[kAmxMaxRows][kPanelWidth];
  amx_multiply<std::uint8_t>({t.src, t.src_stride, t.segment_offsets, t.segments, t.segment_length,
                              t.weights, t.pixels, kPanelWidth},
                             sums);
  for (int m = 0; m < t.pixels; ++m) {
    finish_pixel(t, m, _mm512_load_si512(sums[m]), _mm512_load_si512(sums[m] + 16));
  }
}

#else

// The sums of M pixels and 32 channels stay in registers.
template <int M>
void conv(const ConvTile<std::uint8_t>& t) {
  __m512i sum[M][2];
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm512_setzero_si512();
  const std::int8_t* weights = t.weights;
  for (int s = 0; s < t.segments; ++s) {
    const std::uint8_t* const src = t.src + t.segment_offsets[s];
    for (int k = 0; k < t.segment_length; k += 4, weights += 128) {
      const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        // One statement: with three, GCC 12 moves all broadcasts to the front and spills the sums.
        __m512i x;
        asm("vpbroadcastd %3, %2\n\tvpdpbusd %4, %2, %0\n\tvpdpbusd %5, %2, %1"
            : "+v"(sum[m][0]), "+v"(sum[m][1]), "=&v"(x)
            : "m"(*reinterpret_cast<const std::int32_t(*)[1]>(src + m * t.src_stride + k)), "v"(w0),
              "v"(w1));
      }
    }
  }
#pragma GCC unroll 14  // otherwise the sums would be in memory
  for (int m = 0; m < M; ++m) finish_pixel(t, m, sum[m][0], sum[m][1]);
}

#endif

#else

template <int M>
void conv(const ConvTile<std::uint8_t>& t) {
  for (int m = 0; m < M; ++m) {
    std::int32_t sum[kPanelWidth] = {};
    const std::int8_t* weights = t.weights;
    for (int s = 0; s < t.segments; ++s) {
      const std::uint8_t* const src = t.src + t.segment_offsets[s] + m * t.src_stride;
      for (int k = 0; k < t.segment_length; k += 4, weights += 4 * kPanelWidth) {
        for (int lane = 0; lane < kPanelWidth; ++lane) {
          for (int i = 0; i < 4; ++i) sum[lane] += src[k + i] * weights[lane * 4 + i];
        }
      }
    }
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const int channel = panel_channel(lane / 16, lane % 16);
      if (channel >= t.channels) continue;
      float x = static_cast<float>(sum[lane]) * t.scale[lane] + t.bias[lane];
      const float slope = t.negative_slope;
      if (t.add_last) x = x > slope * x ? x : slope * x;
      if (t.residual) x += t.residual[m][t.channel + channel] * t.residual_scale[lane];
      if (t.requant_scale) {
        if (!t.add_last) x = x > slope * x ? x : slope * x;
        x = x * t.requant_scale[lane] + t.requant_shift[lane];
      }
      t.dst[m][t.channel + channel] = to_u8(x);
    }
  }
}

#endif

#if !defined(__AMX_TILE__)
template <int M>
struct Kernel {
  static void run(const ConvTile<std::uint8_t>& t) { conv<M>(t); }
};

void conv_tiles(const ConvTile<std::uint8_t>& t) { ByRows<Kernel>::rows[t.pixels - 1](t); }
#endif

}  // namespace

void conv_u8s8(const ConvTile<std::uint8_t>& t) { conv_tiles(t); }

void bn_relu_u8(const std::uint8_t* __restrict src, const std::uint8_t* __restrict xor_mask,
                const std::uint8_t* __restrict zero_point, std::uint8_t* __restrict dst,
                int channels) {
#if defined(__AVX512VNNI__)
  // The last vector may contain channels that another thread is writing; the mask drops them.
  for (int c = 0; c < channels; c += 64) {
    const int left = channels - c;
    const __mmask64 mask = left < 64 ? (1ull << left) - 1 : ~0ull;
    const __m512i x =
        _mm512_xor_si512(_mm512_loadu_si512(src + c), _mm512_loadu_si512(xor_mask + c));
    _mm512_mask_storeu_epi8(dst + c, mask, _mm512_subs_epu8(x, _mm512_loadu_si512(zero_point + c)));
  }
#else
  for (int c = 0; c < channels; ++c) {
    const std::uint8_t x = src[c] ^ xor_mask[c];
    dst[c] = x > zero_point[c] ? static_cast<std::uint8_t>(x - zero_point[c]) : 0;
  }
#endif
}

void quantize_u8(const float* __restrict src, float scale, float shift,
                 std::uint8_t* __restrict dst, int count) {
  for (int i = 0; i < count; ++i) dst[i] = to_u8(src[i] * scale + shift);
}

void quantize_channels_u8(const float* __restrict src, const float* __restrict scale,
                          const float* __restrict shift, std::uint8_t* __restrict dst,
                          int channels) {
  for (int c = 0; c < channels; ++c) dst[c] = to_u8(src[c] * scale[c] + shift[c]);
}

void dequantize_u8(const std::uint8_t* __restrict src, const float* __restrict scale,
                   const float* __restrict shift, float* __restrict dst, int channels) {
  for (int c = 0; c < channels; ++c) dst[c] = src[c] * scale[c] + shift[c];
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
