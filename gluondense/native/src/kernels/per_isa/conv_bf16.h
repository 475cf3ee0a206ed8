// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/per_isa/amx.h"
#include "kernels/per_isa/conv_tile.h"
#include "kernels/per_isa/multiply_bf16.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

#if defined(__AMX_TILE__)
// The speedup is an estimate; see Bf16Kernels.
constexpr int kMaxBf16Pixels = kAmxMaxRows, kBf16Speedup = 12;
constexpr bool kMultipliesGroups = true;

// See ConvTile.
template <class Out>
void conv_bf16(const ConvTile<Bf16, Out>& t) {
  alignas(kAmxRowBytes) float sums[kAmxMaxRows][kPanelWidth];
  amx_multiply<Bf16>({t.src, t.src_stride, t.segment_offsets, t.segments, t.segment_length,
                      t.weights, t.pixels, t.channels},
                     sums);
  const int pixels = t.pixels;
  for (int first = 0; first < t.channels; first += kWidth) {
    const Vector bias = at(t.bias + first);
    store_rows(t, first, 1, [&](const auto& store_vector) {
      for (int m = 0; m < pixels; ++m) store_vector(at(sums[m] + first) + bias, m, first);
    });
  }
  apply_gelu(t, t.pixels, 0, t.channels);
}
#else
constexpr int kMaxBf16Pixels = kMaxTilePixels, kBf16Speedup = 2;
constexpr bool kMultipliesGroups = false;

template <class Out>
void conv_bf16(const ConvTile<Bf16, Out>& t) {
  ByRows<Conv<MultiplyBf16, ConvTile<Bf16, Out> >::template Kernel>::rows[t.pixels - 1](t);
}
#endif

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
