// Compiled once for each instruction set, with GLUONDENSE_ISA naming it: the compiler's vectors
// become that set's registers. No inline function of a library may be used here: the linker keeps
// one of its copies for all, and it could be the one that this processor cannot run.
#include "kernels/kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace gluondense {
namespace GLUONDENSE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16, kPixels = 14;  // 28 of 32 registers are sums
#elif defined(__AVX2__)
constexpr int kWidth = 8, kPixels = 6;  // 12 of 16
#else
constexpr int kWidth = 4, kPixels = 6;
#endif

// Unaligned on purpose: a map's channels begin anywhere in a concatenation.
typedef float Vector __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));

inline Vector& at(float* p) { return *reinterpret_cast<Vector*>(p); }
inline const Vector& at(const float* p) { return *reinterpret_cast<const Vector*>(p); }

inline Vector activate(Vector x, float slope) {
  const Vector low = x * slope;
  return x > low ? x : low;  // for slopes up to 1
}

// Adds, activates and stores as many channels as are left.
inline void finish(Vector x, const float* add, float slope, int left, float* out) {
  if (left >= kWidth) {
    if (add) x += at(add);
    at(out) = slope == 1 ? x : activate(x, slope);
  } else if (left > 0) {  // the neighbours' channels stay as they are
    float rest[kWidth] = {};
    if (add) __builtin_memcpy(rest, add, left * sizeof(float));
    x += at(rest);
    at(rest) = slope == 1 ? x : activate(x, slope);
    __builtin_memcpy(out, rest, left * sizeof(float));
  }
}

// Rows of weights from here to those that are fetched; 4 % of a network's time, from 8 to 32 alike.
constexpr int kAhead = 16;

// What is multiplied and added: floats, or pairs of bfloat16 that look like floats.
struct Floats {
  template <int V>
  static void add(const float& x, const Vector* w, Vector* sum) {
    for (int v = 0; v < V; ++v) sum[v] += x * w[v];
  }
};

#if defined(__AVX512BF16__)

struct Pairs {
  template <int V>
  static void add(const float& x, const Vector* w, Vector* sum) {
    __m512 all;
    // One statement, as for bytes.
    if constexpr (V == 2) {
      asm("vbroadcastss %3, %2\n\tvdpbf16ps %2, %4, %0\n\tvdpbf16ps %2, %5, %1"
          : "+v"(sum[0]), "+v"(sum[1]), "=&v"(all)
          : "m"(x), "v"(w[0]), "v"(w[1]));
    } else {
      asm("vdpbf16ps %1%{1to16%}, %2, %0" : "+v"(sum[0]) : "m"(x), "v"(w[0]));
    }
  }
};

#endif

// Sums of M pixels and V vectors of channels stay in registers over all taps.
template <class Products, int M, int V>
void conv(const ConvTile<float>& t, int first) {
  Vector sum[M][V];
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Vector bias = at(t.bias + first + v * kWidth);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) sum[m][v] = bias;
  }
  const float* weights = t.weights + first;
  for (int r = 0; r < t.runs; ++r) {
    const float* in = t.in + t.taps[r];
    for (int k = 0; k < t.run; ++k, weights += kBlock) {
      Vector w[V];
      for (int v = 0; v < V; ++v) {
        w[v] = at(weights + v * kWidth);
        __builtin_prefetch(weights + kAhead * kBlock + v * kWidth);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        Products::template add<V>(in[m * t.in_step + k], w, sum[m]);
      }
    }
  }
#pragma GCC unroll 14  // else the sums would be in memory
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      const int channel = first + v * kWidth;
      finish(sum[m][v], t.add ? t.add[m] + channel : nullptr, t.slope, t.channels - channel,
             t.out[m] + channel);
    }
  }
}

template <class Products, int M>
void conv_pixels(const ConvTile<float>& t) {
  for (int first = 0; first < t.channels; first += 2 * kWidth) {
    if (t.channels - first > kWidth) {
      conv<Products, M, 2>(t, first);
    } else {
      conv<Products, M, 1>(t, first);
    }
  }
}

