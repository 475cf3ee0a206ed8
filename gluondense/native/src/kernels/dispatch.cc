// SPDX-License-Identifier: Apache-2.0
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"

namespace gluondense {

#define DECLARE_TABLES(isa)                      \
  namespace isa {                                \
  extern const InferenceKernels inference_table; \
  extern const TrainingKernels training_table;   \
  }

DECLARE_TABLES(base)
#if defined(__x86_64__)
DECLARE_TABLES(avx2)
DECLARE_TABLES(avx512)
DECLARE_TABLES(avx512vnni)
DECLARE_TABLES(avx512bf16)
DECLARE_TABLES(amx)
#endif

namespace {

struct InstructionSet {
  bool (*is_supported)();
  const InferenceKernels& inference;
  const TrainingKernels& training;
};

#define TABLES(isa) isa::inference_table, isa::training_table

#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_avx512bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16");
}

// Whether the processor has AMX's tiles for bfloat16 and bytes, and Linux lets this process use
// them: it must be asked, as each thread then needs 8 KB more for its registers.
bool has_amx() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  constexpr unsigned kAll = kBf16 | kTile | kInt8;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return (d & kAll) == kAll && has_avx512bf16() &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif

// In order of preference. build.py defines GLUONDENSE_HAS_x for the sets that the compiler knows.
const InstructionSet kInstructionSets[] = {
#if defined(GLUONDENSE_HAS_amx)
    {has_amx, TABLES(amx)},
#endif
#if defined(GLUONDENSE_HAS_avx512bf16)
    {has_avx512bf16, TABLES(avx512bf16)},
#endif
#if defined(GLUONDENSE_HAS_avx512vnni)
    {[] { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }, TABLES(avx512vnni)},
#endif
#if defined(GLUONDENSE_HAS_avx512)
    {[] { return has_avx512(); }, TABLES(avx512)},
#endif
#if defined(GLUONDENSE_HAS_avx2)
    {[] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, TABLES(avx2)},
#endif
    {[] { return true; }, TABLES(base)},
};

const InstructionSet& instruction_set() {
  static const InstructionSet& best = []() -> const InstructionSet& {
    const char* const variable = std::getenv("GLUONDENSE_ISA");
    const std::string wanted = variable ? variable : "";
    std::string supported;
    for (const InstructionSet& set : kInstructionSets) {
      if (!set.is_supported()) continue;
      if (wanted.empty() || wanted == set.inference.isa) return set;
      supported += (supported.empty() ? "" : ", ") + std::string(set.inference.isa);
    }
    throw std::invalid_argument("GLUONDENSE_ISA=" + wanted +
                                " is not supported here: unset it, or " + "use one of " +
                                supported);
  }();
  return best;
}

}  // namespace

const InferenceKernels& inference_kernels() { return instruction_set().inference; }
const TrainingKernels& training_kernels() { return instruction_set().training; }

}  // namespace gluondense
