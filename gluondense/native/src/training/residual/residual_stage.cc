// SPDX-License-Identifier: Apache-2.0
#include "training/residual/residual_stage.h"

#include <stdexcept>

#include "training/residual/residual_worker.h"
#include "training/workspace.h"

namespace gluondense {
namespace {

// Returns the buffers that both passes use. In backward, those of `saved` keep their contents.
template <class T>
ResidualStageBuffers<T> forward_buffers(const ResidualStageConfig& config,
                                        const ResidualStageLayout<T>& layout,
                                        const ResidualStageArrays& arrays,
                                        ResidualStageSaved& saved, const WorkspaceLease& work) {
  ResidualStageBuffers<T> buffers = {config, layout, arrays, saved};
  buffers.maps = saved.maps.reserve<T>(layout.maps);
  buffers.bottlenecks = config.recompute_bottlenecks
                            ? work->bottleneck.reserve<T>(layout.bottlenecks)
                            : saved.bottlenecks.reserve<T>(config.blocks * layout.bottlenecks);
  buffers.thread_sums = work->thread_sums.reserve<double>(num_threads() * layout.thread_sums());
  buffers.scratch = work->scratch.reserve<char>(num_threads() * layout.scratch);
  buffers.conv1x1_panels = work->conv1x1_panels.reserve<T>(layout.conv1x1_panels);
  buffers.grouped_panels = work->conv3x3_panels.reserve<float>(layout.grouped_panels);
  return buffers;
}

}  // namespace

void ResidualStage::forward(const ResidualStageConfig& config, const float* x,
                            const ResidualStageArrays& arrays, float* y) {
  has_forward_ = false;
  inference_kernels();  // throws if the processor lacks the requested instruction set
  config_ = config;
  config_.bf16 ? forward_in<Bf16>(x, arrays, y) : forward_in<float>(x, arrays, y);
  has_forward_ = true;
}

template <class T>
void ResidualStage::forward_in(const float* x, const ResidualStageArrays& arrays, float* y) {
  const ResidualStageLayout<T> layout(config_);
  const WorkspaceLease work;
  saved_.mean.resize(layout.statistics);
  saved_.inv_std.resize(layout.statistics);
  const auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  run_workers<ResidualStageWorker<T>>(
      buffers, [&](auto& worker, Barrier& barrier) { worker.forward(barrier, x, y); });
}

void ResidualStage::backward(const float* dy, const ResidualStageArrays& arrays, float* dx,
                             const ResidualStageArrays& gradients) {
  if (!has_forward_) throw std::logic_error("backward without a forward pass");
  config_.bf16 ? backward_in<Bf16>(dy, arrays, dx, gradients)
               : backward_in<float>(dy, arrays, dx, gradients);
}

template <class T>
void ResidualStage::backward_in(const float* dy, const ResidualStageArrays& arrays, float* dx,
                                const ResidualStageArrays& gradients) {
  const ResidualStageLayout<T> layout(config_);
  const WorkspaceLease work;
  const std::size_t pixels = config_.out_pixels();
  auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  buffers.d_input = work->d_input.reserve<T>(config_.pixels() * layout.in_stride);
  if (config_.has_down()) buffers.d_down = work->d_maps.reserve<T>(pixels * layout.in_stride);
  buffers.d_expanded = work->d_expanded.reserve<T>(pixels * layout.expanded_stride);
  buffers.d_block = work->d_block.reserve<T>(pixels * layout.block_stride);
  buffers.d_a = work->d_bottleneck.reserve<T>(layout.a);
  buffers.d_b = work->d_second_bottleneck.reserve<T>(layout.a);
  buffers.d_c = work->d_new_maps.reserve<T>(layout.c);
  // The transition's gradients are read before the first block's are written.
  buffers.d_partial = buffers.d_c;
  buffers.d_output = work->d_transition.reserve<T>(pixels * layout.out_stride);
  buffers.d_filters = work->d_filters.reserve<float>(num_threads() * layout.filters);
  run_workers<ResidualStageWorker<T>>(buffers, [&](auto& worker, Barrier& barrier) {
    worker.backward(barrier, dy, dx, gradients);
  });
}

}  // namespace gluondense
