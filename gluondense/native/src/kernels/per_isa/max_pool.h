// SPDX-License-Identifier: Apache-2.0
// BN-ReLU and max-pooling in one: see BnReluMaxPool.
#pragma once

#include "kernels/per_isa/doubles.h"
#include "kernels/training_kernels.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {
namespace {

typedef std::uint8_t Bytes __attribute__((vector_size(kWidth), aligned(1), may_alias));

inline Bytes& bytes_at(std::uint8_t* p) { return *reinterpret_cast<Bytes*>(p); }
inline Bits load_bytes(const std::uint8_t* p) {
  return __builtin_convertvector(*reinterpret_cast<const Bytes*>(p), Bits);
}

template <class T>
void bn_relu_max_pool(const BnReluMaxPool<T>& row) {
  const BnReluMaxPool<T> args = row;  // a copy: a store of floats could change the members
  const int out_width = (args.width + 1) / 2;
  const Vector zero = {}, least = args.slope == 0 ? zero : zero - __builtin_inff();
  for (int c = 0; c < args.channels; c += kWidth) {
    const Vector scale = at(args.scale + c), shift = at(args.shift + c);
    for (int x = 0; x < out_width; ++x) {
      Vector best = least;
      Bits argmax = Bits{} + std::uint32_t{kNoArgmax};
      for (std::uint32_t i = 0; i < 9; ++i) {
        const T* const row = args.rows[i / 3];
        const int column = 2 * x - 1 + static_cast<int>(i % 3);
        if (!row || column < 0 || column >= args.width) continue;
        const Vector value = load(row + column * args.stride + c) * scale + shift;
        const auto keep = value <= best;  // NaN replaces and propagates
        best = keep ? best : value;
        argmax = keep ? argmax : Bits{} + i;
      }
      at(args.y + x * args.stride + c) = activate(best, args.slope);
      bytes_at(args.argmax + x * args.stride + c) = __builtin_convertvector(argmax, Bytes);
    }
  }
}

// Vector c of one or two windows, one above the other.
template <int kRows>
struct PoolWindows {
  Bits argmax[kRows];
  Vector dy[kRows];

  template <class T>
  void load(const BnReluMaxPoolBackward<T>& args, std::ptrdiff_t offset) {
    for (int i = 0; i < kRows; ++i) {
      argmax[i] = load_bytes(args.argmax[i] + offset), dy[i] = at(args.dy[i] + offset);
    }
  }
  // The gradient of the pixel of a column of the windows.
  Vector gradient(const Bits (&first_column)[kRows], std::uint32_t column) const {
    const Vector zero = {};
    Vector sum = {};
    for (int i = 0; i < kRows; ++i) sum += argmax[i] == first_column[i] + column ? dy[i] : zero;
    return sum;
  }
};

// Calls pass(x, gradient of the ReLU's output) for vector c of the pixels of a row.
template <int kRows, class T, class Pass>
inline void for_each_output_gradient(const BnReluMaxPoolBackward<T>& args, int c, Pass pass) {
  Bits first_column[kRows];
  for (int i = 0; i < kRows; ++i) first_column[i] = Bits{} + std::uint32_t(3 * args.window_row[i]);
  PoolWindows<kRows> windows, next = {};
  windows.load(args, c);
  for (int x = 0; x < args.width; x += 2) {
    pass(x, windows.gradient(first_column, 1));
    if (x + 1 == args.width) return;
    Vector gradient = windows.gradient(first_column, 2);
    if (x + 2 < args.width) {
      next.load(args, (x / 2 + 1) * args.stride + c);
      gradient += next.gradient(first_column, 0);
    }
    pass(x + 1, gradient);
    windows = next;
  }
}

// Calls use(x, gradient of the normalized value) for vector c of the pixels of a row. Where a ReLU
// of slope 0 passes nothing, no window has an argmax.
template <int kRows, class T, class Use>
inline void for_each_gradient(const BnReluMaxPoolBackward<T>& args, int c, Use use) {
  if (args.slope == 0) return for_each_output_gradient<kRows>(args, c, use);
  const Vector scale = at(args.scale + c), shift = at(args.shift + c);
  for_each_output_gradient<kRows>(args, c, [&](int x, Vector gradient) {
    const Vector value = load(args.x + x * args.stride + c) * scale + shift;
    use(x, value > 0 ? gradient : gradient * args.slope);
  });
}

template <int kRows, class T>
void max_pool_sums(const BnReluMaxPoolBackward<T>& args, double* sum_dy, double* sum_dy_xmu) {
  for (int c = 0; c < args.channels; c += kWidth) {
    const Vector mean = at(args.mean + c);
    Vector dy = {}, dy_xmu = {};
    for_each_gradient<kRows>(args, c, [&](int x, Vector gradient) {
      dy += gradient;
      dy_xmu += gradient * (load(args.x + x * args.stride + c) - mean);
    });
    add_wide(dy, sum_dy + c, kWidth);
    add_wide(dy_xmu, sum_dy_xmu + c, kWidth);
  }
}

template <class T>
void bn_relu_max_pool_sums(const BnReluMaxPoolBackward<T>& args, double* sum_dy,
                           double* sum_dy_xmu) {
  (args.dy[1] ? max_pool_sums<2, T> : max_pool_sums<1, T>)(args, sum_dy, sum_dy_xmu);
}

template <int kRows, class T>
void max_pool_backward(BnReluMaxPoolBackward<T> args, T* dx) {
  for (int c = 0; c < args.channels; c += kWidth) {
    const Vector scale = at(args.scale + c);
    const Vector slope = at(args.correction_scale + c), constant = at(args.correction_shift + c);
    for_each_gradient<kRows>(args, c, [&](int x, Vector gradient) {
      const std::ptrdiff_t offset = x * args.stride + c;
      store(gradient * scale + (load(args.x + offset) * slope + constant), dx + offset);
    });
  }
}

template <class T>
void bn_relu_max_pool_backward(const BnReluMaxPoolBackward<T>& args, T* dx) {
  (args.dy[1] ? max_pool_backward<2, T> : max_pool_backward<1, T>)(args, dx);
}

}  // namespace
}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
