// Compiled once for each instruction set, as kernels.cc and by its rules.
#include "kernels/train_kernels.h"

#include "kernels/kernels.h"

namespace gluondense {
namespace GLUONDENSE_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kWidth = 16, kRows = 14;
#elif defined(__AVX2__)
constexpr int kWidth = 8, kRows = 6;
#else
constexpr int kWidth = 4, kRows = 6;
#endif

typedef float Vector __attribute__((vector_size(kWidth * 4), aligned(4), may_alias));
typedef float Half __attribute__((vector_size(kWidth * 2), aligned(4), may_alias));
typedef double Wide __attribute__((vector_size(kWidth * 4), aligned(8), may_alias));

inline Vector& at(float* p) { return *reinterpret_cast<Vector*>(p); }
inline const Vector& at(const float* p) { return *reinterpret_cast<const Vector*>(p); }
inline Wide& wide_at(double* p) { return *reinterpret_cast<Wide*>(p); }
inline Wide widen(const float* p) {
  return __builtin_convertvector(*reinterpret_cast<const Half*>(p), Wide);
}

inline void add_wide(Vector x, double* to) {
  float parts[kWidth];
  at(parts) = x;
  for (int h = 0; h < kWidth; h += kWidth / 2) wide_at(to + h) += widen(parts + h);
}

void moments(const float* in, std::ptrdiff_t step, int pixels, int channels, double* sums,
             double* squares) {
  int c = 0;
  for (; c + kWidth / 2 <= channels; c += kWidth / 2) {
    Wide sum = wide_at(sums + c), square = wide_at(squares + c);
    for (int p = 0; p < pixels; ++p) {
      const Wide x = widen(in + p * step + c);
      sum += x;
      square += x * x;
    }
    wide_at(sums + c) = sum;
    wide_at(squares + c) = square;
  }
  for (; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const double x = in[p * step + c];
      sums[c] += x;
      squares[c] += x * x;
    }
  }
}

constexpr int kAhead = 16;  // as in kernels.cc

template <int M>
void product_tile(const float* in, std::ptrdiff_t in_step, int depth, const float* weights,
                  float* out, std::ptrdiff_t out_step) {
  constexpr int V = 2;
  for (int n = 0; n < kBlock; n += V * kWidth) {
    Vector sum[M][V] = {};
    const float* w = weights + n;
    for (int k = 0; k < depth; ++k, w += kBlock) {
      Vector r[V];
      for (int v = 0; v < V; ++v) {
        r[v] = at(w + v * kWidth);
        __builtin_prefetch(w + kAhead * kBlock + v * kWidth);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        const float x = in[m * in_step + k];
        for (int v = 0; v < V; ++v) sum[m][v] += x * r[v];
      }
    }
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < V; ++v) at(out + m * out_step + n + v * kWidth) = sum[m][v];
    }
  }
}

typedef void (*Product)(const float*, std::ptrdiff_t, int, const float*, float*, std::ptrdiff_t);

void product(const float* in, std::ptrdiff_t in_step, int depth, const float* weights, float* out,
             std::ptrdiff_t out_step, int rows) {
  static const Product by_rows[] = {
      nullptr,         product_tile<1>, product_tile<2>, product_tile<3>,
      product_tile<4>, product_tile<5>, product_tile<6>,
#if defined(__AVX512F__)
      product_tile<7>,  product_tile<8>,  product_tile<9>,  product_tile<10>,
      product_tile<11>, product_tile<12>, product_tile<13>, product_tile<14>,
#endif
  };
  by_rows[rows](in, in_step, depth, weights, out, out_step);
}

template <int M, int V>
void outer_tile(const float* left, std::ptrdiff_t left_step, const float* right,
                std::ptrdiff_t right_step, int pixels, float* out, std::ptrdiff_t out_step) {
  Vector sum[M][V];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) sum[m][v] = at(out + m * out_step + v * kWidth);
  }
  for (int p = 0; p < pixels; ++p, left += left_step, right += right_step) {
    Vector r[V];
    for (int v = 0; v < V; ++v) r[v] = at(right + v * kWidth);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) {
      const float x = left[m];
      for (int v = 0; v < V; ++v) sum[m][v] += x * r[v];
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) at(out + m * out_step + v * kWidth) = sum[m][v];
  }
}

