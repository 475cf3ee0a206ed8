// SPDX-License-Identifier: Apache-2.0
// The backward pass of a residual stage.
//
// The gradient of a convolution's output is that of its normalized output, scaled, and a correction
// that is an affine function of the output: see batch_norm.cc. The correction is known when all
// readers have added to the gradient, and is applied when the convolution's backward pass reads it.
#include <algorithm>

#include "training/residual/residual_worker.h"
#include "training/transpose.h"

namespace gluondense {
namespace {

// Sets the pixels [first, first + count) of the arguments.
template <class T>
void set_pixels(const NormalizedMaps<T>& maps, std::int64_t first, int count, const T** x, T** dx,
                BnReluBackward<T>* args) {
  for (int i = 0; i < count; ++i) {
    x[i] = maps.x + (first + i) * maps.stride;
    dx[i] = maps.dx + (first + i) * maps.dx_stride;
  }
  args->x = x, args->dx = dx, args->pixels = count;
}

}  // namespace

template <class T>
void ResidualStageWorker<T>::backward(Barrier& barrier, const float* dy, float* dx,
                                      const ResidualStageArrays& gradients) {
  const ResidualStageArrays& arrays = buffers_.arrays;
  barrier_ = &barrier;
  std::fill_n(channel_sums(rank_, 0).first, layout_.thread_sums(), 0.0);
  load_statistics();
  load_gradient(dy);
  barrier.wait();
  conv1x1_unit_backward(arrays.transition, gradients.transition, both_parts(), output());
  conv1x1_unit_backward(arrays.partial_transition, gradients.partial_transition,
                        read(block_input(config_.blocks)), partial());
  for (int block = config_.blocks - 1; block >= 0; --block) {
    block_backward(block, gradients.blocks[block]);
  }
  conv1x1_unit_backward(arrays.expand, gradients.expand, read(stage_input()), expanded());
  if (config_.has_down()) {
    grouped_unit_backward(config_.down(), arrays.down, gradients.down, input(), down());
  }
  store_input_gradient(dx);
}

// Sets the normalizations of all convolutions.
template <class T>
void ResidualStageWorker<T>::load_statistics() {
  const ResidualStageArrays& arrays = buffers_.arrays;
  statistics_.mean = buffers_.saved.mean;
  statistics_.inv_std = buffers_.saved.inv_std;
  const auto load = [&](const ConvBnArrays& unit, const NormalizedMaps<T>& out) {
    Base::set_input_affine(unit.bn, read(out));
  };
  if (config_.has_down()) load(arrays.down, down());
  load(arrays.expand, expanded());
  for (int block = 0; block < config_.blocks; ++block) {
    load(arrays.blocks[block].a, a(block));
    load(arrays.blocks[block].b, b(block));
    load(arrays.blocks[block].c, c(block));
  }
  load(arrays.partial_transition, partial());
  load(arrays.transition, output());
}

template <class T>
void ResidualStageWorker<T>::load_gradient(const float* dy) const {
  const NormalizedMaps<T> maps = output();
  const int plane = config_.out_height() * config_.out_width();
  const auto buffer = Base::template scratch<RowsScratch<float>>(maps.stride);
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.rows, maps.stride, 1, false);
  Base::set_channels(&args, maps, 0, maps.channels);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nchw_to_nhwc(dy, maps.channels, maps.channels, pixel, count, plane, buffer.rows, maps.stride);
    set_pixels(maps, pixel, count, x, dx, &args);
    kernels().bn_relu_backward(args);
  });
}

// Writes the gradients of gamma and beta; returns that of the convolution's output.
template <class T>
OutputGradient<T> ResidualStageWorker<T>::finish_gradient(const ConvBnArrays& arrays,
                                                          const ConvBnArrays& gradients,
                                                          const NormalizedMaps<T>& out) {
  Base::finish_bn_backward(arrays.bn, gradients.bn, read(out), config_.out_pixels());
  Base::set_correction(out.statistics, out.channels);
  return {out.dx, out.x, out.dx_stride, out.stride, out.channels, out.statistics};
}

