#include "training/part.h"

namespace gluondense {

void Part::backward(const float* out_gradient, float* in_gradient, const StageArrays& gradients) {
  const Saved& saved = s_.saved;
  const int total = shape_.total(), plane = shape_.height * shape_.width;
  begin_back(out_gradient);
  const int deepest = shape_.layers - 1;
  if (shape_.recompute && shape_.middle && shape_.layers) {
    pack_pointwise(s_.arrays.layers[deepest].weight1, shape_.before(deepest), shape_.middle,
                   pointwise(deepest & 1));
  }
  barrier_.wait();
  if (shape_.tail != StageShape::kMaps) {
    finish_norm(-1, s_.arrays.norm, gradients.norm, total, saved.inverse.data(), constant_.data(),
                linear_.data());
  }
  if (shape_.tail == StageShape::kConv) {
    reduce_pointwise(total, shape_.out_channels, gradients.weight);
  }
  std::vector<double> constant2(sizes_.middle_row), linear2(sizes_.middle_row);
  for (int layer = deepest; layer >= 0; --layer) {
    const auto &arrays = s_.arrays.layers[layer], &to = gradients.layers[layer];
    const int before = shape_.before(layer), depth = shape_.middle ? shape_.middle : before;
    const float* const mean2 = saved.mean2.data() + layer * sizes_.middle_row;
    const float* const inverse2 = saved.inverse2.data() + layer * sizes_.middle_row;
    correct_last(layer);
    if (shape_.recompute && shape_.middle) {
      set_line(arrays.norm1, saved.mean.data(), saved.inverse.data(), before);
      expand(layer, false);
    }
    pack_spatial(arrays.weight2, depth, shape_.growth, true, spatial(0));
    if (shape_.middle) {
      pack_pointwise_back(arrays.weight1, before, shape_.middle, panels_back());
    }
    barrier_.wait();
    if (shape_.middle) {
      set_line(arrays.norm2, mean2, inverse2, depth);
      const Source source = {middles(layer), sizes_.middle_row, depth, scale_.data(),
                             shift_.data()};
      grow_back(layer, source, mean2, false);
      filters_back(source);
      if (shape_.recompute && layer > 0) {
        pack_pointwise(s_.arrays.layers[layer - 1].weight1, shape_.before(layer - 1),
                       shape_.middle, pointwise((layer - 1) & 1));
      }
      barrier_.wait();
      reduce_spatial(depth, shape_.growth, to.weight2);
      std::fill(constant2.begin(), constant2.end(), 0);
      std::fill(linear2.begin(), linear2.end(), 0);
      finish_norm(layer, arrays.norm2, to.norm2, depth, inverse2, constant2.data(), linear2.data());
      for (int c = 0; c < depth; ++c) {
        slope_[c] = static_cast<float>(-linear2[c]);
        offset_[c] = static_cast<float>(linear2[c] * mean2[c] - constant2[c]);
      }
      set_line(arrays.norm1, saved.mean.data(), saved.inverse.data(), before);
      expand_back(layer);
      barrier_.wait();
      reduce_pointwise(before, shape_.middle, to.weight1);
    } else {
      set_line(arrays.norm2, saved.mean.data(), saved.inverse.data(), depth);
      const Source source = {s_.maps, sizes_.map_row, depth, scale_.data(), shift_.data()};
      grow_back(layer, source, saved.mean.data(), true);
      filters_back(source);
      barrier_.wait();
      reduce_spatial(depth, shape_.growth, to.weight2);
    }
    const bool middle = shape_.middle > 0;
    finish_norm(-1, middle ? arrays.norm1 : arrays.norm2, middle ? to.norm1 : to.norm2, before,
                saved.inverse.data(), constant_.data(), linear_.data());
  }
  // What is left is the input's.
  const int row = lanes(shape_.channels);
  for (int c = 0; c < shape_.channels; ++c) {
    slope_[c] = static_cast<float>(-linear_[c]);
    offset_[c] = static_cast<float>(linear_[c] * saved.mean[c] - constant_[c]);
  }
  const auto [first, last] = share(shape_.pixels());
  for (long pixel = first; pixel < last; pixel += kMostPixels) {
    const int count = static_cast<int>(std::min<long>(kMostPixels, last - pixel));
    for (int i = 0; i < count; ++i) {
      training_kernels().add_affine(s_.gradient + (pixel + i) * sizes_.map_row, map(pixel + i),
                              slope_.data(), offset_.data(),
                              scratch_ + static_cast<std::ptrdiff_t>(i) * row, shape_.channels);
    }
    store_rows(scratch_, row, shape_.channels, pixel, count, plane, in_gradient);
  }
}

// A normalization's gradients; and of each channel the two corrections, added to those of others:
// dx = scale (g - mean(g) - xhat mean(g xhat)), of which the gates have done scale g.
void Part::finish_norm(int layer, const Norm& norm, const Norm& gradient, int channels,
                       const float* inverse, double* constant, double* linear) const {
  const std::size_t half = (layer < 0 ? sizes_.moments : sizes_.moments2) / 2;
  const double pixels = static_cast<double>(shape_.pixels());
  for (int c = 0; c < channels; ++c) {
    double sum = 0, product = 0;
    for (int t = 0; t < barrier_.size(); ++t) {
      const double* const of = layer < 0 ? moments(t) : moments2(t, layer);
      sum += of[c];
      product += of[half + c];
    }
    if (rank_ == 0) {
      gradient.beta[c] = static_cast<float>(sum);
      gradient.gamma[c] = static_cast<float>(product * inverse[c]);
    }
    const double scale = static_cast<double>(norm.gamma[c]) * inverse[c] / pixels;
    constant[c] += scale * sum;
    linear[c] += scale * inverse[c] * inverse[c] * product;
  }
}

// The gradient of all maps as far as what comes out reads them.
void Part::begin_back(const float* out_gradient) {
  const int total = shape_.total(), plane = shape_.out_height() * shape_.out_width();
  const auto [first, last] = share(shape_.tail == StageShape::kConv
                                       ? static_cast<long>(shape_.images) * plane
                                       : shape_.pixels());
  if (shape_.tail == StageShape::kMaps) {
    load_rows(out_gradient, total, first, static_cast<int>(last - first), plane,
              s_.gradient + first * sizes_.map_row, sizes_.map_row);
    return;
  }
  set_line(s_.arrays.norm, s_.saved.mean.data(), s_.saved.inverse.data(), total);
  std::fill_n(moments(rank_), sizes_.moments, 0.0);
  const float* x[4][kMostPixels];
  float* out[4][kMostPixels];
  BnReluBackward gate = {};
  gate.x = x[0];
  gate.dx = out[0];
  gate.dy_factor = 1;
  if (shape_.tail == StageShape::kNorm) {
    gate.dy = scratch_;
    gate.dy_stride = sizes_.map_row;
    gate.scale = scale_.data(), gate.shift = shift_.data(), gate.mean = s_.saved.mean.data();
    gate.sum_dy = moments(rank_), gate.sum_dy_xmu = gate.sum_dy + sizes_.moments / 2;
    gate.channels = total;
    for (long pixel = first; pixel < last; pixel += kMostPixels) {
      gate.pixels = static_cast<int>(std::min<long>(kMostPixels, last - pixel));
      load_rows(out_gradient, total, pixel, gate.pixels, plane, scratch_, sizes_.map_row);
      for (int i = 0; i < gate.pixels; ++i) {
        x[0][i] = map(pixel + i), out[0][i] = s_.gradient + (pixel + i) * sizes_.map_row;
      }
      training_kernels().bn_relu_backward(gate);
    }
    return;
  }
  const int channels = shape_.out_channels, columns = round_up(channels, kPanelWidth);
  float* const panels = panels_back();
  pack_pointwise_back(s_.arrays.weight, total, channels, panels);
  if (shape_.pool && (shape_.height % 2 || shape_.width % 2)) {  // pixels that no mean has
    const auto [begin, end] = share(shape_.pixels());
    std::fill_n(s_.gradient + begin * sizes_.map_row, (end - begin) * sizes_.map_row, 0.0f);
  }
  std::fill_n(pointwise_sums(rank_), static_cast<std::ptrdiff_t>(total) * columns, 0.0f);
  barrier_.wait();
  const Source source = {s_.maps, sizes_.map_row, total, scale_.data(), shift_.data()};
  const int left_row = packed_row(total), right_row = packed_row(columns);
  float* const left = scratch_;
  float* const right = left + static_cast<std::ptrdiff_t>(kChunk) * left_row;
  float* const back = right + static_cast<std::ptrdiff_t>(kChunk) * right_row;
  std::fill_n(right, kChunk * right_row, 0.0f);
  const int most = inference_kernels().max_tile_pixels, width = shape_.out_width();
  gate.dy = back;
  gate.dy_stride = kPanelWidth;
  gate.dy_factor = shape_.pool ? 0.25f : 1;
  for (long begin = first; begin < last; begin += kChunk) {
    const int count = static_cast<int>(std::min<long>(kChunk, last - begin));
    pack_pixels(source, begin, count, left_row, left);
    load_rows(out_gradient, channels, begin, count, plane, right, right_row);
    training_kernels().gemm_tn(left, left_row, right, right_row, count, pointwise_sums(rank_), columns,
                          total, columns);
    for (int c = 0; c < total; c += kPanelWidth) {
      gate.channels = std::min(kPanelWidth, total - c);
      gate.scale = scale_.data() + c, gate.shift = shift_.data() + c;
      gate.mean = s_.saved.mean.data() + c;
      gate.sum_dy = moments(rank_) + c, gate.sum_dy_xmu = gate.sum_dy + sizes_.moments / 2;
      for (int i = 0; i < count; i += most) {
        gate.pixels = std::min(most, count - i);
        const int parts = shape_.pool ? 4 : 1;  // pixels that a mean has
        for (int part = 0; part < parts; ++part) {
          for (int j = 0; j < gate.pixels; ++j) {
            long pixel = begin + i + j;
            if (shape_.pool) {
              const long line = pixel / width, image = line / shape_.out_height();
              const long y = 2 * (line % shape_.out_height()) + part / 2;
              pixel = (image * shape_.height + y) * shape_.width + 2 * (pixel % width) + part % 2;
            }
            x[part][j] = map(pixel) + c, out[part][j] = s_.gradient + pixel * sizes_.map_row + c;
            fetch(x[part][j]), fetch(out[part][j]);
          }
        }
        multiply(right + static_cast<std::ptrdiff_t>(i) * right_row, right_row, channels,
                 panels + static_cast<std::ptrdiff_t>(c) * channels, gate.pixels, kPanelWidth, back,
                 kPanelWidth);
        for (int part = 0; part < parts; ++part) {
          gate.x = x[part], gate.dx = out[part];
          training_kernels().bn_relu_backward(gate);
        }
      }
    }
  }
}

// The gradient of a layer's new maps, which no other layer adds to any more.
void Part::correct_last(int layer) {
  const int before = shape_.before(layer), row = sizes_.growth_row;
  for (int c = 0; c < shape_.growth; ++c) {
    const double linear = linear_[before + c], mean = s_.saved.mean[before + c];
    slope_[c] = static_cast<float>(-linear);
    offset_[c] = static_cast<float>(linear * mean - constant_[before + c]);
  }
  const auto [first, last] = share(shape_.pixels());
  for (long pixel = first; pixel < last; ++pixel) {
    float* const to = s_.last + pixel * row;
    training_kernels().add_affine(s_.gradient + pixel * sizes_.map_row + before, map(pixel) + before,
                            slope_.data(), offset_.data(), to, shape_.growth);
    for (int c = shape_.growth; c < row; ++c) to[c] = 0;
  }
}

}  // namespace gluondense
