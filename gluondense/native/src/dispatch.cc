#include "kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace gluondense {

namespace base { extern const Kernels table; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels table; }
namespace avx512 { extern const Kernels table; }
namespace avx512vnni { extern const Kernels table; }
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
    if (may("avx512vnni") && avx512 && __builtin_cpu_supports("avx512vnni")) {
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

}  // namespace gluondense
