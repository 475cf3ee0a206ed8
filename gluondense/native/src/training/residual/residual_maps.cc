// SPDX-License-Identifier: Apache-2.0
// The feature maps of a residual stage: where they are, and how they are normalized.
#include "training/residual/residual_worker.h"

namespace gluondense {

// Maps that are read as they are.
template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::unchanged(T* x, T* dx, int stride, int channels,
                                                    bool accumulate) const {
  return {x, dx, stride, stride, channels, layout_.identity, accumulate, 1};
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::input() const {
  return unchanged(buffers_.maps, buffers_.d_input, layout_.in_stride, config_.in_channels, false);
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::down() const {
  const int stride = layout_.in_stride;
  return {buffers_.maps + layout_.down, buffers_.d_down,         stride, stride,
          config_.in_channels,          layout_.down_statistics, false,  config_.slope};
}

// All channels of x0, which have no ReLU.
template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::expanded() const {
  const int stride = layout_.expanded_stride;
  return {buffers_.maps + layout_.expanded,
          buffers_.d_expanded,
          stride,
          stride,
          config_.expanded,
          layout_.expanded_statistics,
          false,
          1};
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::bypass() const {
  NormalizedMaps<T> maps = expanded();
  maps.channels = config_.bypass;
  return maps;
}

// The blocks add to the gradient of their input, to which the sum at their end was the first.
template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::block_input(int block) const {
  if (block > 0) {
    T* const x = buffers_.maps + layout_.block_outputs + (block - 1) * layout_.block_output;
    return unchanged(x, buffers_.d_block, layout_.block_stride, config_.block_channels(),
                     block < config_.blocks);
  }
  NormalizedMaps<T> maps = expanded();
  maps.x += config_.bypass, maps.dx += config_.bypass, maps.statistics += config_.bypass;
  maps.channels = config_.block_channels();
  maps.accumulate = true;
  return maps;
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::a(int block) const {
  const int stride = layout_.bottleneck_stride;
  const std::size_t kept = config_.recompute_bottlenecks ? 0 : block * layout_.bottlenecks;
  return {buffers_.bottlenecks + kept,
          buffers_.d_a,
          stride,
          stride,
          config_.bottleneck,
          layout_.statistics_of_block(config_, block),
          false,
          config_.slope};
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::b(int block) const {
  NormalizedMaps<T> maps = a(block);
  maps.x += layout_.a, maps.dx = buffers_.d_b, maps.statistics += config_.bottleneck;
  return maps;
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::c(int block) const {
  const NormalizedMaps<T> before = b(block);
  const int stride = layout_.block_stride;
  return {before.x + layout_.a,
          buffers_.d_c,
          stride,
          stride,
          config_.block_channels(),
          before.statistics + config_.bottleneck,
          false,
          1};
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::partial() const {
  const int stride = layout_.block_stride;
  return {buffers_.maps + layout_.partial, buffers_.d_partial,         stride, stride,
          config_.block_channels(),        layout_.partial_statistics, false,  config_.slope};
}

template <class T>
NormalizedMaps<T> ResidualStageWorker<T>::output() const {
  const int stride = layout_.out_stride;
  return {buffers_.maps + layout_.output, buffers_.d_output,      stride, stride,
          config_.out_channels,           layout_.out_statistics, false,  config_.slope};
}

template class ResidualStageWorker<float>;
template class ResidualStageWorker<Bf16>;

}  // namespace gluondense
