// SPDX-License-Identifier: Apache-2.0
// The algorithms of convolutions: when each pays, and its filters in the layout that it reads.
#include <algorithm>
#include <cstring>

#include "inference/inference_worker.h"
#include "memory.h"
#include "tile_grid.h"

namespace gluondense {
namespace {

// What an algorithm can compute, and where it is worthwhile.

bool supports_bf16(const ConvStep& s, const Program& program, const MemoryPlan&) {
  return multiplies_bf16(s, program);
}

bool bf16_pays(const ConvStep& s, const Program&, const MemoryPlan& plan) {
  const Placement& out = plan.placement(s.out);
  // A single pixel, such as a classifier's, has little to save.
  return out.height * out.width > 1 || plan.is_bf16(s.in) || plan.is_bf16(s.out);
}

constexpr int kLanes = 16;  // of Winograd's transforms

bool supports_winograd(const ConvStep& s, const Program& program, const MemoryPlan&) {
  const Window& w = s.window;
  return w.kernel[0] == 3 && w.kernel[1] == 3 && w.stride[0] == 1 && w.stride[1] == 1 &&
         w.pad[0] == 1 && w.pad[1] == 1 && !s.has_prologue() && !s.is_gelu &&
         !program.is_u8(s.in) && s.in.channels % kLanes == 0;
}

bool winograd_pays(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  // The 36 products need enough input channels each: with groups of few channels, Winograd's took
  // as long as the direct convolution, or twice.
  if (s.panel_in_stride != 0 && s.panel_in < 2 * kLanes) return false;
  // With fewer tiles, reading filters four times as large costs more than the products save.
  constexpr std::int64_t kMinTiles = 14;
  // Vector operations of both algorithms; those of the transforms of a tile and vector were counted
  // in their loops.
  constexpr std::int64_t kInputTransform = 170, kOutputTransform = 130;
  const Placement& out = plan.placement(s.out);
  const std::int64_t pixels = std::int64_t{out.height} * out.width;
  const std::int64_t tiles = TileGrid(1, out.height, out.width).tiles();
  const std::int64_t outputs = s.panels * div_up<std::int64_t>(s.panel_out, kLanes);
  // Faster in bfloat16, which Winograd's products would lose precision in.
  const bool direct_is_bf16 = supports_bf16(s, program, plan) && bf16_pays(s, program, plan);
  const int speedup = direct_is_bf16 ? inference_kernels().bf16->speedup : 1;
  const std::int64_t direct = pixels * 9 * s.panel_in * outputs / speedup;
  const std::int64_t winograd =
      tiles * (kWinogradPlanes * s.panel_in * outputs + kInputTransform * s.in.channels / kLanes +
               kOutputTransform * outputs);
  return tiles >= kMinTiles && winograd < direct * 3 / 4;
}

bool supports_grouped(const ConvStep& s, const Program& program, const MemoryPlan& plan) {
  if (program.is_u8(s.in) || plan.is_bf16(s.in) != plan.is_bf16(s.out)) return false;
  return plan.is_bf16(s.in) ? has_bf16_grouped_kernel(s) : has_grouped_kernel(s);
}

bool supports_direct(const ConvStep& s, const Program&, const MemoryPlan& plan) {
  return !plan.is_bf16(s.in) && !plan.is_bf16(s.out);
}

bool always_pays(const ConvStep&, const Program&, const MemoryPlan&) { return true; }

// The packing functions read the program's filters, (panels, KH, KW, panel_in, kPanelWidth).

// G g G^T of Lavin and Gray for 3x3 filters g of the outputs of a panel. In double precision, as
// the filters are packed once; the inner loops are over outputs, so that the compiler makes vectors
// of them.
struct FilterTransform {
  double taps[9][kPanelWidth], half[18][kPanelWidth];  // half: (6, 3)

  void load(const float* filters, std::ptrdiff_t tap_stride) {
    for (int tap = 0; tap < 9; ++tap) {
      for (int i = 0; i < kPanelWidth; ++i) taps[tap][i] = filters[tap * tap_stride + i];
    }
  }

  void store(float* planes, std::ptrdiff_t plane_stride) {
    for (int y = 0; y < 6; ++y) {
      for (int w = 0; w < 3; ++w)
        product(kG[y], taps[w], taps[3 + w], taps[6 + w], half[y * 3 + w]);
    }
    for (int y = 0; y < 6; ++y) {
      const auto* const row = half + y * 3;
      for (int x = 0; x < 6; ++x) {
        product(kG[x], row[0], row[1], row[2], planes + (y * 6 + x) * plane_stride);
      }
    }
  }

