// Scratch memory of a batch of Winograd's tiles.
#pragma once

#include <cstddef>

#include "kernels/inference_kernels.h"

namespace gluondense {

struct WinogradScratch {
  float* planes;  // (36, tiles, channels): the transformed input
  float* sums;    // (36, tiles, kPanelWidth): the products of a panel
  float* patch;   // (36, channels): an input tile at the edge of the image
  std::ptrdiff_t planes_stride, sums_stride;

  WinogradScratch(float* memory, int channels, int tiles)
      : planes(memory),
        sums(planes + floats_of(channels, tiles)),
        patch(sums + floats_of(kPanelWidth, tiles)),
        planes_stride(static_cast<std::ptrdiff_t>(tiles) * channels),
        sums_stride(static_cast<std::ptrdiff_t>(tiles) * kPanelWidth) {}

  static std::size_t floats(int channels, int tiles) {
    return floats_of(channels, tiles) + floats_of(kPanelWidth, tiles) + floats_of(channels, 1);
  }

 private:
  static std::size_t floats_of(int channels, int tiles) {
    return static_cast<std::size_t>(kWinogradPlanes) * tiles * channels;
  }
};

}  // namespace gluondense