template <class P>
void conv_tile(const ConvTile<float>& t) {
  static void (*const by_pixels[])(const ConvTile<float>&) = {
      nullptr,           conv_pixels<P, 1>, conv_pixels<P, 2>, conv_pixels<P, 3>,
      conv_pixels<P, 4>, conv_pixels<P, 5>, conv_pixels<P, 6>,
#if defined(__AVX512F__)
      conv_pixels<P, 7>, conv_pixels<P, 8>, conv_pixels<P, 9>, conv_pixels<P, 10>,
      conv_pixels<P, 11>, conv_pixels<P, 12>, conv_pixels<P, 13>, conv_pixels<P, 14>,
#endif
  };
  by_pixels[t.pixels](t);
}

void affine(const float* __restrict in, const float* __restrict scale,
            const float* __restrict shift, float slope, float* __restrict out, int channels) {
  for (int c = 0; c < channels; ++c) {
    const float x = in[c] * scale[c] + shift[c];
    out[c] = x > slope * x ? x : slope * x;
  }
}

#if defined(__AVX512BF16__)

void affine_pairs(const float* in, const float* scale, const float* shift, float* out,
                  int channels) {
  for (int c = 0; c < channels; c += 2 * kWidth) {
    __m512 x[2];
    for (int v = 0; v < 2; ++v) {
      const int at = c + v * kWidth, left = channels - at;
      const __mmask16 here = left >= kWidth ? 0xffff : left > 0 ? (1u << left) - 1 : 0;
      x[v] = _mm512_maskz_loadu_ps(here, in + at);
      if (!scale) continue;
      x[v] = _mm512_fmadd_ps(x[v], _mm512_maskz_loadu_ps(here, scale + at),
                             _mm512_maskz_loadu_ps(here, shift + at));
      x[v] = _mm512_max_ps(_mm512_setzero_ps(), x[v]);  // in this order, not a number stays none
    }
    _mm512_storeu_si512(out + c / 2, (__m512i)_mm512_cvtne2ps_pbh(x[1], x[0]));
  }
}

constexpr auto kConvPairs = conv_tile<Pairs>;
constexpr auto kAffinePairs = affine_pairs;

#else

constexpr void (*kConvPairs)(const ConvTile<float>&) = nullptr;
constexpr void (*kAffinePairs)(const float*, const float*, const float*, float*, int) = nullptr;

#endif

// One dimension of the transforms; the paper's matrices B^T and A^T.
inline void transform_in(const Vector* d, Vector* t) {
  const Vector a = d[4] - 4 * d[2], b = d[3] - 4 * d[1];
  const Vector c = d[4] - d[2], e = 2 * (d[3] - d[1]);
  t[0] = 4 * d[0] - 5 * d[2] + d[4];
  t[1] = a + b;
  t[2] = a - b;
  t[3] = c + e;
  t[4] = c - e;
  t[5] = 4 * d[1] - 5 * d[3] + d[5];
}

inline void transform_out(const Vector* m, Vector* y) {
  const Vector p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
  y[0] = m[0] + p + r;
  y[1] = q + 2 * s;
  y[2] = p + 4 * r;
  y[3] = q + 8 * s + m[5];
}

void winograd_in(const float* in, std::ptrdiff_t row, std::ptrdiff_t pixel, float* out,
                 std::ptrdiff_t plane, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    Vector half[6][6];  // transformed columns, one a row
    for (int x = 0; x < 6; ++x) {
      Vector d[6];
      for (int y = 0; y < 6; ++y) d[y] = at(in + y * row + x * pixel + c);
      transform_in(d, half[x]);
    }
    for (int y = 0; y < 6; ++y) {
      Vector d[6], t[6];
      for (int x = 0; x < 6; ++x) d[x] = half[x][y];
      transform_in(d, t);
      for (int x = 0; x < 6; ++x) at(out + (y * 6 + x) * plane + c) = t[x];
    }
  }
}

