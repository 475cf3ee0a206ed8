// SPDX-License-Identifier: Apache-2.0
// Products in AMX's tiles: up to 32 rows of inputs with one panel of weights.
//
// A tile register has up to 16 rows of 64 bytes. Sums are in tiles 0 to 3, (rows 0.., rows 16..) x
// (two vectors of columns); inputs in 4 and 5; weights in 6 and 7, whose rows are those of a panel
// as it is for the other instruction sets.
#pragma once

#if defined(__AMX_TILE__)

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

constexpr int kAmxRows = 16, kAmxMaxRows = 2 * kAmxRows, kAmxRowBytes = 64;

// Bytes of a row that one product reads: a pair of bfloat16, or four bytes.
constexpr int kAmxElementBytes = 4;

// Sets how many rows inputs and sums have, of both tiles together. A thread keeps it until
// reset_amx_tiles().
void set_amx_rows(int rows);

// See InferenceKernels::reset_tiles.
void reset_amx_tiles();

namespace {

// The numbers of the tiles are constants of the instructions.
template <int kTile>
inline void load_tile(const void* rows, std::ptrdiff_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void store_tile(void* rows, std::ptrdiff_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
}

template <int kTile>
inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

template <class T, int kSum, int kInput, int kWeights>
inline void multiply_tiles() {
  if constexpr (sizeof(T) == sizeof(Bf16)) {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInput), "i"(kWeights));
  } else {  // unsigned and signed bytes
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kInput), "i"(kWeights));
  }
}

// Adds the products of 64 bytes of each row, with the upper and the lower tile of sums. Rows of a
// single tile are added to one of the two in turns, as a sum waits for its last product.
template <class T, bool kUpper, bool kLower, bool kTwoColumns>
inline void multiply_chunk(const void* upper, const void* lower, std::ptrdiff_t stride,
                           const void* weights, std::ptrdiff_t weights_stride) {
  load_tile<6>(weights, weights_stride);
  if constexpr (kUpper) {
    load_tile<4>(upper, stride);
    multiply_tiles<T, 0, 4, 6>();
  }
  if constexpr (kTwoColumns) {
    load_tile<7>(static_cast<const char*>(weights) + kAmxRowBytes, weights_stride);
    if constexpr (kUpper) multiply_tiles<T, 1, 4, 7>();
  }
  if constexpr (kLower) {
    load_tile<5>(lower, stride);
    multiply_tiles<T, 2, 5, 6>();
    if constexpr (kTwoColumns) multiply_tiles<T, 3, 5, 7>();
  }
}

// Rows of inputs, as in ConvTile: `segments` ranges of `length` elements each.
template <class T>
struct AmxOperands {
  const T* src;
  std::ptrdiff_t src_stride;
  const std::ptrdiff_t* segment_offsets;
  int segments, length;
  const void* weights;  // rows of kPanelWidth sums' elements
  int rows, columns;    // at most kAmxMaxRows and kPanelWidth
};

template <class T, bool kTwoRows, bool kTwoColumns>
void multiply_segments(const AmxOperands<T>& o) {
  constexpr int kRowBytes = kPanelWidth * kAmxElementBytes;  // of the panel
  alignas(64) unsigned char inputs[kAmxMaxRows][kAmxRowBytes], panel[kAmxRows][kRowBytes];
  const int bytes = o.length * static_cast<int>(sizeof(T));
  const int panel_rows = o.segments * bytes / kAmxElementBytes;
  const std::ptrdiff_t stride = o.src_stride * static_cast<int>(sizeof(T));
  const auto* weights = static_cast<const unsigned char*>(o.weights);
  int row = 0;  // of the panel
  bool is_odd = false;
  const auto multiply = [&](const unsigned char* src, std::ptrdiff_t src_stride,
                            const unsigned char* w) {
    if constexpr (kTwoRows) {
      multiply_chunk<T, true, true, kTwoColumns>(src, src + kAmxRows * src_stride, src_stride, w,
                                                 kRowBytes);
    } else if (is_odd) {
      multiply_chunk<T, false, true, kTwoColumns>(nullptr, src, src_stride, w, kRowBytes);
    } else {
      multiply_chunk<T, true, false, kTwoColumns>(src, nullptr, src_stride, w, kRowBytes);
    }
    is_odd = !is_odd;
  };
  for (int s = 0; s < o.segments; ++s) {
    const auto* src = reinterpret_cast<const unsigned char*>(o.src + o.segment_offsets[s]);
    int left = bytes;
    for (; left >= kAmxRowBytes; left -= kAmxRowBytes, src += kAmxRowBytes, row += kAmxRows) {
      multiply(src, stride, weights + std::ptrdiff_t{row} * kRowBytes);
    }
    if (left == 0) continue;
    // The last rows of the panel are read with the ones in front of them, or with zeros, which
    // zeros of the inputs multiply.
    const int used = left / kAmxElementBytes, behind = panel_rows - row;
    const int shift = behind >= kAmxRows || panel_rows < kAmxRows ? 0 : kAmxRows - behind;
    const auto* w = weights + std::ptrdiff_t{row - shift} * kRowBytes;
    if (panel_rows < kAmxRows) {
      __builtin_memset(panel, 0, sizeof panel);
      __builtin_memcpy(panel, w, std::ptrdiff_t{behind} * kRowBytes);
      w = panel[0];
    }
    const __mmask16 mask = ((1u << used) - 1) << shift;
    for (int m = 0; m < o.rows; ++m) {
      const __m512i x = _mm512_maskz_expandloadu_epi32(mask, src + m * stride);
      _mm512_store_si512(inputs[m], x);
    }
    multiply(inputs[0], kAmxRowBytes, w);
    row += used;
  }
}

// sums[m][n] = the products' sums, floats or integers. Columns are rounded up to whole vectors.
template <class T, class Sum>
void amx_multiply(const AmxOperands<T>& o, Sum (*sums)[kPanelWidth]) {
  constexpr std::ptrdiff_t kStride = sizeof sums[0];
  set_amx_rows(o.rows);
  clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
  const bool two_columns = o.columns > kWidth, two_rows = o.rows > kAmxRows;
  if (two_rows) {
    two_columns ? multiply_segments<T, true, true>(o) : multiply_segments<T, true, false>(o);
  } else {
    two_columns ? multiply_segments<T, false, true>(o) : multiply_segments<T, false, false>(o);
  }
  Sum(*const lower)[kPanelWidth] = sums + kAmxRows;
  store_tile<0>(sums, kStride);
  store_tile<2>(lower, kStride);
  if (two_columns) {
    store_tile<1>(sums[0] + kWidth, kStride);
    store_tile<3>(lower[0] + kWidth, kStride);
  }
  if (two_rows) return;
  for (int m = 0; m < o.rows; ++m) {
    for (int n = 0; n < (two_columns ? kPanelWidth : kWidth); ++n) sums[m][n] += lower[m][n];
  }
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE

#endif
