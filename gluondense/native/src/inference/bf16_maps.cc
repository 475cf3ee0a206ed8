// SPDX-License-Identifier: Apache-2.0
// Where a program computes in bfloat16: which convolutions, and which maps are stored in it.
#include "inference/memory_plan.h"
#include "kernels/inference_kernels.h"

namespace gluondense {
namespace {

// What of a step's maps may be in bfloat16, and whether its input and output then both are.
struct Bf16Use {
  bool in, out, alike;
};

class FindUse {
 public:
  explicit FindUse(const Program& program) : program_(program) {}

  Bf16Use operator()(const LoadStep&) const { return {false, true, false}; }
  Bf16Use operator()(const ConvStep& s) const {
    if (multiplies_bf16(s, program_)) {
      return {s.panel_in % 2 == 0 && !s.has_layer_norm(), !s.is_gelu, false};
    }
    return {has_bf16_grouped_kernel(s), has_bf16_grouped_kernel(s), true};
  }
  Bf16Use operator()(const AffineStep&) const { return {true, true, true}; }
  Bf16Use operator()(const PoolStep&) const { return {true, true, true}; }
  Bf16Use operator()(const GlobalPoolStep&) const { return {true, false, false}; }
  Bf16Use operator()(const CopyStep& s) const {
    const bool has_kernel = !s.is_silu && !s.is_gelu && !s.is_hard_sigmoid;
    return {has_kernel, has_kernel, true};
  }
  // The rest is in float32: outputs are not rounded, and other steps have no such kernels.
  Bf16Use operator()(const StepBase&) const { return {false, false, false}; }

 private:
  const Program& program_;
};

}  // namespace

bool multiplies_bf16(const ConvStep& s, const Program& program) {
  const bool is_1x1 =
      s.window.taps() == 1 && s.window.pad[0] + s.window.pad[1] == 0 && s.panel_in_stride == 0;
  const Bf16Kernels* const kernels = inference_kernels().bf16;
  if (!kernels || program.is_u8(s.in) || program.bf16 < (is_1x1 ? 1 : 2)) return false;
  if (s.panel_in_stride == 0) return true;
  // Pairs of channels belong to one panel. Only with AMX, products with the zeros of other groups
  // are no loss.
  return s.panel_in_stride % 2 == 0 && s.panel_in % 2 == 0 && s.in.channels % 2 == 0 &&
         (s.groups_per_panel == 1 || kernels->multiplies_groups);
}

bool has_grouped_kernel(const ConvStep& s) {
  return inference_kernels().grouped_conv3x3_f32 && !s.is_gelu && s.window.kernel[0] == 3 &&
         s.window.kernel[1] == 3 && s.panel_in_stride == s.panel_in && s.panels_per_input == 1 &&
         s.panel_in <= kGroupedWidth && s.panel_out <= kGroupedWidth &&
         // With a stride of 2, a permuted pixel is used for fewer columns of the filter.
         (s.window.stride[1] == 1 || (s.window.stride[1] == 2 && s.groups_per_panel > 1));
}

bool has_bf16_grouped_kernel(const ConvStep& s) {
  // It multiplies pairs of a group's channels.
  return has_grouped_kernel(s) && s.panel_in / s.groups_per_panel % 2 == 0 &&
         s.panel_in_stride % 2 == 0;
}

std::vector<bool> find_bf16_maps(const Program& program) {
  std::vector<bool> is_bf16(program.maps.size(), program.bf16 == 2 && inference_kernels().bf16);
  const auto clear_unless = [&](bool holds, const ChannelSlice& slice) {
    if (slice.valid() && !holds) is_bf16[slice.map] = false;
  };
  for (std::size_t i = 0; i < is_bf16.size(); ++i) {
    // With an odd number of channels, as of an image, a pixel would not be whole pairs.
    if (program.maps[i].is_u8 || program.maps[i].channels % 2) is_bf16[i] = false;
  }
  for (bool changes = true; changes;) {
    const std::vector<bool> before = is_bf16;
    for (const Step& step : program.steps) {
      const StepBase& s = base(step);
      const Bf16Use use = std::visit(FindUse(program), step);
      clear_unless(use.in, s.in);
      clear_unless(use.out, s.out);
      clear_unless(false, s.gate);
      for (const ChannelSlice& slice : {s.in, s.residual, s.out}) {
        clear_unless(slice.channel % 2 == 0 && slice.channels % 2 == 0, slice);
      }
      if (use.alike) {
        clear_unless(is_bf16[s.in.map], s.out);
        clear_unless(is_bf16[s.out.map], s.in);
      }
      if (s.residual.valid()) {
        clear_unless(is_bf16[s.residual.map], s.out);
        clear_unless(is_bf16[s.out.map], s.residual);
      }
    }
    changes = is_bf16 != before;
  }
  return is_bf16;
}

}  // namespace gluondense
