#include <cstring>

#include "training/part.h"

namespace gluondense {

Sizes::Sizes(const StageShape& s)
    : map_row(packed_row(s.total())), middle_row(round_up(s.middle, kPanelWidth)), growth_row(lanes(s.growth)) {
  const std::size_t total = lanes(s.total()), deepest = lanes(s.deepest());
  const std::size_t widest = round_up(std::max({s.total(), s.middle, s.out_channels}), kPanelWidth);
  const std::size_t growth = round_up(s.growth, kPanelWidth), tiles = (s.width + 3) / 4;
  moments = 2 * total;
  moments2 = 2 * middle_row;
  partial = (moments + s.layers * moments2 + 7) / 8 * 8 + 8;
  pointwise = widest * round_up(std::max(s.middle, s.out_channels), kPanelWidth);
  spatial = s.layers ? kWinogradPlanes * std::max(deepest * growth,
                                                round_up(s.deepest(), kPanelWidth) * growth)
                     : 0;
  sums = pointwise + spatial;
  const std::size_t strips =
      kWinogradInputTile * (4 * tiles + 2) * (std::max<std::size_t>(deepest, kSpatialSection) + growth);
  const std::size_t planes =
      kWinogradPlanes * std::max<std::size_t>(
                          kMostPixels * (std::max(deepest, growth) + kPanelWidth),
                          kSpatialChunk * (kSpatialSection + growth));
  const std::size_t chunk = kChunk * (2 * packed_row(widest) + kPanelWidth) + kMostPixels * widest;
  scratch = (std::max(strips + planes, chunk) + kMostPixels * widest + 1024) / 16 * 16;
}

// Planes (image, channel, pixel) to pixels' rows; a pixel is numbered over all images.
void Part::load_rows(const float* planes, int channels, long first, int count, int plane,
                     float* rows, int row) const {
  while (count > 0) {
    const long image = first / plane, pixel = first % plane;
    const int run = static_cast<int>(std::min<long>(count, plane - pixel));
    const float* const from = planes + image * channels * plane + pixel;
    // Blocks that stay in the first cache.
    for (int c = 0; c < channels; c += kLanes) {
      const int end = std::min(channels, c + kLanes);
      for (int p = 0; p < run; ++p) {
        float* const to = rows + static_cast<std::ptrdiff_t>(p) * row;
        for (int k = c; k < end; ++k) to[k] = from[static_cast<std::ptrdiff_t>(k) * plane + p];
      }
    }
    first += run, count -= run, rows += static_cast<std::ptrdiff_t>(run) * row;
  }
}

void Part::store_rows(const float* rows, int row, int channels, long first, int count, int plane,
                      float* planes) const {
  while (count > 0) {
    const long image = first / plane, pixel = first % plane;
    const int run = static_cast<int>(std::min<long>(count, plane - pixel));
    float* const to = planes + image * channels * plane + pixel;
    for (int c = 0; c < channels; ++c) {
      for (int p = 0; p < run; ++p) {
        to[static_cast<std::ptrdiff_t>(c) * plane + p] = rows[static_cast<std::ptrdiff_t>(p) * row + c];
      }
    }
    first += run, count -= run, rows += static_cast<std::ptrdiff_t>(run) * row;
  }
}

// Filters (channels, depth) to panels (block of channels, depth, kPanelWidth).
void Part::pack_pointwise(const float* weight, int depth, int channels, float* out) const {
  const auto [first, last] = share(static_cast<long>(blocks_of(channels)) * depth);
  for (long i = first; i < last; ++i) {
    const int block = static_cast<int>(i / depth), k = static_cast<int>(i % depth);
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const int n = block * kPanelWidth + lane;
      out[i * kPanelWidth + lane] = n < channels ? weight[static_cast<std::ptrdiff_t>(n) * depth + k] : 0;
    }
  }
}

// The same filters, from their channels to their depth: (block of depth, channels, kPanelWidth).
void Part::pack_pointwise_back(const float* weight, int depth, int channels, float* out) const {
  const auto [first, last] = share(static_cast<long>(blocks_of(depth)) * channels);
  for (long i = first; i < last; ++i) {
    const int k = static_cast<int>(i / channels) * kPanelWidth, n = static_cast<int>(i % channels);
    const int left = std::min(kPanelWidth, depth - k);
    std::memcpy(out + i * kPanelWidth, weight + static_cast<std::ptrdiff_t>(n) * depth + k,
                left * sizeof(float));
    std::fill_n(out + i * kPanelWidth + left, kPanelWidth - left, 0.0f);
  }
}

