// SPDX-License-Identifier: Apache-2.0
// The forward pass of a residual stage.
#include <algorithm>

#include "training/residual/residual_worker.h"
#include "training/transpose.h"

namespace gluondense {

template <class T>
ResidualStageWorker<T>::ResidualStageWorker(const ResidualStageBuffers<T>& buffers, int rank)
    : Base({buffers.layout, buffers.thread_sums, buffers.scratch, buffers.config.eps,
            buffers.config.momentum},
           rank),
      buffers_(buffers),
      config_(buffers.config),
      layout_(buffers.layout) {
  std::fill_n(affine_.scale.begin() + layout_.identity, layout_.down_statistics, 1.0f);
}

template <class T>
void ResidualStageWorker<T>::forward(Barrier& barrier, const float* x, float* y) {
  const ResidualStageArrays& arrays = buffers_.arrays;
  barrier_ = &barrier;
  std::fill_n(channel_sums(rank_, 0).first, layout_.thread_sums(), 0.0);
  load_input(x);
  if (config_.has_down()) grouped_unit(config_.down(), arrays.down, input(), down(), false);
  conv1x1_unit(arrays.expand, read(stage_input()), expanded(), false);
  for (int block = 0; block < config_.blocks; ++block) {
    block_units(block, false);
    add_block(block);
  }
  conv1x1_unit(arrays.partial_transition, read(block_input(config_.blocks)), partial(), false);
  conv1x1_unit(arrays.transition, both_parts(), output(), false);
  store_output(y);
  if (rank_ != 0) return;
  buffers_.saved.mean = statistics_.mean;
  buffers_.saved.inv_std = statistics_.inv_std;
}

template <class T>
void ResidualStageWorker<T>::load_input(const float* x) {
  const int channels = config_.in_channels, plane = config_.height * config_.width;
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nchw_to_nhwc(x, channels, channels, pixel, count, plane, input().x + pixel * layout_.in_stride,
                 layout_.in_stride);
  });
}

// Convolves and sets the statistics; or computes the same bits again. All threads have written the
// input, or wait for it here.
template <class T>
void ResidualStageWorker<T>::grouped_unit(const GroupedConv& conv, const ConvBnArrays& arrays,
                                          const NormalizedMaps<T>& in, const NormalizedMaps<T>& out,
                                          bool recompute) {
  Base::pack_grouped(conv, arrays.conv, false, buffers_.grouped_panels);
  barrier_->wait();
  const ChannelSums sums = channel_sums(rank_, out.statistics);
  Base::grouped_forward(conv, in, buffers_.grouped_panels, out.x, out.stride,
                        recompute ? nullptr : &sums);
  barrier_->wait();
  if (!recompute) normalize(arrays, out);
}

template <class T>
void ResidualStageWorker<T>::conv1x1_unit(const ConvBnArrays& arrays, const ConvInput<T>& in,
                                          const NormalizedMaps<T>& out, bool recompute) {
  Base::pack_conv1x1(arrays.conv, in.channels, out.channels, buffers_.conv1x1_panels);
  barrier_->wait();
  const ChannelSums sums = channel_sums(rank_, out.statistics);
  Base::conv1x1_to_maps(in, config_.out_pixels(), buffers_.conv1x1_panels, out.channels, out.x,
                        out.stride, recompute ? nullptr : &sums);
  barrier_->wait();
  if (!recompute) normalize(arrays, out);
}

template <class T>
void ResidualStageWorker<T>::normalize(const ConvBnArrays& arrays, const NormalizedMaps<T>& out) {
  Base::finish_statistics(out.statistics, out.channels, config_.out_pixels());
  Base::set_input_affine(arrays.bn, read(out));
  Base::update_running_stats(arrays.bn, read(out));
}

template <class T>
void ResidualStageWorker<T>::block_units(int block, bool recompute) {
  const ResidualStageArrays::Block& arrays = buffers_.arrays.blocks[block];
  conv1x1_unit(arrays.a, read(block_input(block)), a(block), recompute);
  grouped_unit(config_.conv_b(), arrays.b, a(block), b(block), recompute);
  conv1x1_unit(arrays.c, read(b(block)), c(block), recompute);
}

// Adds the block's input, and applies the ReLU.
template <class T>
void ResidualStageWorker<T>::add_block(int block) const {
  const NormalizedMaps<T> in = block_input(block), added = c(block), out = block_input(block + 1);
  const float *const scale = affine_.scale.data(), *const shift = affine_.shift.data();
  const auto [first, last] = share(config_.out_pixels());
  for (std::int64_t pixel = first; pixel < last; ++pixel) {
    kernels().add_relu(in.x + pixel * in.stride, scale + in.statistics, shift + in.statistics,
                       added.x + pixel * added.stride, scale + added.statistics,
                       shift + added.statistics, config_.slope, out.x + pixel * out.stride,
                       out.channels);
  }
}

template <class T>
void ResidualStageWorker<T>::store_output(float* y) const {
  const NormalizedMaps<T> maps = output();
  const int plane = config_.out_height() * config_.out_width();
  const auto buffer = Base::template scratch<RowsScratch<float>>(maps.stride);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    kernels().affine_relu(maps.x + pixel * maps.stride, maps.stride,
                          affine_.scale.data() + maps.statistics,
                          affine_.shift.data() + maps.statistics, maps.slope, buffer.rows,
                          maps.stride, count, maps.channels);
    nhwc_to_nchw(buffer.rows, maps.stride, maps.channels, pixel, count, plane, y, maps.channels);
  });
}

template class ResidualStageWorker<float>;
template class ResidualStageWorker<Bf16>;

}  // namespace gluondense
