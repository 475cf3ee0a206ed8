// SPDX-License-Identifier: Apache-2.0
// The backward pass of a dual-path stage: the sequence of steps.
//
// The first columns of d_out have the gradient of the residual path, to which the blocks add, from
// the last to the first. Its correction by a block's normalization is an affine function of the
// path in front of that block, and is applied before the block before it reads the gradient.
#include <algorithm>

#include "training/dual_path/dual_path_worker.h"
#include "training/stage_worker.h"  // transpose.cc

namespace gluondense {

template <class T>
void DualPathWorker<T>::backward(Barrier& barrier, const float* dy, float* dx,
                                 const DualPathArrays& gradients) {
  barrier_ = &barrier;
  statistics_.mean = buffers_.saved.mean;
  statistics_.inv_std = buffers_.saved.inv_std;
  load_gradient(dy);
  for (int block = config_.blocks - 1; block >= 0; --block) {
    block_backward(block, gradients.blocks[block]);
  }
  projection_backward(gradients);
  input_backward(dx);
}

template <class T>
void DualPathWorker<T>::load_gradient(const float* dy) const {
  const int plane = config_.out_height() * config_.out_width(), channels = config_.out_channels();
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nchw_to_nhwc(dy, channels, config_.residual, pixel, count, plane,
                 buffers_.d_out + pixel * layout_.out_stride, layout_.out_stride);
    nchw_to_nhwc(dy + std::ptrdiff_t{config_.residual} * plane, channels, config_.dense_channels(),
                 pixel, count, plane, buffers_.d_dense + pixel * layout_.dense_stride,
                 layout_.dense_stride);
  });
}

template <class T>
void DualPathWorker<T>::block_backward(int block, const DualPathArrays::Block& gradients) {
  const DualPathArrays::Block& arrays = buffers_.arrays.blocks[block];
  const ConvInput<T> input = block_input(block), a_maps = a_input(block), b_maps = b_input(block);
  const int bottleneck = config_.bottleneck, channels = config_.block_channels();
  finish_d_out(block);
  set_input_affine(arrays.a.bn, input);
  set_input_affine(arrays.b.bn, a_maps);
  if (config_.recompute_bottlenecks) recompute_bottlenecks(block);
  set_input_affine(arrays.c.bn, b_maps);
  pack_conv1x1_t(arrays.a.conv, input, bottleneck, in_panels());
  Base::pack_grouped(config_.conv_b(block), arrays.b.conv, true, buffers_.grouped_panels);
  pack_conv1x1_t(arrays.c.conv, b_maps, channels, out_panels());
  barrier_->wait();
  const OutputGradient<T> d_c = {buffers_.d_out, nullptr, layout_.out_stride, 0, channels, 0};
  reset_sums(b_maps);
  Base::conv1x1_backward(b_maps, config_.out_pixels(), d_c, out_panels(), d_out(rank_));
  barrier_->wait();
  finish_bn_backward(arrays.c.bn, gradients.c.bn, b_maps, config_.out_pixels());
  set_correction(b_statistics(block), bottleneck);
  reduce_d_conv1x1(d_out(0), bottleneck, channels, gradients.c.conv);
  const OutputGradient<T> d_b = {
      buffers_.d_b, b(block),           layout_.bottleneck_stride, layout_.bottleneck_stride,
      bottleneck,   b_statistics(block)};
  reset_sums(a_maps);
  Base::grouped_backward(config_.conv_b(block), a_maps.parts[0], d_b, buffers_.grouped_panels,
                         d_grouped(rank_));
  barrier_->wait();
  finish_bn_backward(arrays.b.bn, gradients.b.bn, a_maps, config_.a_pixels(block));
  set_correction(a_statistics(block), bottleneck);
  Base::reduce_d_grouped(config_.conv_b(block), d_grouped(0), layout_.filters, gradients.b.conv);
  const OutputGradient<T> d_a = {
      buffers_.d_a, a(block),           layout_.bottleneck_stride, layout_.bottleneck_stride,
      bottleneck,   a_statistics(block)};
  reset_sums(input);
  Base::conv1x1_backward(input, config_.a_pixels(block), d_a, in_panels(), d_in(rank_));
  barrier_->wait();
  finish_bn_backward(arrays.a.bn, gradients.a.bn, input, config_.a_pixels(block));
  reduce_d_conv1x1(d_in(0), input.channels, bottleneck, gradients.a.conv);
}

