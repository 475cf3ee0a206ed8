#include <algorithm>
#include <cstring>

#include "inference/algorithms.h"
#include "kernels/inference_kernels.h"

namespace gluondense {
namespace {

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

// The upper half of a float, rounded to nearest, ties to even, as vcvtneps2bf16 does.
std::uint32_t to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace

std::vector<float> pack_winograd_filters(const ConvStep& s, const float* floats) {
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

std::vector<float> pack_grouped_filters(const ConvStep& s, const float* floats) {
  const int group_channels = s.panel_in / s.groups_per_panel;
  const int group_outputs = s.panel_out / s.groups_per_panel;
  std::vector<float> packed;
  for (std::ptrdiff_t row = 0; row < static_cast<std::ptrdiff_t>(s.panels) * 3; ++row) {
    for (int k = 0; k < group_channels; ++k) {
      for (int x = 0; x < 3; ++x) {
        for (int lane = 0; lane < kGroupedWidth; ++lane) {
          const int group = std::min(lane / group_outputs, s.groups_per_panel - 1);
          const std::ptrdiff_t channel = (row * 3 + x) * s.panel_in + group * group_channels + k;
          packed.push_back(floats[s.weight + channel * kPanelWidth + lane]);
        }
      }
    }
  }
  return packed;
}

std::vector<float> pack_bf16_filters(const ConvStep& s, const float* floats) {
  std::vector<float> packed;
  for (int panel = 0; panel < s.panels; ++panel) {
    const float* const src =
        floats + s.weight + static_cast<std::ptrdiff_t>(panel) * s.panel_in * kPanelWidth;
    for (int k = 0; k < s.panel_in; k += 2) {
      for (int lane = 0; lane < kPanelWidth; ++lane) {
        const float* const first = src + static_cast<std::ptrdiff_t>(k) * kPanelWidth + lane;
        const std::uint32_t second = k + 1 < s.panel_in ? to_bf16(first[kPanelWidth]) : 0;
        const std::uint32_t both = second << 16 | to_bf16(*first);
        float pair;
        std::memcpy(&pair, &both, sizeof pair);
        packed.push_back(pair);
      }
    }
  }
  return packed;
}

}  // namespace gluondense
