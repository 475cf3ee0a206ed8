// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "inference/inference_worker.h"
#include "memory.h"

namespace gluondense {

void InferenceWorker::depthwise_conv(const DepthwiseStep& s) {
  const Placement &in = placement(s.in), &out = placement(s.out);
  const Window& w = s.window;
  // Tiles of a row, of nearly equal width.
  const std::int64_t tiles = div_up(out.width, inference_kernels().max_tile_pixels);
  const std::int64_t panels = div_up(s.in.channels, kGroupedWidth);
  DepthwiseTile tile;
  tile.src_row_stride = static_cast<std::ptrdiff_t>(in.row_stride());
  tile.src_tap_stride = in.pixel_stride;
  tile.src_stride = std::ptrdiff_t{w.stride[1]} * in.pixel_stride;
  std::copy_n(w.kernel, 2, tile.kernel);
  tile.dst_stride = out.pixel_stride;
  tile.residual_stride = s.residual.valid() ? placement(s.residual).pixel_stride : 0;
  tile.negative_slope = s.negative_slope;
  tile.add_last = s.add_last;
  fill_padding(s.out);
  // Neighbouring rows read the same inputs.
  const auto [first, last] = partition(panels * out.height * tiles);
  for (std::int64_t item = first; item < last; ++item) {
    const std::int64_t row = item / tiles, panel = row / out.height, column = item % tiles;
    const int y = row % out.height, x = out.width * column / tiles;
    const std::ptrdiff_t channel = panel * kGroupedWidth;
    tile.pixels = out.width * (column + 1) / tiles - x;
    tile.src =
        pixel_ptr<float>(s.in, y * w.stride[0] - w.pad[0], x * w.stride[1] - w.pad[1]) + channel;
    tile.weights = floats_ + s.weight + channel * w.taps();
    tile.bias = floats_ + s.bias + channel;
    tile.dst = pixel_ptr<float>(s.out, y, x) + channel;
    tile.residual = s.residual.valid() ? pixel_ptr<float>(s.residual, y, x) + channel : nullptr;
    tile.channels = std::min<std::int64_t>(kGroupedWidth, s.in.channels - channel);
    inference_kernels().depthwise_conv_f32(tile);
  }
}

}  // namespace gluondense
