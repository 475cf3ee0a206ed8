// Filters of 1x1 convolutions in pairs of bfloat16: the processor multiplies two at a time, and adds
// in floats. All maps stay floats, and so does all that is no such convolution.
#include <cstring>

#include "inference/runner.h"

namespace gluondense {
namespace {

// A single pixel, such as a classifier's, has little to save.
bool pays(const Step& s, const Program& program, const Plan& plan) {
  if (s.kind != Step::kConv || program.maps[s.in.map].bytes) return false;
  const Place& to = plan.places[s.out.map];
  return s.kernel[0] == 1 && s.kernel[1] == 1 && s.pad[0] + s.pad[1] == 0 && s.block_step == 0 &&
         to.height * to.width > 1;
}

// The upper half of a float, rounded to nearest, to even between two; as vcvtneps2bf16.
std::uint32_t upper_half(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace

FiltersByStep pair_filters(const Program& program, const Plan& plan, const float* blob) {
  FiltersByStep all(program.steps.size());
  if (!program.bf16 || !inference_kernels().conv_bf16) return all;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Step& s = program.steps[i];
    if (!pays(s, program, plan)) continue;
    // (blocks, block_in, kPanelWidth) becomes (blocks, block_in / 2, kPanelWidth, 2).
    for (int block = 0; block < s.blocks; ++block) {
      const float* const from =
          blob + s.weight + static_cast<std::ptrdiff_t>(block) * s.block_in * kPanelWidth;
      for (int k = 0; k < s.block_in; k += 2) {
        for (int lane = 0; lane < kPanelWidth; ++lane) {
          const float* const first = from + static_cast<std::ptrdiff_t>(k) * kPanelWidth + lane;
          const std::uint32_t second = k + 1 < s.block_in ? upper_half(first[kPanelWidth]) : 0;
          const std::uint32_t both = second << 16 | upper_half(*first);
          float pair;
          std::memcpy(&pair, &both, sizeof pair);
          all[i].push_back(pair);
        }
      }
    }
  }
  return all;
}

}  // namespace gluondense
