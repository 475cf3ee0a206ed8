// SPDX-License-Identifier: Apache-2.0
#include "training/dual_path/dual_path_stage.h"

#include <stdexcept>

#include "training/dual_path/dual_path_worker.h"
#include "training/workspace.h"

namespace gluondense {
namespace {

// Returns the buffers that both passes use. In backward, those of `saved` keep their contents.
template <class T>
DualPathBuffers<T> forward_buffers(const DualPathConfig& config, const DualPathLayout<T>& layout,
                                   const DualPathArrays& arrays, DualPathSaved& saved,
                                   const WorkspaceLease& work) {
  const std::size_t pixels = config.out_pixels();
  DualPathBuffers<T> buffers = {config, layout, arrays, saved};
  buffers.input = saved.input.reserve<T>(config.pixels() * layout.in_stride);
  buffers.dense = saved.dense.reserve<T>(pixels * layout.dense_stride);
  buffers.residual = saved.residual.reserve<T>(config.blocks * pixels * layout.residual_stride);
  buffers.bottlenecks = config.recompute_bottlenecks
                            ? work->bottleneck.reserve<T>(layout.first_a + layout.b)
                            : saved.bottlenecks.reserve<T>(layout.bottlenecks);
  buffers.thread_sums = work->thread_sums.reserve<double>(num_threads() * layout.thread_sums());
  buffers.scratch = work->scratch.reserve<char>(num_threads() * layout.scratch);
  buffers.conv1x1_panels = work->conv1x1_panels.reserve<T>(layout.in_panels + layout.out_panels);
  buffers.grouped_panels = work->conv3x3_panels.reserve<float>(layout.grouped_panels);
  return buffers;
}

}  // namespace

void DualPathStage::forward(const DualPathConfig& config, const float* x,
                            const DualPathArrays& arrays, float* y) {
  has_forward_ = false;
  inference_kernels();  // throws if the processor lacks the requested instruction set
  config_ = config;
  config_.bf16 ? forward_in<Bf16>(x, arrays, y) : forward_in<float>(x, arrays, y);
  has_forward_ = true;
}

template <class T>
void DualPathStage::forward_in(const float* x, const DualPathArrays& arrays, float* y) {
  const DualPathLayout<T> layout(config_);
  const WorkspaceLease work;
  saved_.mean.resize(layout.statistics);
  saved_.inv_std.resize(layout.statistics);
  const auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  run_workers<DualPathWorker<T>>(
      buffers, [&](auto& worker, Barrier& barrier) { worker.forward(barrier, x, y); });
}

void DualPathStage::backward(const float* dy, const DualPathArrays& arrays, float* dx,
                             const DualPathArrays& gradients) {
  if (!has_forward_) throw std::logic_error("backward without a forward pass");
  config_.bf16 ? backward_in<Bf16>(dy, arrays, dx, gradients)
               : backward_in<float>(dy, arrays, dx, gradients);
}

template <class T>
void DualPathStage::backward_in(const float* dy, const DualPathArrays& arrays, float* dx,
                                const DualPathArrays& gradients) {
  const DualPathLayout<T> layout(config_);
  const WorkspaceLease work;
  const std::size_t pixels = config_.out_pixels();
  auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  buffers.d_input = work->d_input.reserve<T>(config_.pixels() * layout.in_stride);
  buffers.d_dense = work->d_maps.reserve<T>(pixels * layout.dense_stride);
  buffers.d_out = work->d_new_maps.reserve<T>(pixels * layout.out_stride);
  buffers.d_a = work->d_bottleneck.reserve<T>(layout.first_a);
  buffers.d_b = work->d_second_bottleneck.reserve<T>(layout.b);
  buffers.d_filters = work->d_filters.reserve<float>(num_threads() * layout.filters);
  run_workers<DualPathWorker<T>>(buffers, [&](auto& worker, Barrier& barrier) {
    worker.backward(barrier, dy, dx, gradients);
  });
}

}  // namespace gluondense
