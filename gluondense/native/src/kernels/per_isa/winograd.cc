// SPDX-License-Identifier: Apache-2.0
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void winograd_output_transform(const WinogradOutputTile& tile) {
  for (int c = 0; c < tile.channels; c += kWidth) {
    const Vector bias = at(tile.bias + c);
    transform_2d<OutputTransform>(
        [&](int y, int x) { return at(tile.src + (y * 6 + x) * tile.plane_stride + c); },
        [&](int y, int x, Vector sum) {
          const int i = y * kWinogradOutputTile + x;
          if (!tile.dst[i]) return;
          store_activated(sum + bias, tile.residual ? tile.residual[i] + c : nullptr,
                          tile.negative_slope, tile.channels - c, tile.dst[i] + c, tile.add_last);
        });
  }
}

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
