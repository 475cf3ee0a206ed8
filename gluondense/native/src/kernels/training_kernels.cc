// Compiled once for each instruction set, as kernels.cc and by its rules.
#include "kernels/training_kernels.h"

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

void channel_sums(const float* x, std::ptrdiff_t stride, int pixels, int channels, double* sums,
                  double* squares) {
  int c = 0;
  for (; c + kWidth / 2 <= channels; c += kWidth / 2) {
    Wide sum = wide_at(sums + c), square = wide_at(squares + c);
    for (int p = 0; p < pixels; ++p) {
      const Wide value = widen(x + p * stride + c);
      sum += value;
      square += value * value;
    }
    wide_at(sums + c) = sum;
    wide_at(squares + c) = square;
  }
  for (; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const double value = x[p * stride + c];
      sums[c] += value;
      squares[c] += value * value;
    }
  }
}

constexpr int kAhead = 16;  // as in kernels.cc

template <int M>
void gemm_tile(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, float* c,
               std::ptrdiff_t c_stride) {
  constexpr int V = 2;
  for (int n = 0; n < kBlock; n += V * kWidth) {
    Vector sum[M][V] = {};
    const float* row = b + n;
    for (int k = 0; k < depth; ++k, row += kBlock) {
      Vector r[V];
      for (int v = 0; v < V; ++v) {
        r[v] = at(row + v * kWidth);
        __builtin_prefetch(row + kAhead * kBlock + v * kWidth);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        const float x = a[m * a_stride + k];
        for (int v = 0; v < V; ++v) sum[m][v] += x * r[v];
      }
    }
    for (int m = 0; m < M; ++m) {
      for (int v = 0; v < V; ++v) at(c + m * c_stride + n + v * kWidth) = sum[m][v];
    }
  }
}

typedef void (*GemmTile)(const float*, std::ptrdiff_t, int, const float*, float*, std::ptrdiff_t);

void gemm(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, float* c,
          std::ptrdiff_t c_stride, int rows) {
  static const GemmTile by_rows[] = {
      nullptr,      gemm_tile<1>,  gemm_tile<2>,  gemm_tile<3>,  gemm_tile<4>,
      gemm_tile<5>, gemm_tile<6>,
#if defined(__AVX512F__)
      gemm_tile<7>, gemm_tile<8>,  gemm_tile<9>,  gemm_tile<10>, gemm_tile<11>,
      gemm_tile<12>, gemm_tile<13>, gemm_tile<14>,
#endif
  };
  by_rows[rows](a, a_stride, depth, b, c, c_stride);
}

template <int M, int V>
void gemm_tn_tile(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride,
                  int pixels, float* c, std::ptrdiff_t c_stride) {
  Vector sum[M][V];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) sum[m][v] = at(c + m * c_stride + v * kWidth);
  }
  for (int p = 0; p < pixels; ++p, a += a_stride, b += b_stride) {
    Vector r[V];
    for (int v = 0; v < V; ++v) r[v] = at(b + v * kWidth);
#pragma GCC unroll 14
    for (int m = 0; m < M; ++m) {
      const float x = a[m];
      for (int v = 0; v < V; ++v) sum[m][v] += x * r[v];
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < V; ++v) at(c + m * c_stride + v * kWidth) = sum[m][v];
  }
}

typedef void (*GemmTnTile)(const float*, std::ptrdiff_t, const float*, std::ptrdiff_t, int, float*,
                           std::ptrdiff_t);

template <int V>
GemmTnTile gemm_tn_tile_of(int rows) {
  static const GemmTnTile by_rows[] = {
      nullptr,
      gemm_tn_tile<1, V>,
      gemm_tn_tile<2, V>,
      gemm_tn_tile<3, V>,
      gemm_tn_tile<4, V>,
      gemm_tn_tile<5, V>,
      gemm_tn_tile<6, V>,
#if defined(__AVX512F__)
      gemm_tn_tile<7, V>,
      gemm_tn_tile<8, V>,
      gemm_tn_tile<9, V>,
      gemm_tn_tile<10, V>,
      gemm_tn_tile<11, V>,
      gemm_tn_tile<12, V>,
      gemm_tn_tile<13, V>,
      gemm_tn_tile<14, V>,
#endif
  };
  return by_rows[rows];
}

