// SPDX-License-Identifier: Apache-2.0
// What the threads of all stages share: their parts of the work, and the filters of 1x1
// convolutions.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/training_kernels.h"
#include "threads.h"
#include "tile_grid.h"
#include "training/stage_data.h"

namespace gluondense {

// A thread that trains a stage. Each function of it processes the thread's part.
template <class T>
class StageThread {
 protected:
  explicit StageThread(int rank) : rank_(rank) {}

  static const MapKernels<T>& kernels() { return map_kernels<T>(); }
  int threads() const { return barrier_->size(); }
  std::pair<std::int64_t, std::int64_t> share(std::int64_t count) const {
    return partition(count, rank_, threads());
  }
  // Calls f(first, count) for blocks of at most `most` items of this thread's share.
  template <class Function>
  void for_each_block(std::int64_t items, int most, Function f) const {
    const auto [first, last] = share(items);
    for_each_tile_batch(first, last, most, f);
  }

  // Packs filters (out_channels, in_channels) into panels of output channels: see MapKernels::gemm.
  void pack_conv1x1(const Conv1x1Filters& filters, int in_channels, int out_channels,
                    T* panels) const;
  // Packs the first `channels` columns of the filters, transposed, into panels of input channels.
  void pack_conv1x1_t(const Conv1x1Filters& filters, int in_channels, int channels,
                      int out_channels, T* panels) const;
  // Sums the gradients (in_channels, out_channels) of all threads and transposes them. `sums` are
  // those of thread 0, and each thread's begin `distance` behind the last one's.
  void reduce_d_conv1x1(float* sums, std::ptrdiff_t distance, int in_channels, int out_channels,
                        const Conv1x1Filters& filters) const;

  const int rank_;
  Barrier* barrier_ = nullptr;

 private:
  template <class Fill>
  void pack_panels(int depth, int columns, T* panels, Fill fill) const;
};

}  // namespace gluondense
