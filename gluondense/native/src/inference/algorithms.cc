#include "inference/algorithms.h"

#include "inference/inference_worker.h"
#include "memory.h"
#include "tile_grid.h"

namespace gluondense {
namespace {

bool accepts_winograd(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  const Window& w = s.window;
  if (w.kernel[0] != 3 || w.kernel[1] != 3 || w.stride[0] != 1 || w.stride[1] != 1 ||
      w.pad[0] != 1 || w.pad[1] != 1 || s.has_prologue() || program.is_u8(s.in)) {
    return false;
  }
  constexpr std::int64_t kLanes = 16;
  // The transforms need whole vectors, and the 36 products enough input channels each: with groups
  // of few channels, Winograd's took as long as the direct convolution, or twice.
  if (s.in.channels % kLanes != 0 || s.panel_in < 2 * kLanes) return false;
  // With fewer tiles, reading filters four times as large costs more than the products save.
  constexpr std::int64_t kMinTiles = 14;
  // Vector operations of both algorithms; those of the transforms of a tile and vector were counted
  // in their loops.
  constexpr std::int64_t kInputTransform = 170, kOutputTransform = 130;
  const Placement& out = plan.placement(s.out);
  const std::int64_t pixels = static_cast<std::int64_t>(out.height) * out.width;
  const std::int64_t tiles = TileGrid(1, out.height, out.width).tiles();
  const std::int64_t outputs = s.panels * div_up<std::int64_t>(s.panel_out, kLanes);
  const std::int64_t direct = pixels * 9 * s.panel_in * outputs;
  const std::int64_t winograd =
      tiles * (kWinogradPlanes * s.panel_in * outputs + kInputTransform * s.in.channels / kLanes +
               kOutputTransform * outputs);
  return tiles >= kMinTiles && winograd < direct * 3 / 4;
}

bool accepts_grouped(const ConvStep& s, const Program& program, const MemoryPlan&) {
  return inference_kernels().grouped_conv3x3_f32 && !program.is_u8(s.in) &&
         s.window.kernel[0] == 3 && s.window.kernel[1] == 3 && s.panel_in_stride == s.panel_in &&
         s.panels_per_input == 1 && s.panel_in <= kGroupedWidth && s.panel_out <= kGroupedWidth &&
         // With a stride of 2, a permuted pixel is used for fewer columns of the filter.
         (s.window.stride[1] == 1 || (s.window.stride[1] == 2 && s.groups_per_panel > 1));
}

bool accepts_bf16(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  const Placement& out = plan.placement(s.out);
  return program.allow_bf16 && inference_kernels().conv_bf16 && !program.is_u8(s.in) &&
         s.window.taps() == 1 && s.window.pad[0] + s.window.pad[1] == 0 && s.panel_in_stride == 0 &&
         // A single pixel, such as a classifier's, has little to save.
         out.height * out.width > 1;
}

bool accepts_all(const ConvStep&, const Program&, const MemoryPlan&) { return true; }

// In order of preference.
const ConvAlgorithm kAlgorithms[] = {
    {accepts_winograd, pack_winograd_filters, &InferenceWorker::winograd_conv},
    {accepts_grouped, pack_grouped_filters, &InferenceWorker::grouped_conv},
    {accepts_bf16, pack_bf16_filters, &InferenceWorker::bf16_conv},
    {accepts_all, nullptr, &InferenceWorker::direct_conv},
};

}  // namespace

const ConvAlgorithm& choose_algorithm(const ConvStep& step, const Program& program,
                                      const MemoryPlan& plan) {
  const ConvAlgorithm* algorithm = kAlgorithms;
  while (!algorithm->accepts(step, program, plan)) ++algorithm;
  return *algorithm;
}

}  // namespace gluondense
