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

// Sets how many rows inputs and sums have, of both tiles together, and the bytes of an input's row.
// A thread keeps it until reset_amx_tiles().
void set_amx_tiles(int rows, int row_bytes = kAmxRowBytes);

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
void multiply_segments(const AmxOperands<T>& o, int row_bytes) {
  constexpr int kPanelBytes = kPanelWidth * kAmxElementBytes;  // of a row of the panel
  const int bytes = o.length * static_cast<int>(sizeof(T)), rows = bytes / kAmxElementBytes;
  const std::ptrdiff_t stride = o.src_stride * static_cast<int>(sizeof(T));
  bool is_odd = false;
  const auto multiply = [&](const unsigned char* src, std::ptrdiff_t src_stride,
                            const unsigned char* w) {
    if constexpr (kTwoRows) {
      multiply_chunk<T, true, true, kTwoColumns>(src, src + kAmxRows * src_stride, src_stride, w,
                                                 kPanelBytes);
    } else if (is_odd) {
      multiply_chunk<T, false, true, kTwoColumns>(nullptr, src, src_stride, w, kPanelBytes);
    } else {
      multiply_chunk<T, true, false, kTwoColumns>(src, nullptr, src_stride, w, kPanelBytes);
    }
    is_odd = !is_odd;
  };
  const auto* weights = static_cast<const unsigned char*>(o.weights);
  for (int s = 0; s < o.segments; ++s, weights += std::ptrdiff_t{rows} * kPanelBytes) {
    const auto* const src = reinterpret_cast<const unsigned char*>(o.src + o.segment_offsets[s]);
    int k = 0;
    for (; k + row_bytes <= bytes; k += row_bytes) {
      multiply(src + k, stride, weights + std::ptrdiff_t{k} * kPanelWidth);
    }
    if (k == bytes) continue;
    // The rest of a segment, with the weights in front of it, which zeros multiply.
    alignas(kAmxRowBytes) unsigned char inputs[kAmxMaxRows][kAmxRowBytes];
    const __mmask16 mask = 0xffff << (kAmxRows - (bytes - k) / kAmxElementBytes);
    for (int m = 0; m < o.rows; ++m) {
      _mm512_store_si512(inputs[m], _mm512_maskz_expandloadu_epi32(mask, src + k + m * stride));
    }
    multiply(inputs[0], kAmxRowBytes, weights + std::ptrdiff_t{bytes - kAmxRowBytes} * kPanelWidth);
  }
}

// sums[m][n] = the products' sums, floats or integers. Columns are rounded up to whole vectors.
template <class T, class Sum>
void amx_multiply(const AmxOperands<T>& o, Sum (*sums)[kPanelWidth]) {
  constexpr std::ptrdiff_t kStride = sizeof sums[0];
  // A row is a segment that is shorter than a tile's.
  const int bytes = o.length * static_cast<int>(sizeof(T));
  const int row_bytes = bytes < kAmxRowBytes ? bytes : kAmxRowBytes;
  set_amx_tiles(o.rows, row_bytes);
  clear_tile<0>(), clear_tile<1>(), clear_tile<2>(), clear_tile<3>();
  const bool two_columns = o.columns > kWidth, two_rows = o.rows > kAmxRows;
  if (two_rows) {
    two_columns ? multiply_segments<T, true, true>(o, row_bytes)
                : multiply_segments<T, true, false>(o, row_bytes);
  } else {
    two_columns ? multiply_segments<T, false, true>(o, row_bytes)
                : multiply_segments<T, false, false>(o, row_bytes);
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
