// SPDX-License-Identifier: Apache-2.0
#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>

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

void check_memory(std::size_t size) {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page <= 0) return;
  const std::size_t memory = static_cast<std::size_t>(pages) * page;
  if (size <= memory) return;
  throw std::invalid_argument(
      "gluondense: the native operator needs " + std::to_string(size >> 20) +
      " MiB for such images, and this machine has " + std::to_string(memory >> 20) +
      " MiB: use smaller images, a smaller batch or fewer threads (OMP_NUM_THREADS)");
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
