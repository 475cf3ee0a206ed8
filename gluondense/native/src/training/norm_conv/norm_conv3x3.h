// SPDX-License-Identifier: Apache-2.0
// The unit of work of grouped 3x3 convolutions, and its vectors of channels.
//
// A unit is a band of rows of an image and a chunk of channels: its input, after BN-ReLU, is copied
// to padded rows of floats, which stay in the L2 cache for all vectors of channels. Lanes are
// channels, so nothing is transposed; a group has as many outputs as inputs, usually 3 to 32.
#pragma once

#include <algorithm>

#include "training/norm_conv/norm_conv.h"

namespace gluondense {

// The vectors of output channels of a chunk, each of whole groups or of a part of one.
struct GroupedVectors {
  const int group = 0, lanes = 0;  // channels of a group, and of a vector

  explicit GroupedVectors(int group_channels)
      : group(group_channels), lanes(training_kernels().grouped_lanes) {}

  struct Vector {
    int first, count, first_in;  // channels of the chunk
  };
  GroupedLanes kernel_lanes() const { return {group, lanes < 2 * group}; }
  int width() const { return lanes / group * group; }  // channels of a vector of whole groups
  int per_group() const { return div_up(group, lanes); }
  int count(int channels) const {
    return lanes < 2 * group ? channels / group * per_group() : div_up(channels, width());
  }
  Vector operator()(int i, int channels) const {
    if (lanes >= 2 * group) {
      const int first = i * width();
      return {first, std::min(width(), channels - first), first};
    }
    const int first = i / per_group() * group, part = i % per_group() * lanes;
    return {first + part, std::min(lanes, group - part), first};
  }
  std::ptrdiff_t panel_floats() const { return std::ptrdiff_t{9} * group * lanes; }
};

// Calls f(first, count) for parts of nearly equal size, of at most max_tile_pixels.
template <class Function>
void for_each_tile(int pixels, Function f) {
  const int tiles = div_up(pixels, inference_kernels().max_tile_pixels);
  for (int i = 0; i < tiles; ++i) {
    const int first = pixels * i / tiles;
    f(first, pixels * (i + 1) / tiles - first);
  }
}

template <class T>
struct NormConvWorker<T>::Band {
  std::int64_t image;
  int chunk, channel, channels;  // the chunk's number, and its channels
  int first, rows;               // of the output
};

template <class T>
template <class Function>
void NormConvWorker<T>::for_each_band(const GroupedConv& conv, const GroupedBlocking& blocking,
                                      Function f) const {
  const std::int64_t per_chunk = std::int64_t{conv.batch} * blocking.bands;
  const auto [begin, end] = share(blocking.chunks * per_chunk);
  for (std::int64_t i = begin; i < end; ++i) {
    const int chunk = static_cast<int>(i / per_chunk), channel = chunk * blocking.chunk;
    const std::int64_t image = i % per_chunk / blocking.bands;
    const auto [first, last] =
        partition(conv.out_height(), static_cast<int>(i % blocking.bands), blocking.bands);
    f(Band{image, chunk, channel, std::min(blocking.chunk, conv.channels - channel),
           static_cast<int>(first), static_cast<int>(last - first)});
  }
}

}  // namespace gluondense
