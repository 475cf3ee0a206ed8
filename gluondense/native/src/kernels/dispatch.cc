#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"
#include "kernels/training_kernels.h"

namespace gluondense {

namespace base { extern const Kernels table; extern const TrainingKernels training_table; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; extern const TrainingKernels training_table; }
namespace avx512 { extern const Kernels table; extern const TrainingKernels training_table; }
namespace avx512vnni { extern const Kernels table; extern const TrainingKernels training_table; }
#if defined(GLUONDENSE_HAS_avx512bf16)  // not all compilers know it
namespace avx512bf16 { extern const Kernels table; extern const TrainingKernels training_table; }
#endif
#endif

const Kernels& kernels() {
  static const Kernels& best = []() -> const Kernels& {
    // For tests: the name of a set.
    const char* const variable = std::getenv("GLUONDENSE_ISA");
    const std::string wanted = variable ? variable : "";
    const auto may = [&wanted](const char* name) { return wanted.empty() || wanted == name; };
#if defined(__x86_64__)
    const bool avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
#if defined(GLUONDENSE_HAS_avx512bf16)
    if (may("avx512bf16") && vnni && __builtin_cpu_supports("avx512bf16")) {
      return avx512bf16::table;
    }
#endif
    if (may("avx512vnni") && vnni) {
      return avx512vnni::table;
    }
    if (may("avx512") && avx512) return avx512::table;
    if (may("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return avx2::table;
    }
#endif
    if (may("base")) return base::table;
    throw std::invalid_argument("GLUONDENSE_ISA=" + wanted + " is not a set of this processor");
  }();
  return best;
}

const TrainingKernels& training_kernels() {
  static const TrainingKernels& same = []() -> const TrainingKernels& {
    const std::string name = kernels().name;
#if defined(__x86_64__)
#if defined(GLUONDENSE_HAS_avx512bf16)
    if (name == avx512bf16::table.name) return avx512bf16::training_table;
#endif
    if (name == avx512vnni::table.name) return avx512vnni::training_table;
    if (name == avx512::table.name) return avx512::training_table;
    if (name == avx2::table.name) return avx2::training_table;
#endif
    return base::training_table;
  }();
  return same;
}

}  // namespace gluondense
