// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

#include "kernels/inference_kernels.h"

namespace gluondense {
namespace {

constexpr std::size_t kHugePage = 2 << 20;

}  // namespace

void use_huge_pages(const void* begin, std::size_t size) {
#if defined(MADV_HUGEPAGE)
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = round_up<std::uintptr_t>(address, kHugePage);
  const std::uintptr_t last = (address + size) / kHugePage * kHugePage;
  if (first >= last) return;
  void* const pages = reinterpret_cast<void*>(first);
  madvise(pages, last - first, MADV_HUGEPAGE);
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, which Linux has since 6.1
  madvise(pages, last - first, kCollapse);
#else
  static_cast<void>(begin), static_cast<void>(size);
#endif
}

void AlignedBuffer::Free::operator()(void* memory) const { std::free(memory); }

void* AlignedBuffer::reserve_bytes(std::size_t size) {
  if (size <= size_) return memory_.get();
  memory_.reset();
  size_ = 0;
  const std::size_t whole = round_up(size + kOverreadBytes, kHugePage);
  if (whole < size) throw std::bad_alloc();
  memory_.reset(std::aligned_alloc(kHugePage, whole));
  if (!memory_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  madvise(memory_.get(), whole, MADV_HUGEPAGE);
#endif
  size_ = size;
  return memory_.get();
}

}  // namespace gluondense
