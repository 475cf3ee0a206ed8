#include <cmath>

#include "training/part.h"

namespace gluondense {

Part::Part(const Shared& shared, Barrier& barrier, int rank)
    : s_(shared),
      shape_(shared.shape),
      sizes_(shared.sizes),
      barrier_(barrier),
      rank_(rank),
      scratch_(shared.scratch + rank * shared.sizes.scratch) {
  const std::size_t widest = std::max(sizes_.map_row, sizes_.middle_row);
  for (auto* line : {&scale_, &shift_, &slope_, &offset_, &mean_, &inverse_}) line->resize(widest);
  for (auto* line : {&constant_, &linear_, &var_}) line->resize(widest);
}

// Mean and variance of channels, of all threads' sums: of the maps, or of a layer's middle. The
// order of adding is fixed, so a run can be repeated to the bit.
void Part::finish_moments(int layer, int from, int count, float* mean, float* inverse,
                          double* var) {
  const std::size_t half = (layer < 0 ? sizes_.moments : sizes_.moments2) / 2;
  const double pixels = static_cast<double>(shape_.pixels());
  for (int c = from; c < from + count; ++c) {
    double sum = 0, square = 0;
    for (int t = 0; t < barrier_.size(); ++t) {
      const double* const of = layer < 0 ? moments(t) : moments2(t, layer);
      sum += of[c];
      square += of[half + c];
    }
    const double middle = sum / pixels;
    var[c] = std::max(0.0, square / pixels - middle * middle);
    mean[c] = static_cast<float>(middle);
    inverse[c] = static_cast<float>(1 / std::sqrt(var[c] + shape_.eps));
  }
}

void Part::set_line(const Norm& norm, const float* mean, const float* inverse, int channels) {
  for (int c = 0; c < channels; ++c) {
    scale_[c] = norm.gamma[c] * inverse[c];
    shift_[c] = norm.beta[c] - mean[c] * scale_[c];
  }
}

// The moving averages, once a pass.
void Part::update(const Norm& norm, const float* mean, const double* var, int channels) const {
  if (rank_ != 0) return;
  const float old = shape_.momentum, fresh = 1 - shape_.momentum;
  for (int c = 0; c < channels; ++c) {
    norm.mean[c] = norm.mean[c] * old + mean[c] * fresh;
    norm.var[c] = norm.var[c] * old + static_cast<float>(var[c]) * fresh;
  }
}

// Filters of a layer, or of the end, are packed while those of the layer before are in use.
void Part::pack_layer(int layer) const {
  const int parity = layer & 1, before = shape_.before(layer);
  if (layer == shape_.layers) {
    if (shape_.tail == StageShape::kConv) {
      pack_pointwise(s_.arrays.weight, before, shape_.out_channels, pointwise(parity));
    }
    return;
  }
  const auto& arrays = s_.arrays.layers[layer];
  if (shape_.middle) pack_pointwise(arrays.weight1, before, shape_.middle, pointwise(parity));
  const int depth = shape_.middle ? shape_.middle : before;
  pack_spatial(arrays.weight2, depth, shape_.growth, false, spatial(parity));
}

void Part::forward(const float* in, float* out) {
  std::fill_n(moments(rank_), sizes_.partial, 0.0);
  const int plane = shape_.height * shape_.width;
  const auto [first, last] = share(static_cast<long>(shape_.images) * shape_.height);
  for (long line = first; line < last; ++line) {
    const long pixel = line * shape_.width;
    load_rows(in, shape_.channels, pixel, shape_.width, plane, map(pixel), sizes_.map_row);
    training_kernels().channel_sums(map(pixel), sizes_.map_row, shape_.width, shape_.channels,
                            moments(rank_), moments(rank_) + sizes_.moments / 2);
  }
  pack_layer(0);
  barrier_.wait();
  int known = 0;
  std::vector<float> mean2(sizes_.middle_row), inverse2(sizes_.middle_row);
  std::vector<double> var2(sizes_.middle_row);
  for (int layer = 0; layer < shape_.layers; ++layer) {
    const int before = shape_.before(layer);
    const auto& arrays = s_.arrays.layers[layer];
    finish_moments(-1, known, before - known, mean_.data(), inverse_.data(), var_.data());
    known = before;
    const Norm& first_norm = shape_.middle ? arrays.norm1 : arrays.norm2;
    set_line(first_norm, mean_.data(), inverse_.data(), before);
    update(first_norm, mean_.data(), var_.data(), before);
    Source source = {s_.maps, sizes_.map_row, before, scale_.data(), shift_.data()};
    if (shape_.middle) {
      expand(layer, true);
      barrier_.wait();
      finish_moments(layer, 0, shape_.middle, mean2.data(), inverse2.data(), var2.data());
      set_line(arrays.norm2, mean2.data(), inverse2.data(), shape_.middle);
      update(arrays.norm2, mean2.data(), var2.data(), shape_.middle);
      if (rank_ == 0) {
        std::copy_n(mean2.data(), shape_.middle, s_.saved.mean2.data() + layer * sizes_.middle_row);
        std::copy_n(inverse2.data(), shape_.middle,
                    s_.saved.inverse2.data() + layer * sizes_.middle_row);
      }
      source = {middles(layer), sizes_.middle_row, shape_.middle, scale_.data(), shift_.data()};
    }
    grow(layer, source);
    pack_layer(layer + 1);
    barrier_.wait();
  }
  const int total = shape_.total();
  finish_moments(-1, known, total - known, mean_.data(), inverse_.data(), var_.data());
  if (rank_ == 0) {
    std::copy_n(mean_.data(), total, s_.saved.mean.data());
    std::copy_n(inverse_.data(), total, s_.saved.inverse.data());
  }
  if (shape_.tail != StageShape::kMaps) {
    set_line(s_.arrays.norm, mean_.data(), inverse_.data(), total);
    update(s_.arrays.norm, mean_.data(), var_.data(), total);
  }
  end(out);
}

// The 1x1 convolution of a layer, and where `count`ed its maps' sums.
void Part::expand(int layer, bool count) {
  const Source source = {s_.maps, sizes_.map_row, shape_.before(layer), scale_.data(),
                         shift_.data()};
  const int row = packed_row(source.channels), most = inference_kernels().max_tile_pixels;
  double* const sums = moments2(rank_, layer);
  const auto [first, last] = share(shape_.pixels());
  for (long pixel = first; pixel < last; pixel += most) {
    const int pixels = static_cast<int>(std::min<long>(most, last - pixel));
    float* const out = middles(layer) + pixel * sizes_.middle_row;
    const float* const from = source.data + pixel * source.row;
    training_kernels().affine_relu(from, source.row, source.scale, source.shift, scratch_, row, pixels,
                            source.channels);
    for (int i = most; i < 2 * most; ++i) {  // the next ones are on their way meanwhile
      const float* const next = from + static_cast<std::ptrdiff_t>(i) * source.row;
      for (int c = 0; c < source.channels; c += kLanes) __builtin_prefetch(next + c, 0, 2);
    }
    multiply(scratch_, row, source.channels, pointwise(layer & 1), pixels, shape_.middle, out,
             sizes_.middle_row);
    if (count) {
      training_kernels().channel_sums(out, sizes_.middle_row, pixels, shape_.middle, sums,
                              sums + sizes_.moments2 / 2);
    }
  }
}

// The 3x3 convolution of a layer: its new maps, and their sums.
void Part::grow(int layer, const Source& source) {
  static const float kZeros[kPanelWidth] = {};
  const int depth = source.channels, row = lanes(depth), before = shape_.before(layer);
  const int tiles_y = (shape_.height + 3) / 4, tiles_x = (shape_.width + 3) / 4;
  const int pitch = 4 * tiles_x + 2, most = inference_kernels().max_tile_pixels;
  float* const strip = scratch_;
  float* const planes = strip + static_cast<std::ptrdiff_t>(kWinogradInputTile) * pitch * row;
  float* const sums = planes + static_cast<std::ptrdiff_t>(kWinogradPlanes) * most * row;
  const auto [first_line, last_line] = share(static_cast<long>(shape_.images) * tiles_y);
  long filled = -1;
  const long last = last_line * tiles_x;
  for (long first = first_line * tiles_x; first < last; first += most) {
    const int tiles = static_cast<int>(std::min<long>(most, last - first));
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(tiles) * row;
    for (int i = 0; i < tiles; ++i) {
      const long line = (first + i) / tiles_x;
      if (line != filled) fill_strip(source, line, 0, depth, row, strip);
      filled = line;
      const std::ptrdiff_t x = (first + i) % tiles_x * 4;
      inference_kernels().winograd_input_transform(strip + x * row, static_cast<std::ptrdiff_t>(pitch) * row, row,
                            planes + i * row, plane, row);
    }
    for (int c = 0; c < shape_.growth; c += kPanelWidth) {
      multiply_planes(planes, tiles, depth,
                      spatial(layer & 1) + static_cast<std::ptrdiff_t>(c) * kWinogradPlanes * depth,
                      sums);
      const int channels = std::min(kPanelWidth, shape_.growth - c);
      for (int i = 0; i < tiles; ++i) {
        const long line = (first + i) / tiles_x;
        const int y = static_cast<int>(line % tiles_y) * 4;
        const int x = static_cast<int>((first + i) % tiles_x) * 4;
        const int width = std::min(4, shape_.width - x);
        float* out[16];
        for (int j = 0; j < 16; ++j) {
          const bool there = y + j / 4 < shape_.height && x + j % 4 < shape_.width;
          const long pixel =
              (line / tiles_y * shape_.height + y + j / 4) * shape_.width + x + j % 4;
          out[j] = there ? map(pixel) + before + c : nullptr;
        }
        WinogradOutputTile tile = {sums + i * kPanelWidth, static_cast<std::ptrdiff_t>(tiles) * kPanelWidth,
                            kZeros,            out,
                            nullptr,           channels,
                            1};
        inference_kernels().winograd_output_transform(tile);
        double* const found = moments(rank_) + before + c;
        for (int v = 0; v < 4 && y + v < shape_.height; ++v) {
          training_kernels().channel_sums(out[v * 4], sizes_.map_row, width, channels, found,
                                  found + sizes_.moments / 2);
        }
      }
    }
  }
}

// What comes out.
void Part::end(float* out) {
  const int total = shape_.total(), plane = shape_.out_height() * shape_.out_width();
  if (shape_.tail != StageShape::kConv) {
    const auto [first, last] = share(static_cast<long>(shape_.images) * shape_.height);
    const int row = lanes(total);
    for (long line = first; line < last; ++line) {
      for (int x = 0; x < shape_.width; x += kMostPixels) {
        const int count = std::min(kMostPixels, shape_.width - x);
        const long pixel = line * shape_.width + x;
        if (shape_.tail == StageShape::kMaps) {
          store_rows(map(pixel), sizes_.map_row, total, pixel, count, plane, out);
          continue;
        }
        training_kernels().affine_relu(map(pixel), sizes_.map_row, scale_.data(), shift_.data(), scratch_,
                                row, count, total);
        store_rows(scratch_, row, total, pixel, count, plane, out);
      }
    }
    return;
  }
  const Source source = {s_.maps, sizes_.map_row, total, scale_.data(), shift_.data()};
  const int row = packed_row(total), out_row = round_up(shape_.out_channels, kPanelWidth);
  const int most = inference_kernels().max_tile_pixels;
  float* const rows = scratch_ + static_cast<std::ptrdiff_t>(kMostPixels) * row;
  const auto [first, last] = share(static_cast<long>(shape_.images) * plane);
  for (long pixel = first; pixel < last; pixel += most) {
    const int pixels = static_cast<int>(std::min<long>(most, last - pixel));
    pack_pixels(source, pixel, pixels, row, scratch_);
    multiply(scratch_, row, total, pointwise(shape_.layers & 1), pixels, shape_.out_channels, rows,
             out_row);
    store_rows(rows, out_row, shape_.out_channels, pixel, pixels, plane, out);
  }
}

}  // namespace gluondense
