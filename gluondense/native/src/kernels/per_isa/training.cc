// SPDX-License-Identifier: Apache-2.0
// The kernels that only training uses.
#include "kernels/training_kernels.h"

#include "kernels/per_isa/gemm_tile.h"
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

typedef float Half __attribute__((vector_size(kWidth * 2), aligned(4), may_alias));
typedef double Wide __attribute__((vector_size(kWidth * 4), aligned(8), may_alias));

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

// C = A B, in tiles of M rows and V vectors of columns.
template <int V>
struct Gemm {
  template <int M>
  struct Tile {
    static void run(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, float* c,
                    std::ptrdiff_t c_stride) {
      Vector sum[M][V];
      // Without unrolling, the compiler would keep the sums in memory before and after the products.
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        for (int v = 0; v < V; ++v) sum[m][v] = Vector{};
      }
      multiply_add<MultiplyF32>(a, a_stride, depth, b, sum);
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        for (int v = 0; v < V; ++v) at(c + m * c_stride + v * kWidth) = sum[m][v];
      }
    }
  };
};

void gemm(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, float* c,
          std::ptrdiff_t c_stride, int rows, int columns) {
  for (int n = 0; n < columns; n += 2 * kWidth) {
    const auto& run = columns - n > kWidth ? ByRows<Gemm<2>::Tile>::rows[rows - 1]
                                           : ByRows<Gemm<1>::Tile>::rows[rows - 1];
    run(a, a_stride, depth, b + n, c + n, c_stride);
  }
}

// C += A^T B, in tiles of M rows and V vectors of columns.
template <int V>
struct GemmTn {
  template <int M>
  struct Tile {
    static void run(const float* a, std::ptrdiff_t a_stride, const float* b,
                    std::ptrdiff_t b_stride, int pixels, float* c, std::ptrdiff_t c_stride) {
      Vector sum[M][V];
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        for (int v = 0; v < V; ++v) sum[m][v] = at(c + m * c_stride + v * kWidth);
      }
      for (int p = 0; p < pixels; ++p, a += a_stride, b += b_stride) {
        Vector r[V];
        for (int v = 0; v < V; ++v) r[v] = at(b + v * kWidth);
#pragma GCC unroll 14
        for (int m = 0; m < M; ++m) MultiplyF32::add<V>(a[m], r, sum[m]);
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) {
        for (int v = 0; v < V; ++v) at(c + m * c_stride + v * kWidth) = sum[m][v];
      }
    }
  };
};

void gemm_tn(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride,
             int pixels, float* c, std::ptrdiff_t c_stride, int rows, int columns) {
  const int tiles = (rows + kMaxTilePixels - 1) / kMaxTilePixels;  // of nearly equal height
  for (int tile = 0; tile < tiles; ++tile) {
    const int m = rows * tile / tiles, count = rows * (tile + 1) / tiles - m;
    for (int n = 0; n < columns; n += 2 * kWidth) {
      const auto& run = columns - n > kWidth ? ByRows<GemmTn<2>::Tile>::rows[count - 1]
                                             : ByRows<GemmTn<1>::Tile>::rows[count - 1];
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
                const float* __restrict scale, const float* __restrict shift, float* __restrict out,
                int channels) {
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

void winograd_filter_transform(const float* filters, float* out, std::ptrdiff_t plane_stride) {
  for (int n = 0; n < kPanelWidth; n += kWidth) {
    transform_2d<FilterTransform>(
        [&](int y, int x) { return at(filters + (y * 3 + x) * kPanelWidth + n); },
        [&](int y, int x, Vector u) { at(out + (y * 6 + x) * plane_stride + n) = u; });
  }
}

void winograd_filter_transform_adjoint(const float* planes, std::ptrdiff_t plane_stride,
                                       float* d_filters) {
  for (int n = 0; n < kPanelWidth; n += kWidth) {
    transform_2d<FilterTransformAdjoint>(
        [&](int y, int x) { return at(planes + (y * 6 + x) * plane_stride + n); },
        [&](int y, int x, Vector g) { at(d_filters + (y * 3 + x) * kPanelWidth + n) = g; });
  }
}

}  // namespace

extern const TrainingKernels training_table;
const TrainingKernels training_table = {GLUONDENSE_ISA_NAME,
                                        channel_sums,
                                        gemm,
                                        gemm_tn,
                                        bn_relu_backward,
                                        add_affine,
                                        affine_relu,
                                        accumulate_affine_relu,
                                        winograd_filter_transform,
                                        winograd_filter_transform_adjoint,
                                        pixels_to_planes<OutputTransformAdjoint, float>};

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
