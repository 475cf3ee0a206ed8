// Backward of a layer's two convolutions.
#include "training/part.h"

namespace gluondense {

// The 3x3 convolution's input: a layer's middle, or all maps before it.
void Part::grow_back(int layer, const Source& source, const float* mean, bool into_maps) {
  static const float kZeros[kPanelWidth] = {};
  const int growth = shape_.growth, row = sizes_.growth_row, depth = source.channels;
  const int tiles_y = (shape_.height + 3) / 4, tiles_x = (shape_.width + 3) / 4;
  const int pitch = 4 * tiles_x + 2, most = inference_kernels().max_tile_pixels;
  const Source last_maps = {s_.last, row, growth, nullptr, nullptr};
  float* const strip = scratch_;
  float* const planes = strip + static_cast<std::ptrdiff_t>(kWinogradInputTile) * pitch * row;
  float* const sums = planes + static_cast<std::ptrdiff_t>(kWinogradPlanes) * most * row;
  float* const back = sums + static_cast<std::ptrdiff_t>(kWinogradPlanes) * most * kPanelWidth;
  float* backs[16];
  for (int j = 0; j < 16; ++j) backs[j] = back + j * kPanelWidth;
  double* const found = into_maps ? moments(rank_) : moments2(rank_, layer);
  const std::size_t size = into_maps ? sizes_.moments : sizes_.moments2;
  std::fill_n(found, size, 0.0);
  float* const gradient = into_maps ? s_.gradient : s_.middle_gradient;
  const float* x[16];
  float* out[16];
  BnReluBackward gate = {};
  gate.dy = back, gate.dy_stride = kPanelWidth;
  gate.x = x, gate.dx = out;
  gate.dy_factor = 1, gate.pixels = 16, gate.accumulate = into_maps;
  const auto [first_line, last_line] = share(static_cast<long>(shape_.images) * tiles_y);
  long filled = -1;
  const long last = last_line * tiles_x;
  for (long first = first_line * tiles_x; first < last; first += most) {
    const int tiles = static_cast<int>(std::min<long>(most, last - first));
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(tiles) * row;
    for (int i = 0; i < tiles; ++i) {
      const long line = (first + i) / tiles_x;
      if (line != filled) fill_strip(last_maps, line, 0, growth, row, strip);
      filled = line;
      const std::ptrdiff_t column = (first + i) % tiles_x * 4;
      inference_kernels().winograd_input_transform(strip + column * row, static_cast<std::ptrdiff_t>(pitch) * row, row,
                            planes + i * row, plane, row);
    }
    for (int c = 0; c < depth; c += kPanelWidth) {
      for (int i = 0; i < tiles; ++i) {
        const long line = (first + i) / tiles_x;
        const int top = static_cast<int>(line % tiles_y) * 4;
        const int left = static_cast<int>((first + i) % tiles_x) * 4;
        const int width = std::min(4, shape_.width - left);
        for (int v = 0; v < std::min(4, shape_.height - top); ++v) {
          const long pixel = (line / tiles_y * shape_.height + top + v) * shape_.width + left;
          for (int u = 0; u < width; ++u) fetch(source.data + (pixel + u) * source.row + c);
        }
      }
      multiply_planes(planes, tiles, growth,
                      spatial(0) + static_cast<std::ptrdiff_t>(c) * kWinogradPlanes * growth, sums);
      gate.channels = std::min(kPanelWidth, depth - c);
      gate.scale = source.scale + c, gate.shift = source.shift + c, gate.mean = mean + c;
      gate.sum_dy = found + c, gate.sum_dy_xmu = gate.sum_dy + size / 2;
      for (int i = 0; i < tiles; ++i) {
        const long line = (first + i) / tiles_x;
        const int top = static_cast<int>(line % tiles_y) * 4;
        const int left = static_cast<int>((first + i) % tiles_x) * 4;
        for (int j = 0; j < 16; ++j) {
          const bool there = top + j / 4 < shape_.height && left + j % 4 < shape_.width;
          const long pixel =
              (line / tiles_y * shape_.height + top + j / 4) * shape_.width + left + j % 4;
          x[j] = there ? source.data + pixel * source.row + c : nullptr;
          out[j] = there ? gradient + pixel * source.row + c : nullptr;
        }
        WinogradOutputTile tile = {sums + i * kPanelWidth, static_cast<std::ptrdiff_t>(tiles) * kPanelWidth,
                            kZeros,            backs,
                            nullptr,           kPanelWidth,
                            1};
        inference_kernels().winograd_output_transform(tile);
        training_kernels().bn_relu_backward(gate);
      }
    }
  }
}

// The 3x3 convolution's filters: outer products of the transformed input and gradient, of so many
// tiles and channels at a time that both and their sums stay in the second cache.
void Part::filters_back(const Source& source) {
  const int growth = shape_.growth, row = sizes_.growth_row, depth = source.channels;
  const int columns = round_up(growth, kPanelWidth);
  const int tiles_y = (shape_.height + 3) / 4, tiles_x = (shape_.width + 3) / 4;
  const int pitch = 4 * tiles_x + 2;
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(depth) * columns;
  std::fill_n(spatial_sums(rank_), kWinogradPlanes * plane, 0.0f);
  const Source last_maps = {s_.last, row, growth, nullptr, nullptr};
  const std::ptrdiff_t strip_size = static_cast<std::ptrdiff_t>(kWinogradInputTile) * pitch;
  float* const in_strip = scratch_;
  float* const out_strip = in_strip + strip_size * kSpatialSection;
  float* const in_planes = out_strip + strip_size * row;
  float* const out_planes =
      in_planes + static_cast<std::ptrdiff_t>(kWinogradPlanes) * kSpatialChunk * kSpatialSection;
  const auto [first_line, last_line] = share(static_cast<long>(shape_.images) * tiles_y);
  const long last = last_line * tiles_x;
  for (long first = first_line * tiles_x; first < last; first += kSpatialChunk) {
    const int tiles = static_cast<int>(std::min<long>(kSpatialChunk, last - first));
    for (int i = 0; i < tiles; ++i) {
      const std::ptrdiff_t column = (first + i) % tiles_x * 4;
      if (i == 0 || column == 0) fill_strip(last_maps, (first + i) / tiles_x, 0, growth, row, out_strip);
      training_kernels().winograd_output_transform_adjoint(
          out_strip + (pitch + column + 1) * row, static_cast<std::ptrdiff_t>(pitch) * row, row,
          out_planes + i * row, static_cast<std::ptrdiff_t>(tiles) * row, row);
    }
    for (int k = 0; k < depth; k += kSpatialSection) {
      const int part = std::min(kSpatialSection, depth - k), part_row = lanes(part);
      for (int i = 0; i < tiles; ++i) {
        const std::ptrdiff_t column = (first + i) % tiles_x * 4;
        if (i == 0 || column == 0) {
          fill_strip(source, (first + i) / tiles_x, k, part, part_row, in_strip);
        }
        inference_kernels().winograd_input_transform(in_strip + column * part_row,
                              static_cast<std::ptrdiff_t>(pitch) * part_row, part_row,
                              in_planes + i * part_row,
                              static_cast<std::ptrdiff_t>(tiles) * part_row, part_row);
      }
      for (int tap = 0; tap < kWinogradPlanes; ++tap) {
        training_kernels().gemm_tn(in_planes + static_cast<std::ptrdiff_t>(tap) * tiles * part_row,
                              part_row, out_planes + static_cast<std::ptrdiff_t>(tap) * tiles * row,
                              row, tiles,
                              spatial_sums(rank_) + tap * plane +
                                  static_cast<std::ptrdiff_t>(k) * columns,
                              columns, part, row);
      }
    }
  }
}

// The 1x1 convolution: its filters' gradient and its input's, a chunk of pixels and a section of
// the input's channels at a time.
void Part::expand_back(int layer) {
  const int before = shape_.before(layer), middle = shape_.middle;
  const int columns = round_up(middle, kPanelWidth), most = inference_kernels().max_tile_pixels;
  const int left_row = packed_row(kSection), right_row = packed_row(columns);
  float* const left = scratch_;
  float* const right = left + static_cast<std::ptrdiff_t>(kChunk) * left_row;
  float* const back = right + static_cast<std::ptrdiff_t>(kChunk) * right_row;
  std::fill_n(right, kChunk * right_row, 0.0f);
  std::fill_n(pointwise_sums(rank_), static_cast<std::ptrdiff_t>(before) * columns, 0.0f);
  std::fill_n(moments(rank_), sizes_.moments, 0.0);
  const float* const panels = panels_back();
  const float* x[kMostPixels];
  float* out[kMostPixels];
  BnReluBackward gate = {};
  gate.dy = back, gate.dy_stride = kPanelWidth;
  gate.x = x, gate.dx = out;
  gate.dy_factor = 1, gate.accumulate = true;
  const auto [first, last] = share(shape_.pixels());
  for (int section = 0; section < before; section += kSection) {
    const int channels = std::min(kSection, before - section);
    for (long begin = first; begin < last; begin += kChunk) {
      const int count = static_cast<int>(std::min<long>(kChunk, last - begin));
      training_kernels().affine_relu(map(begin) + section, sizes_.map_row, scale_.data() + section,
                              shift_.data() + section, left, left_row, count, channels);
      for (int i = 0; i < count; ++i) {
        const std::ptrdiff_t pixel = (begin + i) * sizes_.middle_row;
        training_kernels().add_affine(s_.middle_gradient + pixel, middles(layer) + pixel, slope_.data(),
                                offset_.data(), right + static_cast<std::ptrdiff_t>(i) * right_row,
                                middle);
      }
      training_kernels().gemm_tn(left, left_row, right, right_row, count,
                            pointwise_sums(rank_) + static_cast<std::ptrdiff_t>(section) * columns,
                            columns, channels, columns);
      for (int c = section; c < section + channels; c += kPanelWidth) {
        gate.channels = std::min(kPanelWidth, before - c);
        gate.scale = scale_.data() + c, gate.shift = shift_.data() + c;
        gate.mean = s_.saved.mean.data() + c;
        gate.sum_dy = moments(rank_) + c, gate.sum_dy_xmu = gate.sum_dy + sizes_.moments / 2;
        for (int i = 0; i < count; i += most) {
          gate.pixels = std::min(most, count - i);
          for (int j = 0; j < gate.pixels; ++j) {
            x[j] = map(begin + i + j) + c;
            out[j] = s_.gradient + (begin + i + j) * sizes_.map_row + c;
            fetch(x[j]), fetch(out[j]);
          }
          multiply(right + static_cast<std::ptrdiff_t>(i) * right_row, right_row, middle,
                   panels + static_cast<std::ptrdiff_t>(c) * middle, gate.pixels, kPanelWidth, back,
                   kPanelWidth);
          training_kernels().bn_relu_backward(gate);
        }
      }
    }
  }
}

}  // namespace gluondense
