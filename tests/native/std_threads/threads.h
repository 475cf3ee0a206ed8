// The threads of ThreadSanitizer's build, which does not know how OpenMP's threads wait for each
// other: `parallel` starts std::threads. All else, such as Barrier, is that of src/threads.h.
#pragma once

#include <thread>
#include <vector>

#define parallel parallel_with_openmp
#include "../../../gluondense/native/src/threads.h"
#undef parallel

namespace gluondense {

template <class Function>
void parallel(int threads, Function function) {
  Barrier barrier(threads);
  std::vector<std::thread> others;
  for (int rank = 1; rank < threads; ++rank) {
    others.emplace_back([&, rank] { function(barrier, rank); });
  }
  function(barrier, 0);
  for (std::thread& thread : others) thread.join();
}

}  // namespace gluondense