void gemm_tn(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride,
             int pixels, float* c, std::ptrdiff_t c_stride, int rows, int columns) {
  const int tiles = (rows + kRows - 1) / kRows;  // of nearly equal height
  for (int tile = 0; tile < tiles; ++tile) {
    const int m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
    for (int n = 0; n < columns; n += 2 * kWidth) {
      const GemmTnTile run =
          columns - n > kWidth ? gemm_tn_tile_of<2>(count) : gemm_tn_tile_of<1>(count);
      run(a + m, a_stride, b + n, b_stride, pixels, c + m * c_stride + n, c_stride);
    }
  }
}

template <bool kAccumulate>
void bn_relu_backward_as(const BnReluBackward& g) {
  int c = 0;
  for (; c + kWidth <= g.channels; c += kWidth) {
    const Vector scale = at(g.scale + c), shift = at(g.shift + c), mean = at(g.mean + c);
    Vector sum_dy = {}, sum_dy_xmu = {};
    for (int p = 0; p < g.pixels; ++p) {
      if (!g.x[p]) continue;
      const Vector x = at(g.x[p] + c), zero = {};
      const Vector dy = at(g.dy + p * g.dy_stride + c) * g.dy_factor;
      const Vector d = x * scale + shift > 0 ? dy : zero;
      sum_dy += d;
      sum_dy_xmu += d * (x - mean);
      Vector& dx = at(g.dx[p] + c);
      dx = kAccumulate ? dx + d * scale : d * scale;
    }
    add_wide(sum_dy, g.sum_dy + c);
    add_wide(sum_dy_xmu, g.sum_dy_xmu + c);
  }
  for (; c < g.channels; ++c) {
    for (int p = 0; p < g.pixels; ++p) {
      if (!g.x[p]) continue;
      const float x = g.x[p][c];
      const float d = x * g.scale[c] + g.shift[c] > 0 ? g.dy[p * g.dy_stride + c] * g.dy_factor : 0;
      g.sum_dy[c] += d;
      g.sum_dy_xmu[c] += d * (x - g.mean[c]);
      g.dx[p][c] = (kAccumulate ? g.dx[p][c] : 0) + d * g.scale[c];
    }
  }
}

void bn_relu_backward(const BnReluBackward& args) {
  args.accumulate ? bn_relu_backward_as<true>(args) : bn_relu_backward_as<false>(args);
}

void add_affine(const float* __restrict in, const float* __restrict x,
                const float* __restrict scale, const float* __restrict shift,
                float* __restrict out, int channels) {
  for (int c = 0; c < channels; ++c) out[c] = in[c] + (x[c] * scale[c] + shift[c]);
}

void affine_relu(const float* in, std::ptrdiff_t in_stride, const float* scale, const float* shift,
                 float* out, std::ptrdiff_t out_stride, int pixels, int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vector a = at(scale + c), b = at(shift + c), zero = {};
    for (int p = 0; p < pixels; ++p) {
      const Vector x = at(in + p * in_stride + c) * a + b;
      at(out + p * out_stride + c) = x < 0 ? zero : x;
    }
  }
  for (; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const float x = in[p * in_stride + c] * scale[c] + shift[c];
      out[p * out_stride + c] = x < 0 ? 0 : x;
    }
  }
}

void accumulate_affine_relu(const float* __restrict in, const float* __restrict scale,
                            const float* __restrict shift, float factor, float* __restrict out,
                            int channels) {
  for (int c = 0; c < channels; ++c) {
    const float x = in[c] * scale[c] + shift[c];
    out[c] += x < 0 ? 0 : x * factor;
  }
}

// Lavin and Gray's matrix G, applied to three filter taps; and its transpose.
inline void multiply_g(const Vector* g, Vector* u) {
  const Vector even = (g[0] + g[2]) * (1.0f / 6), odd = g[1] * (1.0f / 6);
  const Vector wide = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), middle = g[1] * (1.0f / 12);
  u[0] = g[0] * 0.25f;
  u[1] = -even - odd;
  u[2] = odd - even;
  u[3] = wide + middle;
  u[4] = wide - middle;
  u[5] = g[2];
}

