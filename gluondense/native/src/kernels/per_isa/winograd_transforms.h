// SPDX-License-Identifier: Apache-2.0
// The transforms of Winograd's F(4x4, 3x3) and their adjoints (arXiv:1509.09308, section 4.3).
#pragma once

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// One dimension of a transform, on `from` elements to `to`.
struct InputTransform {  // B^T
  static constexpr int from = 6, to = 6;
  static void run(const Vector* d, Vector* t) {
    const Vector a = d[4] - 4 * d[2], b = d[3] - 4 * d[1];
    const Vector c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    t[0] = 4 * d[0] - 5 * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + e;
    t[4] = c - e;
    t[5] = 4 * d[1] - 5 * d[3] + d[5];
  }
};

struct OutputTransform {  // A^T
  static constexpr int from = 6, to = 4;
  static void run(const Vector* m, Vector* y) {
    const Vector p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    y[0] = m[0] + p + r;
    y[1] = q + 2 * s;
    y[2] = p + 4 * r;
    y[3] = q + 8 * s + m[5];
  }
};

struct OutputTransformAdjoint {  // A
  static constexpr int from = 4, to = 6;
  static void run(const Vector* d, Vector* t) {
    const Vector even = d[0] + d[2], odd = d[1] + d[3];
    const Vector wide = d[0] + 4 * d[2], narrow = 2 * d[1] + 8 * d[3];
    t[0] = d[0];
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = wide + narrow;
    t[4] = wide - narrow;
    t[5] = d[3];
  }
};

struct FilterTransform {  // G
  static constexpr int from = 3, to = 6;
  static void run(const Vector* g, Vector* u) {
    const Vector even = (g[0] + g[2]) * (1.0f / 6), odd = g[1] * (1.0f / 6);
    const Vector wide = g[0] * (1.0f / 24) + g[2] * (1.0f / 6), middle = g[1] * (1.0f / 12);
    u[0] = g[0] * 0.25f;
    u[1] = -even - odd;
    u[2] = odd - even;
    u[3] = wide + middle;
    u[4] = wide - middle;
    u[5] = g[2];
  }
};

struct FilterTransformAdjoint {  // G^T
  static constexpr int from = 6, to = 3;
  static void run(const Vector* u, Vector* g) {
    const Vector even = (u[1] + u[2]) * (-1.0f / 6), odd = (u[2] - u[1]) * (1.0f / 6);
    const Vector wide = u[3] + u[4], narrow = u[3] - u[4];
    g[0] = u[0] * 0.25f + even + wide * (1.0f / 24);
    g[1] = odd + narrow * (1.0f / 12);
    g[2] = even + wide * (1.0f / 6) + u[5];
  }
};

// Transforms the columns and then the rows of load(y, x), and calls store(y, x, value).
template <class Transform, class Load, class Store>
inline __attribute__((always_inline)) void transform_2d(Load load, Store store) {
  constexpr int kFrom = Transform::from, kTo = Transform::to;
  Vector half[kFrom][kTo];  // the transformed columns
  for (int x = 0; x < kFrom; ++x) {
    Vector column[kFrom];
    for (int y = 0; y < kFrom; ++y) column[y] = load(y, x);
    Transform::run(column, half[x]);
  }
  for (int y = 0; y < kTo; ++y) {
    Vector row[kFrom], transformed[kTo];
    for (int x = 0; x < kFrom; ++x) row[x] = half[x][y];
    Transform::run(row, transformed);
    for (int x = 0; x < kTo; ++x) store(y, x, transformed[x]);
  }
}

// Transforms pixels into 36 planes, for whole vectors of channels.
template <class Transform, class T>
void pixels_to_planes(const T* pixels, std::ptrdiff_t row_stride, std::ptrdiff_t pixel_stride,
                      float* planes, std::ptrdiff_t plane_stride, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    transform_2d<Transform>(
        [&](int y, int x) { return load(pixels + y * row_stride + x * pixel_stride + c); },
        [&](int y, int x, Vector t) { at(planes + (y * 6 + x) * plane_stride + c) = t; });
  }
}

// winograd_output_transform of inference_kernels.h.
template <class T>
void sums_to_pixels(const WinogradOutputTile<T>& tile) {
  for (int c = 0; c < tile.channels; c += kWidth) {
    const Vector bias = at(tile.bias + c);
    transform_2d<OutputTransform>(
        [&](int y, int x) { return at(tile.src + (y * 6 + x) * tile.plane_stride + c); },
        [&](int y, int x, Vector sum) {
          const int i = y * kWinogradOutputTile + x;
          if (!tile.dst[i]) return;
          store_activated(sum + bias, tile.residual ? tile.residual[i] + c : nullptr,
                          tile.negative_slope, tile.channels - c, tile.dst[i] + c, tile.add_last);
        });
  }
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