typedef void (*Outer)(const float*, std::ptrdiff_t, const float*, std::ptrdiff_t, int, float*,
                      std::ptrdiff_t);

template <int V>
Outer outer_of(int rows) {
  static const Outer by_rows[] = {
      nullptr,          outer_tile<1, V>, outer_tile<2, V>,  outer_tile<3, V>,
      outer_tile<4, V>, outer_tile<5, V>, outer_tile<6, V>,
#if defined(__AVX512F__)
      outer_tile<7, V>, outer_tile<8, V>, outer_tile<9, V>,  outer_tile<10, V>,
      outer_tile<11, V>, outer_tile<12, V>, outer_tile<13, V>, outer_tile<14, V>,
#endif
  };
  return by_rows[rows];
}

void outer(const float* left, std::ptrdiff_t left_step, const float* right,
           std::ptrdiff_t right_step, int pixels, float* out, std::ptrdiff_t out_step, int rows,
           int columns) {
  const int tiles = (rows + kRows - 1) / kRows;  // of nearly equal height
  for (int tile = 0; tile < tiles; ++tile) {
    const int m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
    for (int n = 0; n < columns; n += 2 * kWidth) {
      const Outer run = columns - n > kWidth ? outer_of<2>(count) : outer_of<1>(count);
      run(left + m, left_step, right + n, right_step, pixels, out + m * out_step + n, out_step);
    }
  }
}

template <bool kAdd>
void gate_as(const Gate& g) {
  int c = 0;
  for (; c + kWidth <= g.channels; c += kWidth) {
    const Vector scale = at(g.scale + c), shift = at(g.shift + c), mean = at(g.mean + c);
    Vector sum = {}, product = {};
    for (int p = 0; p < g.pixels; ++p) {
      if (!g.x[p]) continue;
      const Vector x = at(g.x[p] + c), zero = {};
      const Vector in = at(g.in + p * g.in_step + c) * g.factor;
      const Vector open = x * scale + shift > 0 ? in : zero;
      sum += open;
      product += open * (x - mean);
      Vector& out = at(g.out[p] + c);
      out = kAdd ? out + open * scale : open * scale;
    }
    add_wide(sum, g.sums + c);
    add_wide(product, g.products + c);
  }
  for (; c < g.channels; ++c) {
    for (int p = 0; p < g.pixels; ++p) {
      if (!g.x[p]) continue;
      const float x = g.x[p][c];
      const float open = x * g.scale[c] + g.shift[c] > 0 ? g.in[p * g.in_step + c] * g.factor : 0;
      g.sums[c] += open;
      g.products[c] += open * (x - g.mean[c]);
      g.out[p][c] = (kAdd ? g.out[p][c] : 0) + open * g.scale[c];
    }
  }
}

void gate(const Gate& g) { g.add ? gate_as<true>(g) : gate_as<false>(g); }

void correct(const float* __restrict in, const float* __restrict x, const float* __restrict slope,
             const float* __restrict offset, float* __restrict out, int channels) {
  for (int c = 0; c < channels; ++c) out[c] = in[c] + (x[c] * slope[c] + offset[c]);
}

void rectify_pixels(const float* in, std::ptrdiff_t in_step, const float* scale, const float* shift,
                    float* out, std::ptrdiff_t out_step, int pixels, int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vector a = at(scale + c), b = at(shift + c), zero = {};
    for (int p = 0; p < pixels; ++p) {
      const Vector x = at(in + p * in_step + c) * a + b;
      at(out + p * out_step + c) = x < 0 ? zero : x;
    }
  }
  for (; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const float x = in[p * in_step + c] * scale[c] + shift[c];
      out[p * out_step + c] = x < 0 ? 0 : x;
    }
  }
}

void add_rectified(const float* __restrict in, const float* __restrict scale,
                   const float* __restrict shift, float share, float* __restrict out,
                   int channels) {
  for (int c = 0; c < channels; ++c) {
    const float x = in[c] * scale[c] + shift[c];
    out[c] += x < 0 ? 0 : x * share;
  }
}

