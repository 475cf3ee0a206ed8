// SPDX-License-Identifier: Apache-2.0
// OpenMP threads that work on one problem together.
#pragma once

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace gluondense {

// OMP_NUM_THREADS, or all processors that this process may use. MXNet's own default is half of
// them.
inline int num_threads() {
  static const int count = [] {
    const char* const variable = std::getenv("OMP_NUM_THREADS");
    const int number = variable ? std::atoi(variable) : 0;
    return number > 0 ? number : omp_get_num_procs();
  }();
  return count;
}

// A spinning barrier: between two steps it is faster than OpenMP's.
class Barrier {
 public:
  explicit Barrier(int size = 1) : size_(size) {}
  Barrier(const Barrier&) = delete;
  int size() const { return size_; }
  // Not while a thread waits.
  void set_size(int size) { size_ = size; }

  void wait() {
    if (size_ == 1) return;
    const int round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    // The wait takes a few microseconds, unless another process occupies a thread's core.
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
  int size_;
  std::atomic<int> arrived_{0}, round_{0};
};

// The range [first, last) of `count` work items that thread `rank` of `threads` processes.
inline std::pair<std::int64_t, std::int64_t> partition(std::int64_t count, int rank, int threads) {
  return {count * rank / threads, count * (rank + 1) / threads};
}

// Calls function(barrier, rank) in `threads` threads, or in fewer if OpenMP has fewer; the
// barrier's size is their number. The function must not throw: an exception that leaves a thread
// ends the process.
template <class Function>
void parallel(int threads, Function function) {
  Barrier barrier;
#pragma omp parallel num_threads(threads)
  {
#pragma omp single
    barrier.set_size(omp_get_num_threads());
    function(barrier, omp_get_thread_num());
  }
}

}  // namespace gluondense
