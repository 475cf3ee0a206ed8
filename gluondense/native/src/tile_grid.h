// SPDX-License-Identifier: Apache-2.0
// The 4x4 output tiles of Winograd's F(4x4, 3x3) in a batch of images.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/inference_kernels.h"

namespace gluondense {

// The tiles of (batch, height, width) images in row-major order. A row of tiles belongs to one
// image, and rows are numbered over all images. All counts have 64 bits.
class TileGrid {
 public:
  static constexpr int kSize = kWinogradOutputTile, kPixels = kSize * kSize;

  // The image of a tile, and its upper left pixel.
  struct Tile {
    std::int64_t image;
    int y, x;
  };

  TileGrid(std::int64_t batch, int height, int width)
      : height_(height),
        width_(width),
        rows_per_image_((height + kSize - 1) / kSize),
        columns_((width + kSize - 1) / kSize),
        rows_(batch * rows_per_image_) {}

  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t tiles() const { return rows_ * columns_; }

  std::int64_t row(std::int64_t tile) const { return tile / columns_; }
  int x(std::int64_t tile) const { return static_cast<int>(tile % columns_) * kSize; }
  // The image of a row of tiles, and the y of its first pixels.
  std::int64_t image(std::int64_t row) const { return row / rows_per_image_; }
  int y(std::int64_t row) const { return static_cast<int>(row % rows_per_image_) * kSize; }

  Tile operator[](std::int64_t tile) const {
    const std::int64_t tile_row = row(tile);
    return {image(tile_row), y(tile_row), x(tile)};
  }

  // Rows and columns of a tile inside the image.
  int height_inside(const Tile& tile) const { return std::min(kSize, height_ - tile.y); }
  int width_inside(const Tile& tile) const { return std::min(kSize, width_ - tile.x); }

  // Calls f(index in the tile, pixel) for the 16 pixels of a tile. Pixels are numbered over all
  // images; a pixel outside the image is -1.
  template <typename Function>
  void for_each_pixel(const Tile& tile, Function f) const {
    for (int v = 0; v < kSize; ++v) {
      const std::int64_t row = (tile.image * height_ + tile.y + v) * width_;
      for (int u = 0; u < kSize; ++u) {
        const bool inside = tile.y + v < height_ && tile.x + u < width_;
        f(v * kSize + u, inside ? row + tile.x + u : std::int64_t{-1});
      }
    }
  }

 private:
  const int height_, width_;
  const std::int64_t rows_per_image_, columns_, rows_;
};

// Calls f(first, count) for consecutive batches of at most `most` tiles of [first, last).
template <typename Function>
void for_each_tile_batch(std::int64_t first, std::int64_t last, int most, Function f) {
  for (; first < last; first += most) {
    f(first, static_cast<int>(std::min<std::int64_t>(most, last - first)));
  }
}

}  // namespace gluondense
