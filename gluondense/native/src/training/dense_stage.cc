// SPDX-License-Identifier: Apache-2.0
#include "training/dense_stage.h"

#include <stdexcept>

#include "training/stage_worker.h"
#include "training/workspace.h"

namespace gluondense {
namespace {

// Bottlenecks of at most this many pixels are saved: they are too small to be worth recomputing.
constexpr int kMaxSavedPixels = 256;

// Returns the buffers that both passes use. In backward, those of `saved` keep their contents.
template <class T>
StageBuffers<T> forward_buffers(const DenseStageConfig& config, const StageLayout<T>& layout,
                                const DenseStageArrays& arrays, SavedForBackward& saved,
                                const WorkspaceLease& work) {
  const std::size_t pixels = config.pixels();
  StageBuffers<T> buffers = {config, layout, arrays, saved};
  buffers.maps = saved.maps.reserve<T>(pixels * layout.map_stride);
  buffers.bottlenecks =
      config.recompute_bottleneck
          ? work->bottleneck.reserve<T>(pixels * layout.widest_bottleneck())
          : saved.bottlenecks.reserve<T>(pixels * layout.bottlenecks(config.layers));
  buffers.thread_sums = work->thread_sums.reserve<double>(num_threads() * layout.thread_sums);
  buffers.scratch = work->scratch.reserve<char>(num_threads() * layout.scratch);
  buffers.conv1x1_panels = work->conv1x1_panels.reserve<T>(3 * layout.conv1x1_panels);
  buffers.conv3x3_panels =
      work->conv3x3_panels.reserve<float>(2 * config.convs3x3() * layout.conv3x3_panels);
  return buffers;
}

// Calls pass(worker, barrier) in each thread.
template <class T, class Pass>
void run_workers(const StageBuffers<T>& buffers, Pass pass) {
  std::vector<StageWorker<T>> workers;
  workers.reserve(num_threads());
  for (int rank = 0; rank < num_threads(); ++rank) workers.emplace_back(buffers, rank);
  parallel(num_threads(), [&](Barrier& barrier, int rank) {
    const TileRegisters registers;
    pass(workers[rank], barrier);
  });
}

}  // namespace

void DenseStage::forward(const DenseStageConfig& config, const float* x,
                         const DenseStageArrays& arrays, float* y) {
  has_forward_ = false;
  inference_kernels();  // throws if the processor lacks the requested instruction set
  config_ = config;
  config_.recompute_bottleneck = config.recompute_bottleneck && config.bottleneck &&
                                 config.height * config.width > kMaxSavedPixels;
  config_.bf16 ? forward_in<Bf16>(x, arrays, y) : forward_in<float>(x, arrays, y);
  has_forward_ = true;
}

template <class T>
void DenseStage::forward_in(const float* x, const DenseStageArrays& arrays, float* y) {
  const StageLayout<T> layout(config_);
  const WorkspaceLease work;
  saved_.mean.resize(config_.buffer_channels());
  saved_.inv_std.resize(config_.buffer_channels());
  saved_.bottleneck_mean.resize(layout.bottlenecks(config_.layers));
  saved_.bottleneck_inv_std.resize(layout.bottlenecks(config_.layers));
  const auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  run_workers(buffers,
              [&](StageWorker<T>& worker, Barrier& barrier) { worker.forward(barrier, x, y); });
}

void DenseStage::backward(const float* dy, const DenseStageArrays& arrays, float* dx,
                          const DenseStageArrays& gradients) {
  if (!has_forward_) throw std::logic_error("backward without a forward pass");
  config_.bf16 ? backward_in<Bf16>(dy, arrays, dx, gradients)
               : backward_in<float>(dy, arrays, dx, gradients);
}

template <class T>
void DenseStage::backward_in(const float* dy, const DenseStageArrays& arrays, float* dx,
                             const DenseStageArrays& gradients) {
  const StageLayout<T> layout(config_);
  const WorkspaceLease work;
  const std::size_t pixels = config_.pixels();
  auto buffers = forward_buffers<T>(config_, layout, arrays, saved_, work);
  buffers.d_maps = work->d_maps.reserve<T>(pixels * layout.map_stride);
  buffers.d_bottleneck = work->d_bottleneck.reserve<T>(pixels * layout.widest_bottleneck());
  buffers.d_new_maps = work->d_new_maps.reserve<T>(pixels * layout.growth_stride);
  buffers.d_filters = work->d_filters.reserve<float>(num_threads() * layout.filters);
  run_workers(buffers, [&](StageWorker<T>& worker, Barrier& barrier) {
    worker.backward(barrier, dy, dx, gradients);
  });
}

}  // namespace gluondense
