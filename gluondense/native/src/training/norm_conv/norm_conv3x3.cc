// SPDX-License-Identifier: Apache-2.0
// The filters of the grouped 3x3 convolutions, and their forward pass.
#include <algorithm>

#include "training/norm_conv/norm_conv3x3.h"

namespace gluondense {

// Calls f(element of panels, output channel, input channel of its group, row, column) for this
// thread's share of the weights.
template <class T>
template <class Function>
void NormConvWorker<T>::for_each_filter(const GroupedConv& conv, float* panels, Function f) const {
  const GroupedBlocking blocking(conv);
  const GroupedVectors vectors(conv.group_channels());
  const int per_chunk = vectors.count(blocking.chunk);
  const int rest = conv.channels - (blocking.chunks - 1) * blocking.chunk;
  const auto [begin, end] = share((blocking.chunks - 1) * per_chunk + vectors.count(rest));
  for (std::int64_t i = begin; i < end; ++i) {
    const int chunk = static_cast<int>(i / per_chunk), channel = chunk * blocking.chunk;
    const auto vector =
        vectors(static_cast<int>(i % per_chunk), std::min(blocking.chunk, conv.channels - channel));
    float* element = panels + i * vectors.panel_floats();
    for (int y = 0; y < 3; ++y) {
      for (int k = 0; k < vectors.group; ++k) {
        for (int x = 0; x < 3; ++x, element += vectors.lanes) {
          for (int lane = 0; lane < vector.count; ++lane) {
            f(element[lane], channel + vector.first + lane, k, y, x);
          }
        }
      }
    }
  }
}

// `transposed` swaps the input and output channels of each group and rotates the filters by 180
// degrees, for the gradient of the input.
template <class T>
void NormConvWorker<T>::pack_grouped(const GroupedConv& conv, const float* filters, bool transposed,
                                     float* panels) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (is_direct<T>(conv)) return direct_pack_grouped(conv, filters, transposed, panels);
  }
  const std::ptrdiff_t group = conv.group_channels();
  for_each_filter(conv, panels, [=](float& weight, int n, int k, int y, int x) {
    const std::ptrdiff_t first = n / group * group;
    weight = transposed ? filters[((first + k) * group + n - first) * 9 + 8 - (y * 3 + x)]
                        : filters[(n * group + k) * 9 + y * 3 + x];
  });
}

// Sums the gradients of all threads.
template <class T>
void NormConvWorker<T>::reduce_d_grouped(const GroupedConv& conv, float* d_panels,
                                         std::ptrdiff_t distance, float* filters) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (is_direct<T>(conv)) return direct_reduce_d_grouped(conv, d_panels, distance, filters);
  }
  const std::ptrdiff_t group = conv.group_channels();
  for_each_filter(conv, d_panels, [=](const float& first, int n, int k, int y, int x) {
    float sum = first;
    for (int t = 1; t < threads(); ++t) sum += (&first)[t * distance];
    filters[(n * group + k) * 9 + y * 3 + x] = sum;
  });
}

// Writes BN-ReLU of the rows that a band reads, with zeros around the image.
template <class T>
void NormConvWorker<T>::fill_padded_input(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                                          const GroupedBlocking& blocking, const Band& band,
                                          float* strip) const {
  const int stride = conv.stride, height = conv.height, width = conv.width;
  const int place = maps.statistics + band.channel;
  const std::ptrdiff_t row_floats = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  for (int i = 0; i < stride * (band.rows - 1) + 3; ++i, strip += row_floats) {
    const int y = stride * band.first - 1 + i;
    if (y < 0 || y >= height) {
      std::fill_n(strip, row_floats, 0.0f);
      continue;
    }
    const T* const x = maps.x + (band.image * height + y) * width * maps.stride + band.channel;
    std::fill_n(strip, blocking.stride, 0.0f);
    std::fill_n(strip + row_floats - blocking.stride, blocking.stride, 0.0f);
    prefetch_rows(x + std::ptrdiff_t{width} * maps.stride, maps.stride, width, band.channels);
    kernels().affine_relu(x, maps.stride, affine_.scale.data() + place,
                          affine_.shift.data() + place, maps.slope, strip + blocking.stride,
                          blocking.stride, width, band.channels);
  }
}

template <class T>
void NormConvWorker<T>::grouped_forward(const GroupedConv& conv, const NormalizedMaps<T>& maps,
                                        const float* panels, T* y, int y_stride,
                                        const ChannelSums* sums) const {
  if constexpr (std::is_same_v<T, Bf16>) {
    if (is_direct<T>(conv)) return direct_grouped_forward(conv, maps, panels, y, y_stride, sums);
  }
  const int stride = conv.stride, width = conv.out_width();
  const GroupedBlocking blocking(conv);
  const GroupedVectors vectors(conv.group_channels());
  const auto buffer = scratch<GroupedScratch<T>>(blocking);
  const std::ptrdiff_t in_row = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  const std::ptrdiff_t out_row = std::ptrdiff_t{width} * blocking.stride;
  GroupedTrainingTile tile = {};
  tile.src_stride = tile.dst_stride = blocking.stride;
  tile.stride = stride;
  tile.lanes = vectors.kernel_lanes();
  for_each_band(conv, blocking, [&](const Band& band) {
    fill_padded_input(conv, maps, blocking, band, buffer.x);
    const float* panel =
        panels + band.chunk * vectors.count(blocking.chunk) * vectors.panel_floats();
    for (int i = 0; i < vectors.count(band.channels); ++i, panel += vectors.panel_floats()) {
      const auto vector = vectors(i, band.channels);
      tile.weights = panel;
      for (int row = 0; row < band.rows; ++row) {
        for_each_tile(width, [&](int first, int count) {
          for (int y = 0; y < 3; ++y) {
            tile.rows[y] = buffer.x + (stride * row + y) * in_row +
                           stride * first * blocking.stride + vector.first_in;
          }
          tile.dst = buffer.y + row * out_row + first * blocking.stride + vector.first;
          tile.pixels = count;
          training_kernels().grouped_conv3x3(tile);
        });
      }
    }
    const std::int64_t first = (band.image * conv.out_height() + band.first) * width;
    const std::int64_t count = std::int64_t{band.rows} * width;
    T* const out = y + first * y_stride + band.channel;
    for (std::int64_t p = 0; p < count; ++p) {
      const float* const row = buffer.y + p * blocking.stride;
      T* const pixel = out + p * y_stride;
      for (int c = 0; c < band.channels; ++c) pixel[c] = T(row[c]);
    }
    if (!sums) return;
    kernels().channel_sums(out, y_stride, static_cast<int>(count), band.channels,
                           sums->first + band.channel, sums->second + band.channel);
  });
}

template class NormConvWorker<float>;
template class NormConvWorker<Bf16>;

}  // namespace gluondense
