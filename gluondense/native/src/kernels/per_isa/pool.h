// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// pool_f32 of inference_kernels.h.
template <class T>
void pool(const T* const* pixels, int count, bool is_max, float factor, T* dst, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const int left = channels - c;
    Vector pooled = {};
    for (int i = 0; i < count; ++i) {
      const Vector x = left >= kWidth ? load(pixels[i] + c) : load(pixels[i] + c, left);
      pooled = i == 0 ? x : is_max ? (pooled > x ? pooled : x) : pooled + x;
    }
    const T* const residual = nullptr;
    store_activated(is_max ? pooled : pooled * factor, residual, 1, left, dst + c);
  }
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