// Computes the bottlenecks of a block again, with the same bits.
template <class T>
void DualPathWorker<T>::recompute_bottlenecks(int block) {
  const DualPathArrays::Block& arrays = buffers_.arrays.blocks[block];
  barrier_->wait();  // the block behind this one has read its bottlenecks and filters
  pack_conv1x1(arrays.a.conv, config_.block_in_channels(block), config_.bottleneck, in_panels());
  Base::pack_grouped(config_.conv_b(block), arrays.b.conv, false, buffers_.grouped_panels);
  barrier_->wait();
  conv_a_forward(block, false);
  barrier_->wait();
  conv_b_forward(block, false);
  barrier_->wait();
}

template <class T>
void DualPathWorker<T>::projection_backward(const DualPathArrays& gradients) {
  const ConvBnArrays& arrays = buffers_.arrays.projection;
  const ConvInput<T> input = stage_input(config_.stride, true);
  const int channels = config_.projected();
  finish_d_dense(0, 2 * config_.increment);
  set_input_affine(arrays.bn, input);
  pack_conv1x1_t(arrays.conv, input, channels, in_panels());
  barrier_->wait();
  const OutputGradient<T> gradient = {buffers_.d_out, nullptr, layout_.out_stride, 0, channels, 0};
  reset_sums(input);
  Base::conv1x1_backward(input, config_.out_pixels(), gradient, in_panels(), d_in(rank_));
  barrier_->wait();
  finish_bn_backward(arrays.bn, gradients.projection.bn, input, config_.pixels());
  reduce_d_conv1x1(d_in(0), input.channels, channels, gradients.projection.conv);
}

// Completes the gradient of a block's output: of the residual path in place, and a copy of that of
// the channels that the block has appended, once all later blocks have added to both.
template <class T>
void DualPathWorker<T>::finish_d_out(int block) {
  if (block + 1 < config_.blocks) {
    const int place = residual_statistics(block);
    set_correction(place, config_.residual);
    const auto [first, last] = share(config_.out_pixels());
    for (std::int64_t pixel = first; pixel < last; ++pixel) {
      T* const d = buffers_.d_out + pixel * layout_.out_stride;
      kernels().add_affine(d, residual(block) + pixel * layout_.residual_stride,
                           correction_.scale.data() + place, correction_.shift.data() + place, d,
                           config_.residual);
    }
  }
  finish_d_dense(config_.dense_before(block), config_.increment);
}

// Copies the corrected gradient of channels of the dense path behind that of the residual path.
template <class T>
void DualPathWorker<T>::finish_d_dense(int channel, int channels) {
  const int place = layout_.dense_statistics + channel;
  set_correction(place, channels);
  constexpr int kAhead = 32;  // pixels: the channels are few cache lines of each
  const auto [first, last] = share(config_.out_pixels());
  for (std::int64_t pixel = first; pixel < last; ++pixel) {
    const std::int64_t offset = pixel * layout_.dense_stride + channel;
    const std::int64_t later = offset + kAhead * std::int64_t{layout_.dense_stride};
    __builtin_prefetch(buffers_.d_dense + later), __builtin_prefetch(buffers_.dense + later);
    kernels().add_affine(buffers_.d_dense + offset, buffers_.dense + offset,
                         correction_.scale.data() + place, correction_.shift.data() + place,
                         buffers_.d_out + pixel * layout_.out_stride + config_.residual, channels);
  }
}

// Writes the gradient of the stage's input.
template <class T>
void DualPathWorker<T>::input_backward(float* dx) {
  const int channels = config_.in_channels, stride = layout_.in_stride;
  const int place = layout_.input_statistics;
  set_correction(place, channels);
  const auto buffer = Base::template scratch<RowsScratch<T>>(stride);
  // The projection with strides has written to pixels of other threads.
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    for (int i = 0; i < count; ++i) {
      const std::int64_t offset = (pixel + i) * stride;
      kernels().add_affine(buffers_.d_input + offset, buffers_.input + offset,
                           correction_.scale.data() + place, correction_.shift.data() + place,
                           buffer.rows + i * stride, channels);
    }
    nhwc_to_nchw(buffer.rows, stride, channels, pixel, count, config_.height * config_.width, dx,
                 channels);
  });
}

template class DualPathWorker<float>;
template class DualPathWorker<Bf16>;

}  // namespace gluondense
