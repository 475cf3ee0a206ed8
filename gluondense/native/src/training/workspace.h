// SPDX-License-Identifier: Apache-2.0
// Memory of one forward or backward pass, which all training operators share.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "memory.h"

namespace gluondense {

// Each buffer keeps its size, so that later passes reuse it.
struct Workspace {
  AlignedBuffer scratch, thread_sums, conv1x1_panels, conv3x3_panels, bottleneck, d_bottleneck,
      d_maps, d_new_maps, d_filters;
  AlignedBuffer d_input, d_second_bottleneck;       // of dual-path and residual stages
  AlignedBuffer d_block, d_expanded, d_transition;  // of residual stages
};

// Borrows a workspace for one pass. Passes of several contexts may run at the same time.
class WorkspaceLease {
 public:
  WorkspaceLease() {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    auto& unused = pool().unused;
    if (unused.empty()) unused.push_back(std::make_unique<Workspace>());
    workspace_ = std::move(unused.back());
    unused.pop_back();
  }
  ~WorkspaceLease() {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    pool().unused.push_back(std::move(workspace_));
  }
  WorkspaceLease(const WorkspaceLease&) = delete;
  Workspace* operator->() const { return workspace_.get(); }

 private:
  struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<Workspace>> unused;
  };
  std::unique_ptr<Workspace> workspace_;

  static Pool& pool() {
    static Pool& pool = *new Pool;  // never destroyed: MXNet's threads may run until the very end
    return pool;
  }
};

}  // namespace gluondense
