// The inner loops over bytes. As kernels.cc, compiled once for each instruction set.
#include "kernels/kernels.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace gluondense {
namespace GLUONDENSE_ISA {
namespace {

// Which output channel a vector's lane holds: packing 32 bits to 8 then gives the natural order.
constexpr int column(int vector, int lane) { return lane / 4 * 8 + vector * 4 + lane % 4; }

// Adding this puts a float's integer part, rounded to even, into its lowest bits.
constexpr float kRound = 8388608.0f;

inline Byte byte(float value) {
  value = value > 0 ? value : 0;
  value = (value < 255 ? value : 255) + kRound;
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return static_cast<Byte>(bits);
}

#if defined(__AVX512VNNI__)

inline __m512 finish(__m512i sum, const ConvTile<Byte>& t, int vector, const Byte* add) {
  const int first = vector * 16;
  __m512 x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(t.scale + first),
                             _mm512_loadu_ps(t.bias + first));
  if (add) {
    // Four bytes of every eight, from column()'s order.
    const __m512i all = _mm512_maskz_permutexvar_epi32(
        0xffff, _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 0, 0, 0, 0, 0, 0, 0, 0),
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(add))));
    const __m128i mine = vector ? _mm512_extracti32x4_epi32(all, 1) : _mm512_castsi512_si128(all);
    x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(mine)),
                        _mm512_loadu_ps(t.add_scale + first), x);
  }
  if (t.out_scale) {
    x = _mm512_max_ps(x, _mm512_mul_ps(x, _mm512_set1_ps(t.slope)));
    x = _mm512_fmadd_ps(x, _mm512_loadu_ps(t.out_scale + first),
                        _mm512_loadu_ps(t.out_shift + first));
  }
  // The next step makes integers of them, whose largest one would become the smallest beyond 2^31.
  return _mm512_min_ps(x, _mm512_set1_ps(255));
}

// Sums of M pixels and 32 channels stay in registers over all taps.
template <int M>
void conv(const ConvTile<Byte>& t) {
  __m512i sum[M][2];
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) sum[m][0] = sum[m][1] = _mm512_setzero_si512();
  const std::int8_t* weights = t.weights;
  for (int r = 0; r < t.runs; ++r) {
    const Byte* const in = t.in + t.taps[r];
    for (int k = 0; k < t.run; k += 4, weights += 128) {
      const __m512i w0 = _mm512_loadu_si512(weights), w1 = _mm512_loadu_si512(weights + 64);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        // One statement: apart, GCC 12 moves all broadcasts to the front and spills the sums.
        __m512i x;
        asm("vpbroadcastd %3, %2\n\tvpdpbusd %4, %2, %0\n\tvpdpbusd %5, %2, %1"
            : "+v"(sum[m][0]), "+v"(sum[m][1]), "=&v"(x)
            : "m"(*reinterpret_cast<const std::int32_t(*)[1]>(in + m * t.in_step + k)), "v"(w0),
              "v"(w1));
      }
    }
  }
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
#pragma GCC unroll 14  // else the sums would be in memory
  for (int m = 0; m < M; ++m) {
    const Byte* const add = t.add ? t.add[m] : nullptr;
    const __m512i half = _mm512_packs_epi32(_mm512_cvtps_epi32(finish(sum[m][0], t, 0, add)),
                                            _mm512_cvtps_epi32(finish(sum[m][1], t, 1, add)));
    const __m256i all = _mm512_castsi512_si256(
        _mm512_permutexvar_epi64(order, _mm512_packus_epi16(half, half)));
    if (t.channels == kBlock) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(t.out[m]), all);
    } else {  // the neighbours' channels stay as they are
      _mm256_mask_storeu_epi8(t.out[m], (1u << t.channels) - 1, all);
    }
  }
}

#else

