// SPDX-License-Identifier: Apache-2.0
// The forward pass of a dual-path stage: the sequence of steps.
#include <algorithm>

#include "training/dual_path/dual_path_worker.h"
#include "training/norm_conv/norm_conv1x1.h"
#include "training/stage_worker.h"  // transpose.cc

namespace gluondense {

template <class T>
DualPathWorker<T>::DualPathWorker(const DualPathBuffers<T>& buffers, int rank)
    : Base({buffers.layout, buffers.thread_sums, buffers.scratch, buffers.config.eps,
            buffers.config.momentum},
           rank),
      buffers_(buffers),
      config_(buffers.config),
      layout_(buffers.layout) {}

template <class T>
std::size_t DualPathWorker<T>::bottleneck_offset(int block) const {
  if (!block || config_.recompute_bottlenecks) return 0;
  return layout_.first_a + layout_.b + (block - 1) * (layout_.a + layout_.b);
}

// The input of the stage, as that of the projection or of the first block.
template <class T>
ConvInput<T> DualPathWorker<T>::stage_input(int stride, bool accumulate) const {
  const int channels = config_.in_channels, row = layout_.in_stride;
  return {{{buffers_.input, buffers_.d_input, row, row, channels, layout_.input_statistics,
            accumulate}},
          1,
          channels,
          stride,
          config_.height,
          config_.width};
}

template <class T>
ConvInput<T> DualPathWorker<T>::block_input(int block) const {
  if (block == 0) return stage_input(1, false);
  const int dense = config_.dense_before(block);
  return {{{residual(block - 1), buffers_.d_out, layout_.residual_stride, layout_.out_stride,
            config_.residual, residual_statistics(block - 1), true},
           {buffers_.dense, buffers_.d_dense, layout_.dense_stride, layout_.dense_stride, dense,
            layout_.dense_statistics, true}},
          2,
          config_.residual + dense,
          1};
}

template <class T>
void DualPathWorker<T>::forward(Barrier& barrier, const float* x, float* y) {
  barrier_ = &barrier;
  std::fill_n(channel_sums(rank_, 0).first, layout_.thread_sums(), 0.0);
  load_input(x);
  pack_conv1x1(buffers_.arrays.projection.conv, config_.in_channels, config_.projected(),
               in_panels());
  barrier.wait();
  finish_statistics(layout_.input_statistics, config_.in_channels, config_.pixels());
  project();
  barrier.wait();
  pack_conv1x1(buffers_.arrays.blocks[0].a.conv, config_.in_channels, config_.bottleneck,
               in_panels());
  barrier.wait();
  for (int block = 0; block < config_.blocks; ++block) block_forward(block);
  store_output(y);
  if (rank_ != 0) return;
  buffers_.saved.mean = statistics_.mean;
  buffers_.saved.inv_std = statistics_.inv_std;
}

template <class T>
void DualPathWorker<T>::load_input(const float* x) {
  const int channels = config_.in_channels, plane = config_.height * config_.width;
  const ChannelSums sums = channel_sums(rank_, layout_.input_statistics);
  for_each_block(std::int64_t{config_.batch} * config_.height, 1, [&](std::int64_t row, int) {
    const std::int64_t pixel = row * config_.width;
    T* const maps = buffers_.input + pixel * layout_.in_stride;
    nchw_to_nhwc(x, channels, channels, pixel, config_.width, plane, maps, layout_.in_stride);
    kernels().channel_sums(maps, layout_.in_stride, config_.width, channels, sums.first,
                           sums.second);
  });
}

// Computes the beginning of both paths. The first block adds to its residual part in place.
template <class T>
void DualPathWorker<T>::project() {
  const ConvInput<T> input = stage_input(config_.stride, false);
  const BatchNormArrays& bn = buffers_.arrays.projection.bn;
  set_input_affine(bn, input);
  update_running_stats(bn, input);
  const int width = config_.residual, dense_width = 2 * config_.increment;
  const auto buffer = Base::template scratch<PanelScratch<T>>(input.channels, config_.projected());
  const ChannelSums sums = channel_sums(rank_, layout_.dense_statistics);
  Base::for_each_product(
      input, config_.out_pixels(), in_panels(), config_.projected(), buffer,
      [&](std::int64_t, int row, int rows, int c, const T* panel, const T* x) {
        kernels().gemm(x, buffer.x_stride, input.channels, panel,
                       buffer.y + row * buffer.y_stride + c, buffer.y_stride, rows,
                       std::min(kPanelWidth, config_.projected() - c));
      },
      [&](std::int64_t first, int count) {
        T* const dense = buffers_.dense + first * layout_.dense_stride;
        for (int i = 0; i < count; ++i) {
          const float* const y = buffer.y + i * buffer.y_stride;
          T* const path = residual(0) + (first + i) * layout_.residual_stride;
          for (int c = 0; c < width; ++c) path[c] = T(y[c]);
          T* const row = dense + i * layout_.dense_stride;
          for (int c = 0; c < dense_width; ++c) row[c] = T(y[width + c]);
        }
        kernels().channel_sums(dense, layout_.dense_stride, count, dense_width, sums.first,
                               sums.second);
      });
}

template <class T>
void DualPathWorker<T>::block_forward(int block) {
  const DualPathArrays::Block& arrays = buffers_.arrays.blocks[block];
  const std::int64_t pixels = config_.out_pixels();
  const ConvInput<T> input = block_input(block);
  if (block > 0) {  // the channels that the block before, or the projection, has written
    const int first = block == 1 ? 0 : config_.dense_before(block - 1);
    finish_statistics(residual_statistics(block - 1), config_.residual, pixels);
    finish_statistics(layout_.dense_statistics + first, config_.dense_before(block) - first,
                      pixels);
  }
  set_input_affine(arrays.a.bn, input);
  update_running_stats(arrays.a.bn, input);
  conv_a_forward(block, true);
  Base::pack_grouped(config_.conv_b(block), arrays.b.conv, false, buffers_.grouped_panels);
  pack_conv1x1(arrays.c.conv, config_.bottleneck, config_.block_channels(), out_panels());
  barrier_->wait();
  finish_statistics(a_statistics(block), config_.bottleneck, config_.a_pixels(block));
  set_input_affine(arrays.b.bn, a_input(block));
  update_running_stats(arrays.b.bn, a_input(block));
  conv_b_forward(block, true);
  barrier_->wait();
  finish_statistics(b_statistics(block), config_.bottleneck, pixels);
  set_input_affine(arrays.c.bn, b_input(block));
  update_running_stats(arrays.c.bn, b_input(block));
  conv_c_forward(block);
  if (block + 1 < config_.blocks) {
    pack_conv1x1(buffers_.arrays.blocks[block + 1].a.conv, config_.block_in_channels(block + 1),
                 config_.bottleneck, in_panels());
  }
  barrier_->wait();
}

template <class T>
void DualPathWorker<T>::conv_a_forward(int block, bool with_sums) const {
  const ChannelSums sums = channel_sums(rank_, a_statistics(block));
  Base::conv1x1_to_maps(block_input(block), config_.a_pixels(block), in_panels(),
                        config_.bottleneck, a(block), layout_.bottleneck_stride,
                        with_sums ? &sums : nullptr);
}

template <class T>
void DualPathWorker<T>::conv_b_forward(int block, bool with_sums) const {
  const ChannelSums sums = channel_sums(rank_, b_statistics(block));
  Base::grouped_forward(config_.conv_b(block), a_input(block).parts[0], buffers_.grouped_panels,
                        b(block), layout_.bottleneck_stride, with_sums ? &sums : nullptr);
}

// Adds to the residual path, and appends to the dense path.
template <class T>
void DualPathWorker<T>::conv_c_forward(int block) const {
  const ConvInput<T> input = b_input(block);
  const int width = config_.residual, increment = config_.increment;
  const int channels = config_.block_channels(), dense_first = config_.dense_before(block);
  const auto buffer = Base::template scratch<PanelScratch<T>>(input.channels, channels);
  const ChannelSums residual_sums = channel_sums(rank_, residual_statistics(block));
  const ChannelSums dense_sums = channel_sums(rank_, layout_.dense_statistics + dense_first);
  Base::for_each_product(
      input, config_.out_pixels(), out_panels(), channels, buffer,
      [&](std::int64_t, int row, int rows, int c, const T* panel, const T* x) {
        kernels().gemm(x, buffer.x_stride, input.channels, panel,
                       buffer.y + row * buffer.y_stride + c, buffer.y_stride, rows,
                       std::min(kPanelWidth, channels - c));
      },
      [&](std::int64_t first, int count) {
        const std::int64_t offset = first * layout_.residual_stride;
        const T* const before = residual(std::max(0, block - 1)) + offset;
        T* const behind = residual(block) + offset;
        T* const dense = buffers_.dense + first * layout_.dense_stride + dense_first;
        for (int i = 0; i < count; ++i) {
          const float* const y = buffer.y + i * buffer.y_stride;
          const std::ptrdiff_t row = std::ptrdiff_t{i} * layout_.residual_stride;
          for (int c = 0; c < width; ++c) behind[row + c] = T(before[row + c] + y[c]);
          T* const appended = dense + std::ptrdiff_t{i} * layout_.dense_stride;
          for (int c = 0; c < increment; ++c) appended[c] = T(y[width + c]);
        }
        kernels().channel_sums(behind, layout_.residual_stride, count, width, residual_sums.first,
                               residual_sums.second);
        kernels().channel_sums(dense, layout_.dense_stride, count, increment, dense_sums.first,
                               dense_sums.second);
      });
}

template <class T>
void DualPathWorker<T>::store_output(float* y) const {
  const int plane = config_.out_height() * config_.out_width(), channels = config_.out_channels();
  const T* const path = residual(config_.blocks - 1);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nhwc_to_nchw(path + pixel * layout_.residual_stride, layout_.residual_stride, config_.residual,
                 pixel, count, plane, y, channels);
    nhwc_to_nchw(buffers_.dense + pixel * layout_.dense_stride, layout_.dense_stride,
                 config_.dense_channels(), pixel, count, plane,
                 y + std::ptrdiff_t{config_.residual} * plane, channels);
  });
}

template class DualPathWorker<float>;
template class DualPathWorker<Bf16>;

}  // namespace gluondense