// Filters (channels, depth, 3, 3) to (block of channels, 36, depth, kPanelWidth); or, turned round, from
// their channels to their depth.
void Part::pack_spatial(const float* weight, int depth, int channels, bool back, float* out) const {
  const int from = back ? channels : depth, to = back ? depth : channels;
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(from) * kPanelWidth;
  const auto [first, last] = share(static_cast<long>(blocks_of(to)) * from);
  float taps[9 * kPanelWidth] = {};
  for (long i = first; i < last; ++i) {
    const int block = static_cast<int>(i / from), k = static_cast<int>(i % from);
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const int n = block * kPanelWidth + lane;
      const std::ptrdiff_t filter = back ? static_cast<std::ptrdiff_t>(k) * depth + n
                                         : static_cast<std::ptrdiff_t>(n) * depth + k;
      for (int tap = 0; tap < 9; ++tap) {
        taps[tap * kPanelWidth + lane] = n < to ? weight[filter * 9 + (back ? 8 - tap : tap)] : 0;
      }
    }
    training_kernels().winograd_filter_transform(taps, out + block * kWinogradPlanes * plane + k * kPanelWidth, plane);
  }
}

// Adds up the threads' gradients (depth, row of channels) and writes them as (channels, depth).
void Part::reduce_pointwise(int depth, int channels, float* weight) const {
  const int row = round_up(channels, kPanelWidth);
  const auto [first, last] = share(blocks_of(depth));
  for (long block = first; block < last; ++block) {
    const int begin = static_cast<int>(block) * kPanelWidth, end = std::min(depth, begin + kPanelWidth);
    for (int k = begin; k < end; ++k) {
      float* const sum = pointwise_sums(0) + static_cast<std::ptrdiff_t>(k) * row;
      for (int t = 1; t < barrier_.size(); ++t) {
        const float* const more = pointwise_sums(t) + static_cast<std::ptrdiff_t>(k) * row;
        for (int n = 0; n < channels; ++n) sum[n] += more[n];
      }
    }
    for (int n = 0; n < channels; ++n) {
      for (int k = begin; k < end; ++k) {
        weight[static_cast<std::ptrdiff_t>(n) * depth + k] =
            pointwise_sums(0)[static_cast<std::ptrdiff_t>(k) * row + n];
      }
    }
  }
}

// The same for (36, depth, row of channels), to (channels, depth, 3, 3).
void Part::reduce_spatial(int depth, int channels, float* weight) const {
  const int row = round_up(channels, kPanelWidth);
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(depth) * row;
  float sums[kWinogradPlanes * kPanelWidth], taps[9 * kPanelWidth];
  const auto [first, last] = share(static_cast<long>(depth) * (row / kPanelWidth));
  for (long i = first; i < last; ++i) {
    const int k = static_cast<int>(i / (row / kPanelWidth)), n = static_cast<int>(i % (row / kPanelWidth)) * kPanelWidth;
    std::fill_n(sums, kWinogradPlanes * kPanelWidth, 0.0f);
    for (int t = 0; t < barrier_.size(); ++t) {
      const float* const from = spatial_sums(t) + static_cast<std::ptrdiff_t>(k) * row + n;
      for (int tap = 0; tap < kWinogradPlanes; ++tap) {
        for (int lane = 0; lane < kPanelWidth; ++lane) sums[tap * kPanelWidth + lane] += from[tap * plane + lane];
      }
    }
    training_kernels().winograd_filter_transform_adjoint(sums, kPanelWidth, taps);
    for (int lane = 0; lane < std::min(kPanelWidth, channels - n); ++lane) {
      float* const to = weight + (static_cast<std::ptrdiff_t>(n + lane) * depth + k) * 9;
      for (int tap = 0; tap < 9; ++tap) to[tap] = taps[tap * kPanelWidth + lane];
    }
  }
}

}  // namespace gluondense