void winograd_out(const WinogradOut& o) {
  for (int c = 0; c < o.channels; c += kWidth) {
    Vector half[6][4];
    for (int x = 0; x < 6; ++x) {
      Vector m[6];
      for (int y = 0; y < 6; ++y) m[y] = at(o.in + (y * 6 + x) * o.plane + c);
      transform_out(m, half[x]);
    }
    const Vector bias = at(o.bias + c);
    for (int y = 0; y < 4; ++y) {
      Vector m[6], out[4];
      for (int x = 0; x < 6; ++x) m[x] = half[x][y];
      transform_out(m, out);
      for (int x = 0; x < 4; ++x) {
        const int i = y * 4 + x;
        if (!o.out[i]) continue;
        finish(out[x] + bias, o.add ? o.add[i] + c : nullptr, o.slope, o.channels - c,
               o.out[i] + c);
      }
    }
  }
}

void pool(const float* const* pixels, int count, bool max, float share, float* out, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    Vector pooled = {};
    for (int i = 0; i < count; ++i) {
      Vector x = {};
      if (left >= kWidth) {
        x = at(pixels[i] + c);
      } else {
        __builtin_memcpy(&x, pixels[i] + c, left * sizeof(float));
      }
      pooled = i == 0 ? x : max ? (pooled > x ? pooled : x) : pooled + x;
    }
    finish(max ? pooled : pooled * share, nullptr, 1, left, out + c);
  }
}

#if defined(__AVX512F__)

// Pixels that a window of three columns makes of M.
template <int M, int S>
constexpr int kWindow = (M - 1) * S + 3;

template <int M, int S>
void grouped(const GroupedTile& t) {
  Vector sum[M];
  for (int m = 0; m < M; ++m) sum[m] = at(t.bias);
  const float* weights = t.weights;
  for (int y = 0; y < 3; ++y) {
    const float* const in = t.in + y * t.in_row;
    for (int k = 0; k < t.depth; ++k, weights += 3 * kGroupedLanes) {
      const __m512i lanes = _mm512_add_epi32(_mm512_loadu_si512(t.lanes), _mm512_set1_epi32(k));
      const Vector w[3] = {at(weights), at(weights + kGroupedLanes), at(weights + 2 * kGroupedLanes)};
      // Each pixel is moved once, for all three columns.
#pragma GCC unroll 32
      for (int i = 0; i < kWindow<M, S>; ++i) {
        const Vector x = _mm512_permutexvar_ps(lanes, _mm512_loadu_ps(in + i * t.in_step));
#pragma GCC unroll 3
        for (int column = 0; column < 3; ++column) {
          const int m = (i - column) / S;
          if (i >= column && (i - column) % S == 0 && m < M) sum[m] += x * w[column];
        }
      }
    }
  }
#pragma GCC unroll 14
  for (int m = 0; m < M; ++m) {
    finish(sum[m], t.add ? t.add + m * t.add_step : nullptr, t.slope, t.channels,
           t.out + m * t.out_step);
  }
}

template <int S>
void grouped_stride(const GroupedTile& t) {
  static void (*const by_pixels[])(const GroupedTile&) = {
      nullptr,       grouped<1, S>, grouped<2, S>,  grouped<3, S>,  grouped<4, S>,
      grouped<5, S>, grouped<6, S>, grouped<7, S>,  grouped<8, S>,  grouped<9, S>,
      grouped<10, S>, grouped<11, S>, grouped<12, S>, grouped<13, S>, grouped<14, S>,
  };
  by_pixels[t.pixels](t);
}

void grouped_tile(const GroupedTile& t) { t.stride == 1 ? grouped_stride<1>(t) : grouped_stride<2>(t); }

constexpr auto kGrouped = grouped_tile;

#else

constexpr void (*kGrouped)(const GroupedTile&) = nullptr;

#endif

}  // namespace

// In kernels_bytes.cc.
void conv_bytes(const ConvTile<Byte>& tile);
void rectify(const Byte* in, const Byte* flip, const Byte* zero, Byte* out, int channels);
void quantize(const float* in, float scale, float shift, Byte* out, int count);
void pool_bytes(const Byte* const* pixels, int count, bool max, Byte* out, int channels);

extern const Kernels table;
const Kernels table = {GLUONDENSE_NAME, kPixels,      conv_tile<Floats>, conv_bytes, kConvPairs,
                       affine,          kAffinePairs, rectify,           quantize,   pool,
                       pool_bytes,      winograd_in,  winograd_out,      kGrouped};

}  // namespace GLUONDENSE_ISA
}  // namespace gluondense
