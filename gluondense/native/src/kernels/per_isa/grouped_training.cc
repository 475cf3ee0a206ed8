// SPDX-License-Identifier: Apache-2.0
// Grouped 3x3 convolutions in training: see GroupedTrainingTile. A lane is an output channel; the
// inputs of several groups are permuted to their lanes, those of one group are broadcast.
#include "kernels/per_isa/gemm_tile.h"
#include "kernels/training_kernels.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

typedef std::int32_t Indices __attribute__((vector_size(kWidth * 4), may_alias));

// Lane l of the result is lane indices[l] of x.
inline Vector permute(Vector x, Indices indices) {
#if defined(__AVX512F__)
  return (Vector)_mm512_permutexvar_ps((__m512i)indices, (__m512)x);
#elif defined(__AVX2__)
  return (Vector)_mm256_permutevar8x32_ps((__m256)x, (__m256i)indices);
#else
  Vector out;
  for (int l = 0; l < kWidth; ++l) out[l] = x[indices[l]];
  return out;
#endif
}

// The first input channel of each lane's group.
inline Indices first_inputs(const GroupedLanes& lanes) {
  Indices first = {};
  const int groups = lanes.one_group ? 0 : kWidth / lanes.group_channels;
  for (int l = 0; l < groups * lanes.group_channels; ++l) {
    first[l] = l / lanes.group_channels * lanes.group_channels;
  }
  return first;
}

template <bool kOneGroup>
inline Vector input(const float* pixel, Indices first, int k) {
  return kOneGroup ? Vector{} + pixel[k] : permute(at(pixel), first + k);
}

template <bool kOneGroup, int S>
struct Forward {
  template <int M>
  struct Kernel {
    static constexpr int kWindow = (M - 1) * S + 3;  // input pixels of a row that M outputs read

    static void run(const GroupedTrainingTile& t) {
      const Indices first = first_inputs(t.lanes);
      const int channels = t.lanes.group_channels;
      const float* weights = t.weights;
      Vector sum[M];
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) sum[m] = Vector{};
      for (int y = 0; y < 3; ++y) {
        const float* const row = t.rows[y];
        if (!row) {
          weights += channels * 3 * kWidth;
          continue;
        }
        for (int k = 0; k < channels; ++k, weights += 3 * kWidth) {
          const Vector w[3] = {at(weights), at(weights + kWidth), at(weights + 2 * kWidth)};
          // Each input pixel is read once for all three columns of the filter.
#pragma GCC unroll 32
          for (int i = 0; i < kWindow; ++i) {
            const Vector x = input<kOneGroup>(row + i * t.src_stride, first, k);
#pragma GCC unroll 3
            for (int column = 0; column < 3; ++column) {
              const int m = (i - column) / S;
              if (i >= column && (i - column) % S == 0 && m < M) sum[m] += x * w[column];
            }
          }
        }
      }
#pragma GCC unroll 14
      for (int m = 0; m < M; ++m) at(t.dst + m * t.dst_stride) = sum[m];
    }
  };
};

// Input channels of one pass: 3 sums of each, of one row of the filter, are in registers.
constexpr int kFilterInputs = kWidth == 16 ? 8 : 4;

template <bool kOneGroup>
struct BackwardFilter {
  template <int K>
  struct Kernel {
    // `src` is the first window's row y; d_weights is that of the row's input channel `k`.
    static void run(const GroupedFilterGradient& g, const float* src, Indices first, int k,
                    float* d_weights) {
      Vector sum[K][3];
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) {
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) sum[i][x] = at(d_weights + (i * 3 + x) * kWidth);
      }
      Indices inputs[K];
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) inputs[i] = first + (k + i);
      for (int row = 0; row < g.rows; ++row) {
        const float* pixel = src + row * g.stride * g.src_row_stride;
        const float* dy = g.dy + row * g.dy_row_stride;
        for (int p = 0; p < g.pixels; ++p, pixel += g.stride * g.src_stride, dy += g.dy_stride) {
          const Vector d = at(dy);
#pragma GCC unroll 3
          for (int x = 0; x < 3; ++x) {
            const float* const in = pixel + x * g.src_stride;
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) {
              sum[i][x] += (kOneGroup ? Vector{} + in[k + i] : permute(at(in), inputs[i])) * d;
            }
          }
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < K; ++i) {
#pragma GCC unroll 3
        for (int x = 0; x < 3; ++x) at(d_weights + (i * 3 + x) * kWidth) = sum[i][x];
      }
    }
  };
};

template <bool kOneGroup>
void backward_filter(const GroupedFilterGradient& g) {
  const Indices first = first_inputs(g.lanes);
  const int channels = g.lanes.group_channels;
  const int passes = (channels + kFilterInputs - 1) / kFilterInputs;  // of nearly equal size
  for (int y = 0; y < 3; ++y) {
    for (int pass = 0; pass < passes; ++pass) {
      const int k = channels * pass / passes, count = channels * (pass + 1) / passes - k;
      ByRows<BackwardFilter<kOneGroup>::template Kernel,
             std::make_integer_sequence<int, kFilterInputs>>::rows[count -
                                                                   1](
          g, g.src + y * g.src_row_stride, first, k, g.d_weights + (y * channels + k) * 3 * kWidth);
    }
  }
}

}  // namespace

void grouped_conv3x3(const GroupedTrainingTile& t) {
  const auto& rows = t.lanes.one_group ? (t.stride == 1 ? ByRows<Forward<true, 1>::Kernel>::rows
                                                        : ByRows<Forward<true, 2>::Kernel>::rows)
                                       : (t.stride == 1 ? ByRows<Forward<false, 1>::Kernel>::rows
                                                        : ByRows<Forward<false, 2>::Kernel>::rows);
  rows[t.pixels - 1](t);
}

void grouped_conv3x3_backward_filter(const GroupedFilterGradient& g) {
  g.lanes.one_group ? backward_filter<true>(g) : backward_filter<false>(g);
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