template <int M>
void conv(const ConvTile<Byte>& t) {
  for (int m = 0; m < M; ++m) {
    std::int32_t sum[kBlock] = {};
    const std::int8_t* weights = t.weights;
    for (int r = 0; r < t.runs; ++r) {
      const Byte* const in = t.in + t.taps[r] + m * t.in_step;
      for (int k = 0; k < t.run; k += 4, weights += 4 * kBlock) {
        for (int lane = 0; lane < kBlock; ++lane) {
          for (int i = 0; i < 4; ++i) sum[lane] += in[k + i] * weights[lane * 4 + i];
        }
      }
    }
    for (int lane = 0; lane < kBlock; ++lane) {
      const int channel = column(lane / 16, lane % 16);
      if (channel >= t.channels) continue;
      float x = static_cast<float>(sum[lane]) * t.scale[lane] + t.bias[lane];
      if (t.add) x += t.add[m][channel] * t.add_scale[lane];
      if (t.out_scale) {
        x = x > t.slope * x ? x : t.slope * x;
        x = x * t.out_scale[lane] + t.out_shift[lane];
      }
      t.out[m][channel] = byte(x);
    }
  }
}

#endif

}  // namespace

void conv_bytes(const ConvTile<Byte>& t) {
  static void (*const by_pixels[])(const ConvTile<Byte>&) = {
      nullptr, conv<1>, conv<2>, conv<3>,  conv<4>,  conv<5>,  conv<6>, conv<7>,
      conv<8>, conv<9>, conv<10>, conv<11>, conv<12>, conv<13>, conv<14>,
  };
  by_pixels[t.pixels](t);
}

void rectify(const Byte* __restrict in, const Byte* __restrict flip, const Byte* __restrict zero,
             Byte* __restrict out, int channels) {
#if defined(__AVX512VNNI__)
  // The last vector also reads channels that another thread may be writing, and drops them.
  for (int c = 0; c < channels; c += 64) {
    const int left = channels - c;
    const __mmask64 here = left < 64 ? (1ull << left) - 1 : ~0ull;
    const __m512i x = _mm512_xor_si512(_mm512_loadu_si512(in + c), _mm512_loadu_si512(flip + c));
    _mm512_mask_storeu_epi8(out + c, here, _mm512_subs_epu8(x, _mm512_loadu_si512(zero + c)));
  }
#else
  for (int c = 0; c < channels; ++c) {
    const Byte x = in[c] ^ flip[c];
    out[c] = x > zero[c] ? static_cast<Byte>(x - zero[c]) : 0;
  }
#endif
}

void quantize(const float* __restrict in, float scale, float shift, Byte* __restrict out,
              int count) {
  for (int i = 0; i < count; ++i) out[i] = byte(in[i] * scale + shift);
}

void pool_bytes(const Byte* const* pixels, int count, bool max, Byte* __restrict out,
                int channels) {
  constexpr int kPiece = 64;
  typedef Byte Bytes __attribute__((vector_size(kPiece), aligned(1), may_alias));
  typedef std::uint16_t Sums __attribute__((vector_size(2 * kPiece)));
  for (int begin = 0; begin < channels; begin += kPiece) {
#define PIECE(i) (*reinterpret_cast<const Bytes*>(pixels[i] + begin))  // no vector is passed on
    Bytes pooled = PIECE(0);
    if (max) {
      for (int i = 1; i < count; ++i) pooled = pooled > PIECE(i) ? pooled : PIECE(i);
    } else {
      Sums sum = __builtin_convertvector(pooled, Sums);  // of at most 257 pixels
      for (int i = 1; i < count; ++i) sum += __builtin_convertvector(PIECE(i), Sums);
      if (count == 4) {
        pooled = __builtin_convertvector((sum + 2) >> 2, Bytes);
      } else {
        const float share = 1.0f / static_cast<float>(count);
        for (int c = 0; c < kPiece; ++c) pooled[c] = byte(sum[c] * share);
      }
    }
#undef PIECE
    const int left = channels - begin;
    __builtin_memcpy(out + begin, &pooled, left < kPiece ? left : kPiece);
  }
}

}  // namespace GLUONDENSE_ISA
}  // namespace gluondense
