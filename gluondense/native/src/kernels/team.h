#pragma once

#include <sched.h>

#include <atomic>

namespace gluondense {

// Threads that work on the same image, and meet after each step.
class Team {
 public:
  explicit Team(int size) : size_(size) {}
  int size() const { return size_; }

  void meet() {
    if (size_ == 1) return;
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    // A few microseconds at most, unless another process has this thread's core.
    for (int spin = 0; round_.load(std::memory_order_acquire) == round; ++spin) {
      if (spin < 4000) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      } else {
        sched_yield();
      }
    }
  }

 private:
  const int size_;
  std::atomic<int> arrived_{0}, round_{0};
};

}  // namespace gluondense
