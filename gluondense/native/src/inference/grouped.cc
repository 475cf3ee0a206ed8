// 3x3 convolutions of narrow groups without the products of a dense block's zeros.
#include <algorithm>

#include "inference/runner.h"

namespace gluondense {
namespace {

constexpr int kTaps = 3;

bool pays(const Step& s, const Map& in) {
  return inference_kernels().grouped_conv3x3_f32 && !in.bytes && s.kernel[0] == kTaps && s.kernel[1] == kTaps &&
         s.block_step == s.block_in && s.block_share == 1 && s.block_in <= kGroupedWidth &&
         s.block_out <= kGroupedWidth &&
         // A stride of 2 moves each pixel for fewer columns.
         (s.stride[1] == 1 || (s.stride[1] == 2 && s.block_groups > 1));
}

}  // namespace

FiltersByStep grouped_filters(const Program& program, const float* blob) {
  FiltersByStep all(program.steps.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Step& s = program.steps[i];
    if (s.kind != Step::kConv || !pays(s, program.maps[s.in.map])) continue;
    // (blocks, 3, 3, block_in, kPanelWidth) becomes (blocks, 3, depth, 3, lanes).
    const int depth = s.block_in / s.block_groups, each = s.block_out / s.block_groups;
    for (int block = 0; block < s.blocks; ++block) {
      for (int y = 0; y < kTaps; ++y) {
        for (int k = 0; k < depth; ++k) {
          for (int x = 0; x < kTaps; ++x) {
            for (int lane = 0; lane < kGroupedWidth; ++lane) {
              const int channel = std::min(lane / each, s.block_groups - 1) * depth + k;
              const std::ptrdiff_t tap = (block * kTaps + y) * kTaps + x;
              all[i].push_back(blob[s.weight + (tap * s.block_in + channel) * kPanelWidth + lane]);
            }
          }
        }
      }
    }
  }
  return all;
}

void Runner::grouped(const Step& s, const float* filters) {
  const Place &from = place(s.in), &to = place(s.out);
  const int most = inference_kernels().max_tile_pixels, tiles = (to.width + most - 1) / most;
  const int depth = s.block_in / s.block_groups, each = s.block_out / s.block_groups;
  GroupedConvTile tile;
  tile.src_row_stride = static_cast<std::ptrdiff_t>(from.pitch()) * from.step;
  tile.src_stride = from.step;
  tile.stride = s.stride[1];
  tile.group_channels = depth;
  for (int lane = 0; lane < kGroupedWidth; ++lane) {
    tile.channel_of_lane[lane] = std::min(lane / each, s.block_groups - 1) * depth;
  }
  tile.dst_stride = to.step;
  tile.residual_stride = s.add.there() ? place(s.add).step : 0;
  tile.negative_slope = s.slope;
  clear_border<float>(s.out);
  const auto [first, last] = share(static_cast<long>(to.height) * tiles * s.blocks);
  for (long job = first; job < last; ++job) {
    const long part = job / s.blocks % tiles;
    const int block = job % s.blocks, y = job / s.blocks / tiles;
    const int x = to.width * part / tiles, channel = block * s.block_out;
    tile.pixels = to.width * (part + 1) / tiles - x;
    tile.src = pixel<float>(s.in, y * s.stride[0] - s.pad[0], x * s.stride[1] - s.pad[1]) +
              block * s.block_step;
    tile.weights = filters + static_cast<std::ptrdiff_t>(block) * kTaps * kTaps * depth * kGroupedWidth;
    tile.bias = blob_ + s.bias + block * kPanelWidth;
    tile.dst = pixel<float>(s.out, y, x) + channel;
    tile.residual = s.add.there() ? pixel<float>(s.add, y, x) + channel : nullptr;
    tile.channels = std::min(s.block_out, s.out.channels - channel);
    inference_kernels().grouped_conv3x3_f32(tile);
  }
}

}  // namespace gluondense
