// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/per_isa/simd.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

// A product of pairs of bfloat16, whose 32 bits are declared as a float. Sums are in float32.
struct MultiplyBf16 {
  template <int V>
  static void add(const float& x, const Vector* w, Vector* sum) {
#if defined(__AVX512BF16__)
    // Copies: GCC 12 would keep elements of an array that are operands in memory, too, and store
    // all sums after each product.
    Vector first = sum[0], second = sum[V - 1];
    __m512 all;
    // One statement for the reason in conv_u8.cc.
    if constexpr (V == 2) {
      asm("vbroadcastss %3, %2\n\tvdpbf16ps %2, %4, %0\n\tvdpbf16ps %2, %5, %1"
          : "+v"(first), "+v"(second), "=&v"(all)
          : "m"(x), "v"(w[0]), "v"(w[1]));
      sum[1] = second;
    } else {
      asm("vdpbf16ps %1%{1to16%}, %2, %0" : "+v"(first) : "m"(x), "v"(w[0]));
    }
    sum[0] = first;
#else
    Bf16 pair[2];
    __builtin_memcpy(pair, &x, sizeof x);
    const float even = value_of(pair[0]), odd = value_of(pair[1]);
    for (int v = 0; v < V; ++v) {
      const Bits bits = (Bits)w[v];
      sum[v] += even * (Vector)(bits << 16);
      sum[v] += odd * (Vector)(bits & 0xffff0000);
    }
#endif
  }
};

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
