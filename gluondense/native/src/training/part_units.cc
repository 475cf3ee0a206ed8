#include <cstring>

#include "training/part.h"

namespace gluondense {

// Pixels side by side, as a 1x1 convolution reads them; behind pooling the means of 2x2.
const float* Part::pack_pixels(const Source& source, long first, int count, int row,
                               float* to) const {
  const int channels = source.channels;
  if (shape_.pool) {  // only the last convolution has this
    const int width = shape_.out_width(), plane = shape_.out_height() * width;
    for (int i = 0; i < count; ++i) {
      const long image = (first + i) / plane;
      const int y = static_cast<int>((first + i) % plane) / width;
      const int x = static_cast<int>((first + i) % plane) % width;
      const long corner = (image * shape_.height + 2 * y) * shape_.width + 2 * x;
      float* const mean = to + static_cast<std::ptrdiff_t>(i) * row;
      std::fill_n(mean, channels, 0.0f);
      for (const long pixel : {corner, corner + 1, corner + shape_.width, corner + shape_.width + 1}) {
        training_kernels().accumulate_affine_relu(source.data + pixel * source.row, source.scale, source.shift,
                                      0.25f, mean, channels);
      }
    }
    return to;
  }
  const float* const from = source.data + first * source.row;
  training_kernels().affine_relu(from, source.row, source.scale, source.shift, to, row, count, channels);
  // The next pixels are on their way while these are computed with.
  for (int i = count; i < 2 * count; ++i) {
    for (int c = 0; c < channels; c += kLanes) __builtin_prefetch(from + i * source.row + c, 0, 2);
  }
  return to;
}

// Rows of pixels times panels (block of channels, depth, kPanelWidth); whole blocks are written.
void Part::multiply(const float* in, int in_row, int depth, const float* panels, int pixels,
                    int channels, float* out, int out_row) const {
  for (int c = 0; c < channels; c += kPanelWidth) {
    training_kernels().gemm(in, in_row, depth, panels + static_cast<std::ptrdiff_t>(c) * depth,
                            out + c, out_row, pixels);
  }
}

// Six lines around a line of 4x4 tiles, with a border of zeros, from channel `first` on: what
// Winograd's transforms read. `line` counts lines of tiles over all images.
void Part::fill_strip(const Source& source, long line, int first, int depth, int row,
                      float* to) const {
  const int tiles_y = (shape_.height + 3) / 4, tiles_x = (shape_.width + 3) / 4;
  const int pitch = 4 * tiles_x + 2;
  const long image = line / tiles_y;
  const int top = static_cast<int>(line % tiles_y) * 4 - 1;
  for (int v = 0; v < kWinogradInputTile; ++v) {
    float* const strip = to + static_cast<std::ptrdiff_t>(v) * pitch * row;
    const int y = top + v;
    if (y < 0 || y >= shape_.height) {
      std::fill_n(strip, static_cast<std::ptrdiff_t>(pitch) * row, 0.0f);
      continue;
    }
    const float* const from =
        source.data + (image * shape_.height + y) * shape_.width * source.row + first;
    std::fill_n(strip, row, 0.0f);
    std::fill_n(strip + static_cast<std::ptrdiff_t>(shape_.width + 1) * row,
                static_cast<std::ptrdiff_t>(pitch - shape_.width - 1) * row, 0.0f);
    if (source.scale) {
      training_kernels().affine_relu(from, source.row, source.scale + first, source.shift + first,
                              strip + row, row, shape_.width, depth);
    }
    for (int x = 0; x < shape_.width && (!source.scale || depth < row); ++x) {
      float* const pixel = strip + static_cast<std::ptrdiff_t>(x + 1) * row;
      if (!source.scale) {
        std::memcpy(pixel, from + static_cast<std::ptrdiff_t>(x) * source.row, depth * sizeof(float));
      }
      std::fill(pixel + depth, pixel + row, 0.0f);
    }
  }
}

// 36 planes (tiles, depth) times one block of filters (36, depth, kPanelWidth).
void Part::multiply_planes(const float* planes, int tiles, int depth, const float* filters,
                           float* sums) const {
  const int row = lanes(depth);
  for (int tap = 0; tap < kWinogradPlanes; ++tap) {
    training_kernels().gemm(planes + static_cast<std::ptrdiff_t>(tap) * tiles * row, row, depth,
                            filters + static_cast<std::ptrdiff_t>(tap) * depth * kPanelWidth,
                            sums + tap * tiles * kPanelWidth, kPanelWidth, tiles);
  }
}

}  // namespace gluondense