inline void multiply_g_transposed(const Vector* u, Vector* g) {
  const Vector even = (u[1] + u[2]) * (-1.0f / 6), odd = (u[2] - u[1]) * (1.0f / 6);
  const Vector wide = u[3] + u[4], narrow = u[3] - u[4];
  g[0] = u[0] * 0.25f + even + wide * (1.0f / 24);
  g[1] = odd + narrow * (1.0f / 12);
  g[2] = even + wide * (1.0f / 6) + u[5];
}

void winograd_filter_transform(const float* filters, float* out, std::ptrdiff_t plane_stride) {
  for (int n = 0; n < kBlock; n += kWidth) {
    Vector half[3][6];  // by column
    for (int x = 0; x < 3; ++x) {
      const Vector g[3] = {at(filters + x * kBlock + n), at(filters + (3 + x) * kBlock + n),
                           at(filters + (6 + x) * kBlock + n)};
      multiply_g(g, half[x]);
    }
    for (int y = 0; y < 6; ++y) {
      const Vector g[3] = {half[0][y], half[1][y], half[2][y]};
      Vector u[6];
      multiply_g(g, u);
      for (int x = 0; x < 6; ++x) at(out + (y * 6 + x) * plane_stride + n) = u[x];
    }
  }
}

void winograd_filter_transform_adjoint(const float* planes, std::ptrdiff_t plane_stride,
                                       float* d_filters) {
  for (int n = 0; n < kBlock; n += kWidth) {
    Vector half[6][3];  // by column
    for (int x = 0; x < 6; ++x) {
      Vector u[6];
      for (int y = 0; y < 6; ++y) u[y] = at(planes + (y * 6 + x) * plane_stride + n);
      multiply_g_transposed(u, half[x]);
    }
    for (int y = 0; y < 3; ++y) {
      Vector u[6], g[3];
      for (int x = 0; x < 6; ++x) u[x] = half[x][y];
      multiply_g_transposed(u, g);
      for (int x = 0; x < 3; ++x) at(d_filters + (y * 3 + x) * kBlock + n) = g[x];
    }
  }
}

// The matrix A, the transpose of the output transform's, applied to four pixels.
inline void multiply_a(const Vector* d, Vector* t) {
  const Vector even = d[0] + d[2], odd = d[1] + d[3];
  const Vector wide = d[0] + 4 * d[2], narrow = 2 * d[1] + 8 * d[3];
  t[0] = d[0];
  t[1] = even + odd;
  t[2] = even - odd;
  t[3] = wide + narrow;
  t[4] = wide - narrow;
  t[5] = d[3];
}

void winograd_output_transform_adjoint(const float* dy, std::ptrdiff_t row_stride,
                                       std::ptrdiff_t pixel_stride, float* planes,
                                       std::ptrdiff_t plane_stride, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    Vector half[4][6];  // by column
    for (int x = 0; x < 4; ++x) {
      Vector d[4];
      for (int y = 0; y < 4; ++y) d[y] = at(dy + y * row_stride + x * pixel_stride + c);
      multiply_a(d, half[x]);
    }
    for (int y = 0; y < 6; ++y) {
      Vector d[4], t[6];
      for (int x = 0; x < 4; ++x) d[x] = half[x][y];
      multiply_a(d, t);
      for (int x = 0; x < 6; ++x) at(planes + (y * 6 + x) * plane_stride + c) = t[x];
    }
  }
}

}  // namespace

extern const TrainingKernels training_table;
const TrainingKernels training_table = {GLUONDENSE_NAME,
                                        channel_sums,
                                        gemm,
                                        gemm_tn,
                                        bn_relu_backward,
                                        add_affine,
                                        affine_relu,
                                        accumulate_affine_relu,
                                        winograd_filter_transform,
                                        winograd_filter_transform_adjoint,
                                        winograd_output_transform_adjoint};

}  // namespace GLUONDENSE_ISA
}  // namespace gluondense
