// SPDX-License-Identifier: Apache-2.0
// The filters of the grouped 3x3 convolutions, and their forward pass.
#include <algorithm>

#include "training/dual_path/dual_path_conv3x3.h"

namespace gluondense {

// Calls f(element of panels, output channel, input channel of its group, row, column) for this
// thread's share of the weights.
template <class T>
template <class Function>
void DualPathWorker<T>::for_each_filter(float* panels, Function f) const {
  const GroupedBlocking blocking(config_, 1);
  const GroupedVectors vectors(config_.group_channels());
  const int per_chunk = vectors.count(blocking.chunk);
  const int rest = config_.bottleneck - (blocking.chunks - 1) * blocking.chunk;
  const auto [begin, end] = share((blocking.chunks - 1) * per_chunk + vectors.count(rest));
  for (std::int64_t i = begin; i < end; ++i) {
    const int chunk = static_cast<int>(i / per_chunk), channel = chunk * blocking.chunk;
    const auto vector = vectors(static_cast<int>(i % per_chunk),
                                std::min(blocking.chunk, config_.bottleneck - channel));
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
void DualPathWorker<T>::pack_grouped(const float* filters, bool transposed) const {
  const std::ptrdiff_t group = config_.group_channels();
  for_each_filter(buffers_.grouped_panels, [=](float& weight, int n, int k, int y, int x) {
    const std::ptrdiff_t first = n / group * group;
    weight = transposed ? filters[((first + k) * group + n - first) * 9 + 8 - (y * 3 + x)]
                        : filters[(n * group + k) * 9 + y * 3 + x];
  });
}

// Sums the gradients of all threads.
template <class T>
void DualPathWorker<T>::reduce_d_grouped(float* filters) const {
  const std::ptrdiff_t group = config_.group_channels();
  for_each_filter(d_grouped(0), [=](const float& first, int n, int k, int y, int x) {
    float sum = first;
    for (int t = 1; t < threads(); ++t) sum += (&first)[t * layout_.filters];
    filters[(n * group + k) * 9 + y * 3 + x] = sum;
  });
}

// Writes BN-ReLU of the rows that a band reads, with zeros around the image.
template <class T>
void DualPathWorker<T>::fill_padded_input(const NormalizedMaps<T>& maps, int stride,
                                          const GroupedBlocking& blocking, const Band& band,
                                          float* strip) const {
  const int height = stride == 1 ? config_.out_height() : config_.height;
  const int width = blocking.in_width - 2, place = maps.statistics + band.channel;
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
                          affine_.shift.data() + place, strip + blocking.stride, blocking.stride,
                          width, band.channels);
  }
}

template <class T>
void DualPathWorker<T>::grouped_forward(int block, bool with_sums) const {
  const int stride = block ? 1 : config_.stride, width = config_.out_width();
  const GroupedBlocking blocking(config_, stride);
  const GroupedVectors vectors(config_.group_channels());
  const auto buffer = scratch<GroupedScratch<T>>(blocking);
  const NormalizedMaps<T> maps = a_input(block).parts[0];
  const std::ptrdiff_t in_row = std::ptrdiff_t{blocking.in_width} * blocking.stride;
  const std::ptrdiff_t out_row = std::ptrdiff_t{width} * blocking.stride;
  GroupedTrainingTile tile = {};
  tile.src_stride = tile.dst_stride = blocking.stride;
  tile.stride = stride;
  tile.lanes = vectors.kernel_lanes();
  for_each_band(blocking, [&](const Band& band) {
    fill_padded_input(maps, stride, blocking, band, buffer.x);
    const float* panel = buffers_.grouped_panels +
                         band.chunk * vectors.count(blocking.chunk) * vectors.panel_floats();
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
    const std::int64_t first = (band.image * config_.out_height() + band.first) * width;
    const std::int64_t count = std::int64_t{band.rows} * width;
    T* const out = b(block) + first * layout_.bottleneck_stride + band.channel;
    for (std::int64_t p = 0; p < count; ++p) {
      const float* const y = buffer.y + p * blocking.stride;
      T* const pixel = out + p * layout_.bottleneck_stride;
      for (int c = 0; c < band.channels; ++c) pixel[c] = T(y[c]);
    }
    if (!with_sums) return;
    const ChannelSums sums = channel_sums(rank_, b_statistics(block) + band.channel);
    kernels().channel_sums(out, layout_.bottleneck_stride, static_cast<int>(count), band.channels,
                           sums.first, sums.second);
  });
}

template class DualPathWorker<float>;
template class DualPathWorker<Bf16>;

}  // namespace gluondense
