#include "threads.h"

#include <cstdlib>

namespace gluondense {

int num_threads() {
  static const int count = [] {
    const char* const variable = std::getenv("OMP_NUM_THREADS");
    const int number = variable ? std::atoi(variable) : 0;
    return number > 0 ? number : omp_get_num_procs();
  }();
  return count;
}

}  // namespace gluondense