// The paper's matrix G, on three taps; and its transpose.
inline void transform_filter(const Vector* g, Vector* u) {
  const Vector even = (g[0] + g[2]) * (1.0f / 6), odd = g[1] * (1.0f / 6);
  const Vector wide = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), middle = g[1] * (1.0f / 12);
  u[0] = g[0] * 0.25f;
  u[1] = -even - odd;
  u[2] = odd - even;
  u[3] = wide + middle;
  u[4] = wide - middle;
  u[5] = g[2];
}

inline void transform_filter_gradient(const Vector* u, Vector* g) {
  const Vector even = (u[1] + u[2]) * (-1.0f / 6), odd = (u[2] - u[1]) * (1.0f / 6);
  const Vector wide = u[3] + u[4], narrow = u[3] - u[4];
  g[0] = u[0] * 0.25f + even + wide * (1.0f / 24);
  g[1] = odd + narrow * (1.0f / 12);
  g[2] = even + wide * (1.0f / 6) + u[5];
}

void winograd_filter(const float* in, float* out, std::ptrdiff_t plane) {
  for (int n = 0; n < kBlock; n += kWidth) {
    Vector half[3][6];  // by column
    for (int x = 0; x < 3; ++x) {
      const Vector g[3] = {at(in + x * kBlock + n), at(in + (3 + x) * kBlock + n),
                           at(in + (6 + x) * kBlock + n)};
      transform_filter(g, half[x]);
    }
    for (int y = 0; y < 6; ++y) {
      const Vector g[3] = {half[0][y], half[1][y], half[2][y]};
      Vector u[6];
      transform_filter(g, u);
      for (int x = 0; x < 6; ++x) at(out + (y * 6 + x) * plane + n) = u[x];
    }
  }
}

void winograd_filter_gradient(const float* in, std::ptrdiff_t plane, float* out) {
  for (int n = 0; n < kBlock; n += kWidth) {
    Vector half[6][3];  // by column
    for (int x = 0; x < 6; ++x) {
      Vector u[6];
      for (int y = 0; y < 6; ++y) u[y] = at(in + (y * 6 + x) * plane + n);
      transform_filter_gradient(u, half[x]);
    }
    for (int y = 0; y < 3; ++y) {
      Vector u[6], g[3];
      for (int x = 0; x < 6; ++x) u[x] = half[x][y];
      transform_filter_gradient(u, g);
      for (int x = 0; x < 3; ++x) at(out + (y * 3 + x) * kBlock + n) = g[x];
    }
  }
}

// The paper's matrix A, on four pixels.
inline void transform_out_gradient(const Vector* d, Vector* t) {
  const Vector even = d[0] + d[2], odd = d[1] + d[3];
  const Vector wide = d[0] + 4 * d[2], narrow = 2 * d[1] + 8 * d[3];
  t[0] = d[0];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = wide + narrow;
  t[4] = wide - narrow;
  t[5] = d[3];
}

void winograd_out_gradient(const float* in, std::ptrdiff_t row, std::ptrdiff_t pixel, float* out,
                           std::ptrdiff_t plane, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    Vector half[4][6];  // by column
    for (int x = 0; x < 4; ++x) {
      Vector d[4];
      for (int y = 0; y < 4; ++y) d[y] = at(in + y * row + x * pixel + c);
      transform_out_gradient(d, half[x]);
    }
    for (int y = 0; y < 6; ++y) {
      Vector d[4], t[6];
      for (int x = 0; x < 4; ++x) d[x] = half[x][y];
      transform_out_gradient(d, t);
      for (int x = 0; x < 6; ++x) at(out + (y * 6 + x) * plane + c) = t[x];
    }
  }
}

}  // namespace

extern const TrainKernels train_table;
const TrainKernels train_table = {GLUONDENSE_NAME,
                                  moments,
                                  product,
                                  outer,
                                  gate,
                                  correct,
                                  rectify_pixels,
                                  add_rectified,
                                  winograd_filter,
                                  winograd_filter_gradient,
                                  winograd_out_gradient};

}  // namespace GLUONDENSE_ISA
}  // namespace gluondense
