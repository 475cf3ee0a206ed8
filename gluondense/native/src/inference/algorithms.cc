// SPDX-License-Identifier: Apache-2.0
// The algorithms of convolutions: when each pays, and its filters in the layout that it reads.
#include <algorithm>
#include <cstring>

#include "inference/inference_worker.h"
#include "memory.h"
#include "tile_grid.h"

namespace gluondense {
namespace {

bool accepts_bf16(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  const Placement& out = plan.placement(s.out);
  // A single pixel, such as a classifier's, has little to save.
  const bool pays = out.height * out.width > 1 || plan.is_bf16(s.in) || plan.is_bf16(s.out);
  return pays && multiplies_bf16(s, program);
}

bool accepts_winograd(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  const Window& w = s.window;
  if (w.kernel[0] != 3 || w.kernel[1] != 3 || w.stride[0] != 1 || w.stride[1] != 1 ||
      w.pad[0] != 1 || w.pad[1] != 1 || s.has_prologue() || s.is_gelu || program.is_u8(s.in)) {
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
  const std::int64_t pixels = std::int64_t{out.height} * out.width;
  const std::int64_t tiles = TileGrid(1, out.height, out.width).tiles();
  const std::int64_t outputs = s.panels * div_up<std::int64_t>(s.panel_out, kLanes);
  // Two in one in bfloat16, which Winograd's products would lose precision in.
  const bool direct_is_bf16 = accepts_bf16(s, program, plan);
  const std::int64_t direct = pixels * 9 * s.panel_in * outputs / (direct_is_bf16 ? 2 : 1);
  const std::int64_t winograd =
      tiles * (kWinogradPlanes * s.panel_in * outputs + kInputTransform * s.in.channels / kLanes +
               kOutputTransform * outputs);
  return tiles >= kMinTiles && winograd < direct * 3 / 4;
}

bool accepts_grouped(const ConvStep& s, const Program& program, const MemoryPlan&) {
  return has_grouped_kernel(s) && !program.is_u8(s.in);
}

bool accepts_all(const ConvStep&, const Program&, const MemoryPlan&) { return true; }

// The packing functions read the program's filters, (panels, KH, KW, panel_in, kPanelWidth).

// G g G^T of Lavin and Gray for one 3x3 filter.
void transform_filter(const double* g, double* u) {
  static const double kG[6][3] = {{1.0 / 4, 0, 0},
                                  {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                  {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                  {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                  {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                  {0, 0, 1}};
  for (int y = 0; y < 6; ++y) {
    for (int x = 0; x < 6; ++x) {
      double sum = 0;
      for (int v = 0; v < 3; ++v) {
        for (int w = 0; w < 3; ++w) sum += kG[y][v] * g[v * 3 + w] * kG[x][w];
      }
      u[y * 6 + x] = sum;
    }
  }
}

// Returns (panels, 36, panel_in, kPanelWidth).
std::vector<float> pack_winograd_filters(const ConvStep& s, const MemoryPlan&,
                                         const float* floats) {
  const std::size_t plane = static_cast<std::size_t>(s.panel_in) * kPanelWidth;
  std::vector<float> packed(s.panels * kWinogradPlanes * plane);
  for (int panel = 0; panel < s.panels; ++panel) {
    const float* const src = floats + s.weight + panel * 9 * plane;
    float* const dst = packed.data() + panel * kWinogradPlanes * plane;
    for (std::size_t j = 0; j < plane; ++j) {
      double g[9], u[kWinogradPlanes];
      for (int tap = 0; tap < 9; ++tap) g[tap] = src[tap * plane + j];
      transform_filter(g, u);
      for (int i = 0; i < kWinogradPlanes; ++i) dst[i * plane + j] = static_cast<float>(u[i]);
    }
  }
  return packed;
}

// A pair of bfloat16, whose 32 bits are declared as a float.
float pair(float first, float second) {
  const Bf16 both[2] = {Bf16(first), Bf16(second)};
  float bits;
  std::memcpy(&bits, both, sizeof bits);
  return bits;
}

// Returns (panels, 3, group_channels, 3, kGroupedWidth); over bfloat16, pairs of channels.
std::vector<float> pack_grouped_filters(const ConvStep& s, const MemoryPlan& plan,
                                        const float* floats) {
  const int group_channels = s.panel_in / s.groups_per_panel;
  const int group_outputs = s.panel_out / s.groups_per_panel;
  const bool is_bf16 = plan.is_bf16(s.in);
  std::vector<float> packed;
  for (std::ptrdiff_t row = 0; row < std::ptrdiff_t{s.panels} * 3; ++row) {
    for (int k = 0; k < group_channels; k += is_bf16 ? 2 : 1) {
      for (int x = 0; x < 3; ++x) {
        for (int lane = 0; lane < kGroupedWidth; ++lane) {
          const int group = std::min(lane / group_outputs, s.groups_per_panel - 1);
          const std::ptrdiff_t channel = (row * 3 + x) * s.panel_in + group * group_channels + k;
          const float* const weight = floats + s.weight + channel * kPanelWidth + lane;
          packed.push_back(is_bf16 ? pair(*weight, weight[kPanelWidth]) : *weight);
        }
      }
    }
  }
  return packed;
}

// Returns (panels, segments, length / 2 rounded up, kPanelWidth) pairs of bfloat16, two inputs that
// follow each other in a segment.
std::vector<float> pack_bf16_filters(const ConvStep& s, const MemoryPlan& plan,
                                     const float* floats) {
  const Segments segments = find_segments(s, plan.placement(s.in), s.panel_in, nullptr);
  const std::ptrdiff_t count = std::ptrdiff_t{s.panels} * segments.count;
  std::vector<float> packed;
  packed.reserve(count * div_up(segments.length, 2) * kPanelWidth);
  for (std::ptrdiff_t segment = 0; segment < count; ++segment) {
    const float* const src = floats + s.weight + segment * segments.length * kPanelWidth;
    for (int k = 0; k < segments.length; k += 2) {
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const float* const first = src + std::ptrdiff_t{k} * kPanelWidth + lane;
        packed.push_back(pair(*first, k + 1 < segments.length ? first[kPanelWidth] : 0));
      }
    }
  }
  return packed;
}

// In order of preference.
const ConvAlgorithm kAlgorithms[] = {
    {accepts_winograd, pack_winograd_filters, &InferenceWorker::winograd_conv},
    {accepts_bf16, pack_bf16_filters, &InferenceWorker::bf16_conv},
    {accepts_grouped, pack_grouped_filters, &InferenceWorker::grouped_conv},
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