// The gradients of a unit's parameters and of its input. All threads have completed out.dx.
template <class T>
void ResidualStageWorker<T>::grouped_unit_backward(const GroupedConv& conv,
                                                   const ConvBnArrays& arrays,
                                                   const ConvBnArrays& gradients,
                                                   const NormalizedMaps<T>& in,
                                                   const NormalizedMaps<T>& out) {
  const OutputGradient<T> gradient = finish_gradient(arrays, gradients, out);
  Base::pack_grouped(conv, arrays.conv, true, buffers_.grouped_panels);
  barrier_->wait();
  Base::grouped_backward(conv, in, gradient, buffers_.grouped_panels,
                         buffers_.d_filters + rank_ * layout_.filters);
  barrier_->wait();
  Base::reduce_d_grouped(conv, buffers_.d_filters, layout_.filters, gradients.conv);
}

template <class T>
void ResidualStageWorker<T>::conv1x1_unit_backward(const ConvBnArrays& arrays,
                                                   const ConvBnArrays& gradients,
                                                   const ConvInput<T>& in,
                                                   const NormalizedMaps<T>& out) {
  const OutputGradient<T> gradient = finish_gradient(arrays, gradients, out);
  Base::pack_conv1x1_t(arrays.conv, in, out.channels, buffers_.conv1x1_panels);
  barrier_->wait();
  Base::conv1x1_backward(in, config_.out_pixels(), gradient, buffers_.conv1x1_panels,
                         buffers_.d_filters + rank_ * layout_.filters);
  barrier_->wait();
  Base::reduce_d_conv1x1(buffers_.d_filters, layout_.filters, in.channels, out.channels,
                         gradients.conv);
}

template <class T>
void ResidualStageWorker<T>::block_backward(int block,
                                            const ResidualStageArrays::Block& gradients) {
  const ResidualStageArrays::Block& arrays = buffers_.arrays.blocks[block];
  if (config_.recompute_bottlenecks) block_units(block, true);
  add_block_backward(block);
  barrier_->wait();
  conv1x1_unit_backward(arrays.c, gradients.c, read(b(block)), c(block));
  grouped_unit_backward(config_.conv_b(), arrays.b, gradients.b, a(block), b(block));
  conv1x1_unit_backward(arrays.a, gradients.a, read(block_input(block)), a(block));
}

// The gradient of a block's output is that of both terms of the sum, where the ReLU passes it.
template <class T>
void ResidualStageWorker<T>::add_block_backward(int block) const {
  const NormalizedMaps<T> in = block_input(block), added = c(block), out = block_input(block + 1);
  const int channels = out.channels;
  const auto buffer = Base::template scratch<RowsScratch<float>>(out.stride);
  const T* x[kMaxTilePixels];
  T* dx[kMaxTilePixels];
  BnReluBackward<T> args = bn_relu_args<T>(buffer.rows, out.stride, 1, false);
  for_each_block(config_.out_pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    for (int i = 0; i < count; ++i) {
      kernels().relu_backward(out.dx + (pixel + i) * out.dx_stride,
                              out.x + (pixel + i) * out.stride, config_.slope,
                              buffer.rows + i * out.stride, channels);
    }
    for (const NormalizedMaps<T>& term : {in, added}) {
      Base::set_channels(&args, term, 0, channels);
      set_pixels(term, pixel, count, x, dx, &args);
      kernels().bn_relu_backward(args);
    }
  });
}

template <class T>
void ResidualStageWorker<T>::store_input_gradient(float* dx) const {
  const NormalizedMaps<T> maps = input();
  const int plane = config_.height * config_.width;
  // Threads had other shares of the pixels: all have passed the barrier behind their work.
  for_each_block(config_.pixels(), kMaxTilePixels, [&](std::int64_t pixel, int count) {
    nhwc_to_nchw(maps.dx + pixel * maps.dx_stride, maps.dx_stride, maps.channels, pixel, count,
                 plane, dx, maps.channels);
  });
}

template class ResidualStageWorker<float>;
template class ResidualStageWorker<Bf16>;

}  // namespace gluondense
