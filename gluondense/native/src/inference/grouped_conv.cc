// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions with groups of few channels, without the zeros of a panel of several groups.
#include <algorithm>

#include "inference/inference_worker.h"
#include "memory.h"

namespace gluondense {

void InferenceWorker::grouped_conv(const ConvStep& s, const float* filters) {
  plan_.is_bf16(s.in) ? grouped_conv(s, reinterpret_cast<const Bf16*>(filters),
                                     inference_kernels().bf16->grouped_conv3x3)
                      : grouped_conv(s, filters, inference_kernels().grouped_conv3x3_f32);
}

template <class T>
void InferenceWorker::grouped_conv(const ConvStep& s, const T* filters,
                                   void (*kernel)(const GroupedConvTile<T>&)) {
  const Placement &in = placement(s.in), &out = placement(s.out);
  const Window& w = s.window;
  // Tiles of a row, of nearly equal width.
  const std::int64_t tiles = div_up(out.width, inference_kernels().max_tile_pixels);
  const int group_channels = s.panel_in / s.groups_per_panel;
  const int group_outputs = s.panel_out / s.groups_per_panel;
  GroupedConvTile<T> tile;
  tile.src_row_stride = static_cast<std::ptrdiff_t>(in.row_stride());
  tile.src_stride = in.pixel_stride;
  tile.stride = w.stride[1];
  tile.group_channels = group_channels;
  for (int lane = 0; lane < kGroupedWidth; ++lane) {
    tile.channel_of_lane[lane] =
        std::min(lane / group_outputs, s.groups_per_panel - 1) * group_channels;
  }
  tile.dst_stride = out.pixel_stride;
  tile.residual_stride = s.residual.valid() ? placement(s.residual).pixel_stride : 0;
  tile.negative_slope = s.negative_slope;
  tile.add_last = s.add_last;
  const std::ptrdiff_t panel_size = std::ptrdiff_t{w.taps()} * group_channels * kGroupedWidth;
  fill_padding(s.out);
  const auto [first, last] = partition(out.height * tiles * s.panels);
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t column = item / s.panels % tiles;
    const int panel = item % s.panels, y = item / s.panels / tiles;
    const int x = out.width * column / tiles, channel = panel * s.panel_out;
    tile.pixels = out.width * (column + 1) / tiles - x;
    tile.src = pixel_ptr<T>(s.in, y * w.stride[0] - w.pad[0], x * w.stride[1] - w.pad[1]) +
               std::ptrdiff_t{panel} * s.panel_in_stride;
    tile.weights = filters + panel * panel_size;
    tile.bias = floats_ + s.bias + std::ptrdiff_t{panel} * kPanelWidth;
    tile.dst = pixel_ptr<T>(s.out, y, x) + channel;
    tile.residual = s.residual.valid() ? pixel_ptr<T>(s.residual, y, x) + channel : nullptr;
    tile.channels = std::min(s.panel_out, s.out.channels - channel);
    kernel(tile);
  }
}

}  // namespace gluondense
