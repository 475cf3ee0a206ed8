// SPDX-License-Identifier: Apache-2.0
// Memory, rounding of sizes, and prefetches.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace gluondense {

constexpr int kCacheLineBytes = 64;

template <class T>
constexpr T div_up(T count, T unit) {
  return (count + unit - 1) / unit;
}

template <class T>
constexpr T round_up(T count, T unit) {
  return div_up(count, unit) * unit;
}

// Elements of a row of `count` elements of type T: an odd number of cache lines. Rows whose
// distance is a power of two would share few sets of the L1 cache.
template <class T>
constexpr int packed_stride(int count) {
  constexpr int kLine = kCacheLineBytes / static_cast<int>(sizeof(T));
  return (div_up(count, kLine) | 1) * kLine;
}

// Prefetches `count` elements of each of `rows` rows into the L2 cache; `stride` in elements.
template <class T>
inline void prefetch_rows(const T* data, std::ptrdiff_t stride, int rows, int count) {
  constexpr int kLine = kCacheLineBytes / static_cast<int>(sizeof(T));
  for (int i = 0; i < rows; ++i) {
    for (int c = 0; c < count; c += kLine) __builtin_prefetch(data + i * stride + c, 0, 2);
  }
}

// Asks the kernel for 2 MiB pages in [begin, begin + size), now and for later page faults. With
// 4 KiB pages, address translation takes up to a tenth of the time. Does nothing where the kernel
// has no such pages.
void use_huge_pages(const void* begin, std::size_t size);

// Throws std::invalid_argument if this machine has less memory than `size` bytes.
void check_memory(std::size_t size);

// Reusable scratch memory, aligned to a huge page. Growing it discards its contents.
class AlignedBuffer {
 public:
  // At least `count` elements, uninitialized, and kOverreadBytes readable bytes behind them. Throws
  // std::bad_alloc.
  template <class T>
  T* reserve(std::size_t count) {
    return static_cast<T*>(reserve_bytes(count * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> memory_;
  std::size_t size_ = 0;

  void* reserve_bytes(std::size_t size);
};

}  // namespace gluondense