 private:
  static constexpr double kG[6][3] = {{1.0 / 4, 0, 0},
                                      {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                      {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                      {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                      {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                      {0, 0, 1}};

  template <class T>
  static void product(const double (&g)[3], const double* a, const double* b, const double* c,
                      T* out) {
    for (int i = 0; i < kPanelWidth; ++i) {
      out[i] = static_cast<T>(g[0] * a[i] + g[1] * b[i] + g[2] * c[i]);
    }
  }
};

// (panels, 36, panel_in, kPanelWidth)
std::size_t winograd_filter_floats(const ConvStep& s, const MemoryPlan&) {
  return static_cast<std::size_t>(s.panels) * kWinogradPlanes * s.panel_in * kPanelWidth;
}

void pack_winograd_filters(const ConvStep& s, const MemoryPlan&, const float* floats,
                           float* packed) {
  const std::ptrdiff_t plane = std::ptrdiff_t{s.panel_in} * kPanelWidth;
  FilterTransform transform;
  for (int panel = 0; panel < s.panels; ++panel) {
    const float* const src = floats + s.weight + panel * 9 * plane;
    float* const dst = packed + panel * kWinogradPlanes * plane;
    for (std::ptrdiff_t i = 0; i < plane; i += kPanelWidth) {
      transform.load(src + i, plane);
      transform.store(dst + i, plane);
    }
  }
}

// A pair of bfloat16, whose 32 bits are declared as a float.
float pair(float first, float second) {
  const Bf16 both[2] = {Bf16(first), Bf16(second)};
  float bits;
  std::memcpy(&bits, both, sizeof bits);
  return bits;
}

// (panels, 3, group_channels, 3, kGroupedWidth); over bfloat16, pairs of channels.
std::size_t grouped_filter_floats(const ConvStep& s, const MemoryPlan& plan) {
  const int rows = div_up(s.panel_in / s.groups_per_panel, plan.is_bf16(s.in) ? 2 : 1);
  return std::size_t{9} * s.panels * rows * kGroupedWidth;
}

void pack_grouped_filters(const ConvStep& s, const MemoryPlan& plan, const float* floats,
                          float* packed) {
  const int group_channels = s.panel_in / s.groups_per_panel;
  const int group_outputs = s.panel_out / s.groups_per_panel;
  const bool is_bf16 = plan.is_bf16(s.in);
  for (std::ptrdiff_t row = 0; row < std::ptrdiff_t{s.panels} * 3; ++row) {
    for (int k = 0; k < group_channels; k += is_bf16 ? 2 : 1) {
      for (int x = 0; x < 3; ++x) {
        for (int lane = 0; lane < kGroupedWidth; ++lane) {
          const int group = std::min(lane / group_outputs, s.groups_per_panel - 1);
          const std::ptrdiff_t channel = (row * 3 + x) * s.panel_in + group * group_channels + k;
          const float* const weight = floats + s.weight + channel * kPanelWidth + lane;
          *packed++ = is_bf16 ? pair(*weight, weight[kPanelWidth]) : *weight;
        }
      }
    }
  }
}

// (panels, segments, length / 2 rounded up, kPanelWidth) pairs of bfloat16, two inputs that follow
// each other in a segment.
std::size_t bf16_filter_floats(const ConvStep& s, const MemoryPlan& plan) {
  const Segments segments = find_segments(s, plan.placement(s.in), s.panel_in, nullptr);
  return static_cast<std::size_t>(s.panels) * segments.count * div_up(segments.length, 2) *
         kPanelWidth;
}

void pack_bf16_filters(const ConvStep& s, const MemoryPlan& plan, const float* floats,
                       float* packed) {
  const Segments segments = find_segments(s, plan.placement(s.in), s.panel_in, nullptr);
  const std::ptrdiff_t count = std::ptrdiff_t{s.panels} * segments.count;
  for (std::ptrdiff_t segment = 0; segment < count; ++segment) {
    const float* const src = floats + s.weight + segment * segments.length * kPanelWidth;
    for (int k = 0; k < segments.length; k += 2) {
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const float* const first = src + std::ptrdiff_t{k} * kPanelWidth + lane;
        *packed++ = pair(*first, k + 1 < segments.length ? first[kPanelWidth] : 0);
      }
    }
  }
}

// In order of preference.
const ConvAlgorithm kAlgorithms[] = {
    {"winograd", supports_winograd, winograd_pays, winograd_filter_floats, pack_winograd_filters,
     &InferenceWorker::winograd_conv},
    {"bf16", supports_bf16, bf16_pays, bf16_filter_floats, pack_bf16_filters,
     &InferenceWorker::bf16_conv},
    {"grouped", supports_grouped, always_pays, grouped_filter_floats, pack_grouped_filters,
     &InferenceWorker::grouped_conv},
    {"direct", supports_direct, always_pays, nullptr, nullptr, &InferenceWorker::direct_conv},
};

}  // namespace

const ConvAlgorithm& default_algorithm(const ConvStep& step, const Program& program,
                                       const MemoryPlan& plan) {
  const ConvAlgorithm* algorithm = kAlgorithms;
  while (!algorithm->supports(step, program, plan) || !algorithm->pays(step, program, plan)) {
    ++algorithm;
  }
  return *algorithm;
}

std::vector<const ConvAlgorithm*> supported_algorithms(const ConvStep& step, const Program& program,
                                                       const MemoryPlan& plan) {
  std::vector<const ConvAlgorithm*> supported;
  for (const ConvAlgorithm& algorithm : kAlgorithms) {
    if (algorithm.supports(step, program, plan)) supported.push_back(&algorithm);
  }
  return supported;
}

}  // namespace gluondense
