// SPDX-License-Identifier: Apache-2.0
#include "training/stem_worker.h"

#include <algorithm>

#include "training/transpose.h"

namespace gluondense {

template <class T>
StemLayout<T>::StemLayout(const StemConfig& config)
    : stride(round_up(config.out_channels, kChannelPad)),
      tap_row(product_depth<T>(kKernel * config.in_channels)),
      // The second pixel of the last pair may be behind the last one.
      image_row(
          round_up((2 * config.conv_width() + kKernel) * config.in_channels, kCacheLineFloats)),
      panel(std::ptrdiff_t{kKernel} * tap_row * kPanelWidth),
      d_filters(std::ptrdiff_t{kKernel} * kKernel * config.in_channels * stride) {
  ScratchAllocator memory(nullptr);
  StemScratch<T>(memory, config, *this);
  scratch = memory.used() + kOverreadBytes;
}

template <class T>
StemScratch<T>::StemScratch(ScratchAllocator& memory, const StemConfig& config,
                            const StemLayout<T>& layout) {
  constexpr int kDepth = kProductDepth<T>, kRows = 2 * layout.kStripRows + layout.kKernel - 2;
  strip = memory.array<T>(kRows, layout.image_row);
  columns = kDepth == 1 ? strip : memory.array<T>(kRows, kDepth * layout.image_row);
  d_conv = memory.array<T>(config.conv_width(), layout.stride);
  d_columns = kDepth == 1 ? d_conv : memory.array<T>(config.conv_width() + 1, layout.stride);
  y = memory.array<float>(config.out_width(), layout.stride);
  for (float*& row : dy) row = memory.array<float>(config.out_width(), layout.stride);
}

template <class T>
StemWorker<T>::StemWorker(const StemBuffers<T>& buffers, int rank, int threads)
    : buffers_(buffers),
      config_(buffers.config),
      layout_(buffers.layout),
      rank_(rank),
      threads_(threads),
      scratch_([&] {
        ScratchAllocator memory(buffers.scratch + rank * buffers.layout.scratch);
        return StemScratch<T>(memory, buffers.config, buffers.layout);
      }()),
      sums_(buffers.thread_sums + std::ptrdiff_t{2} * rank * buffers.layout.stride),
      squares_(sums_ + buffers.layout.stride) {}

// Calls f(image, first row, last row) for this thread's strips of the convolution's output.
template <class T>
template <class Function>
void StemWorker<T>::for_each_strip(Function f) const {
  const int height = config_.conv_height(), strips = div_up(height, layout_.kStripRows);
  const auto [first, last] = partition(std::int64_t{config_.batch} * strips, rank_, threads_);
  for (std::int64_t i = first; i < last; ++i) {
    const int row = static_cast<int>(i % strips) * layout_.kStripRows;
    f(static_cast<int>(i / strips), row, std::min(row + layout_.kStripRows, height));
  }
}

// Copies the rows of an image that `rows` rows of the output read, from row `first` of it on, with
// their padding, as (rows, width, channels).
template <class T>
void StemWorker<T>::fill_strip(const float* x, int image, int first, int rows) const {
  const int channels = config_.in_channels, width = config_.width, height = config_.height;
  const std::ptrdiff_t plane = std::ptrdiff_t{height} * width;
  const int in_rows = 2 * rows + StemConfig::kKernel - 2;
  std::fill_n(scratch_.strip, std::ptrdiff_t{in_rows} * layout_.image_row, T(0.0f));
  for (int i = 0; i < in_rows; ++i) {
    const int row = 2 * first - StemConfig::kPad + i;
    if (row < 0 || row >= height) continue;
    T* const dst =
        scratch_.strip + std::ptrdiff_t{i} * layout_.image_row + StemConfig::kPad * channels;
    for (int c = 0; c < channels; ++c) {
      const float* const src =
          x + (std::int64_t{image} * channels + c) * plane + std::ptrdiff_t{row} * width;
      for (int p = 0; p < width; ++p) dst[p * channels + c] = T(src[p]);
    }
  }
}

// Makes pairs of what neighbouring pixels of the output read.
template <class T>
void StemWorker<T>::make_columns(int rows) const {
  constexpr int kDepth = kProductDepth<T>;
  if (kDepth == 1) return;
  const int next = 2 * config_.in_channels, count = layout_.image_row - next;
  for (int i = 0; i < 2 * rows + StemConfig::kKernel - 2; ++i) {
    const T* const src = scratch_.strip + std::ptrdiff_t{i} * layout_.image_row;
    T* const dst = scratch_.columns + std::ptrdiff_t{kDepth} * i * layout_.image_row;
    for (int k = 0; k < count; ++k) dst[kDepth * k] = src[k], dst[kDepth * k + 1] = src[k + next];
  }
}

template <class T>
void StemWorker<T>::convolve(const float* x, bool with_sums) const {
  const MapKernels<T>& kernels = map_kernels<T>();
  const int width = config_.conv_width(), most = kernels.max_rows;
  const float bias[kPanelWidth] = {};
  std::ptrdiff_t offsets[StemConfig::kKernel];
  for (int i = 0; i < StemConfig::kKernel; ++i) offsets[i] = std::ptrdiff_t{i} * layout_.image_row;
  T* dst[kMaxTilePixels];
  ConvTile<T> tile = {};
  tile.src_stride = 2 * config_.in_channels;
  tile.segment_offsets = offsets;
  tile.segments = StemConfig::kKernel, tile.segment_length = layout_.tap_row;
  tile.bias = bias, tile.dst = dst, tile.negative_slope = 1;
  for_each_strip([&](int image, int first, int last) {
    fill_strip(x, image, first, last - first);
    for (int y = first; y < last; ++y) {
      T* const row = conv_row(image, y);
      for (int c = 0; c < layout_.stride; c += kPanelWidth) {
        tile.weights = buffers_.panels + c / kPanelWidth * layout_.panel;
        tile.channels = std::min(kPanelWidth, layout_.stride - c);
        for (int p = 0; p < width; p += most) {
          tile.pixels = std::min(most, width - p);
          tile.src = scratch_.strip + std::ptrdiff_t{2} * (y - first) * layout_.image_row +
                     std::ptrdiff_t{p} * tile.src_stride;
          for (int m = 0; m < tile.pixels; ++m) {
            dst[m] = row + std::ptrdiff_t{p + m} * layout_.stride + c;
          }
          kernels.conv(tile);
        }
      }
      if (with_sums) {
        kernels.channel_sums(row, layout_.stride, width, layout_.stride, sums_, squares_);
      }
    }
  });
}

template <class T>
void StemWorker<T>::pool(float* y) const {
  const int height = config_.out_height(), width = config_.out_width();
  BnReluMaxPool<T> args = {};
  args.stride = args.channels = layout_.stride, args.width = config_.conv_width();
  args.scale = buffers_.scale, args.shift = buffers_.shift;
  args.slope = config_.slope;
  args.y = scratch_.y;
  const auto [first, last] = partition(std::int64_t{config_.batch} * height, rank_, threads_);
  for (std::int64_t row = first; row < last; ++row) {
    const int image = static_cast<int>(row / height);
    for (int i = 0; i < 3; ++i) {
      const int conv_y = 2 * static_cast<int>(row % height) - 1 + i;
      const bool inside = conv_y >= 0 && conv_y < config_.conv_height();
      args.rows[i] = inside ? conv_row(image, conv_y) : nullptr;
    }
    args.argmax = buffers_.argmax + row * width * layout_.stride;
    map_kernels<T>().bn_relu_max_pool(args);
    nhwc_to_nchw(scratch_.y, layout_.stride, config_.out_channels, row * width, width,
                 height * width, y, config_.out_channels);
  }
}

// Calls f(arguments, row) for rows [first, last) of the gradient of the convolution's output.
template <class T>
template <class Function>
void StemWorker<T>::for_each_gradient_row(const float* dy, int image, int first, int last,
                                          Function f) const {
  const int height = config_.out_height(), width = config_.out_width();
  BnReluMaxPoolBackward<T> args = {};
  args.stride = args.channels = layout_.stride, args.width = config_.conv_width();
  args.mean = buffers_.mean, args.scale = buffers_.scale, args.shift = buffers_.shift;
  args.slope = config_.slope;
  args.correction_scale = buffers_.correction.scale.data();
  args.correction_shift = buffers_.correction.shift.data();
  if (config_.out_channels < layout_.stride) {  // the channels behind them have no gradient
    for (float* row : scratch_.dy) std::fill_n(row, std::ptrdiff_t{width} * layout_.stride, 0.0f);
  }
  // Rows of windows: 2 in a row have different places in the scratch memory.
  std::int64_t transposed[2] = {-1, -1};
  for (int y = first; y < last; ++y) {
    for (int i = 0; i < 2; ++i) {
      // An even row is the middle one of its windows, an odd row the last of some and the first of
      // the next ones.
      const bool inside = i == 0 || (y % 2 && y / 2 + 1 < height);
      args.dy[i] = nullptr;
      if (!inside) continue;
      args.window_row[i] = i ? 0 : 1 + y % 2;
      const std::int64_t row = std::int64_t{image} * height + y / 2 + i, slot = row % 2;
      if (transposed[slot] != row) {
        nchw_to_nhwc(dy, config_.out_channels, config_.out_channels, row * width, width,
                     height * width, scratch_.dy[slot], layout_.stride);
        transposed[slot] = row;
      }
      args.dy[i] = scratch_.dy[slot];
      args.argmax[i] = buffers_.argmax + row * width * layout_.stride;
    }
    args.x = conv_row(image, y);
    f(args, y);
  }
}

template <class T>
void StemWorker<T>::sum_gradient(const float* dy) const {
  for_each_strip([&](int image, int first, int last) {
    for_each_gradient_row(dy, image, first, last, [&](const BnReluMaxPoolBackward<T>& args, int) {
      map_kernels<T>().bn_relu_max_pool_sums(args, sums_, squares_);
    });
  });
}

template <class T>
void StemWorker<T>::filter_gradient(const float* x, const float* dy) const {
  constexpr int kDepth = kProductDepth<T>, kKernel = StemConfig::kKernel;
  const MapKernels<T>& kernels = map_kernels<T>();
  const int width = config_.conv_width(), taps = kKernel * config_.in_channels;
  float* const sums = buffers_.d_filters + rank_ * layout_.d_filters;
  for_each_strip([&](int image, int first, int last) {
    fill_strip(x, image, first, last - first);
    make_columns(last - first);
    for_each_gradient_row(dy, image, first, last, [&](const BnReluMaxPoolBackward<T>& args, int y) {
      kernels.bn_relu_max_pool_backward(args, scratch_.d_conv);
      if (kDepth > 1) {
        kernels.rows_to_columns(scratch_.d_conv, layout_.stride, scratch_.d_columns, width,
                                layout_.stride);
      }
      for (int i = 0; i < kKernel; ++i) {
        const std::ptrdiff_t row = std::ptrdiff_t{2} * (y - first) + i;
        kernels.gemm_tn(scratch_.columns + kDepth * row * layout_.image_row,
                        2 * kDepth * config_.in_channels, scratch_.d_columns, layout_.stride, width,
                        sums + std::ptrdiff_t{i} * taps * layout_.stride, layout_.stride, taps,
                        layout_.stride);
      }
    });
  });
}

template <class T>
void pack_stem_filters(const StemConfig& config, const StemLayout<T>& layout, const float* filters,
                       T* panels) {
  constexpr int kDepth = kProductDepth<T>, kKernel = StemConfig::kKernel;
  const int channels = config.in_channels;
  for (int panel = 0; panel < panel_count(layout.stride); ++panel) {
    T* const dst = panels + panel * layout.panel;
    std::fill_n(dst, layout.panel, T(0.0f));
    const int lanes = std::min(kPanelWidth, config.out_channels - panel * kPanelWidth);
    for (int lane = 0; lane < lanes; ++lane) {
      for (int c = 0; c < channels; ++c) {
        for (int tap = 0; tap < kKernel * kKernel; ++tap, ++filters) {
          const int k = tap / kKernel * layout.tap_row + tap % kKernel * channels + c;
          dst[(k / kDepth * kPanelWidth + lane) * kDepth + k % kDepth] = T(*filters);
        }
      }
    }
  }
}

template struct StemLayout<float>;
template struct StemLayout<Bf16>;
template class StemWorker<float>;
template class StemWorker<Bf16>;
template void pack_stem_filters(const StemConfig&, const StemLayout<float>&, const float*, float*);
template void pack_stem_filters(const StemConfig&, const StemLayout<Bf16>&, const float*, Bf16*);

}  // namespace gluondense
