#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense {
namespace GLUONDENSE_ISA_NAMESPACE {

void winograd_input_transform(const float* src, std::ptrdiff_t row_stride,
                              std::ptrdiff_t pixel_stride, float* planes,
                              std::ptrdiff_t plane_stride, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    transform_2d<InputTransform>(
        [&](int y, int x) { return at(src + y * row_stride + x * pixel_stride + c); },
        [&](int y, int x, Vector t) { at(planes + (y * 6 + x) * plane_stride + c) = t; });
  }
}

void winograd_output_transform(const WinogradOutputTile& tile) {
  for (int c = 0; c < tile.channels; c += kWidth) {
    const Vector bias = at(tile.bias + c);
    transform_2d<OutputTransform>(
        [&](int y, int x) { return at(tile.src + (y * 6 + x) * tile.plane_stride + c); },
        [&](int y, int x, Vector sum) {
          const int i = y * kWinogradOutputTile + x;
          if (!tile.dst[i]) return;
          store_activated(sum + bias, tile.residual ? tile.residual[i] + c : nullptr,
                          tile.negative_slope, tile.channels - c, tile.dst[i] + c);
        });
  }
}

}  // namespace GLUONDENSE_ISA_NAMESPACE
}  // namespace gluondense
