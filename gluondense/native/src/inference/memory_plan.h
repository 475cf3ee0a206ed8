// SPDX-License-Identifier: Apache-2.0
// Sizes and memory of a program's feature maps for one size of images.
#pragma once

#include <cstddef>
#include <vector>

#include "inference/program.h"

namespace gluondense {

struct Placement {
  int height = 0, width = 0, pad = 0, element_size = 4;
  int pixel_stride = 0;    // elements from one pixel to the next
  std::size_t offset = 0;  // bytes from the begin of the arena

  int row_pixels() const { return width + 2 * pad; }
  std::size_t row_stride() const { return static_cast<std::size_t>(row_pixels()) * pixel_stride; }
  std::size_t size_bytes() const { return row_stride() * (height + 2 * pad) * element_size; }
  // Elements in front of pixel (y, x), which may be in the padding.
  std::size_t index(int y, int x) const {
    return (static_cast<std::size_t>(y + pad) * row_pixels() + x + pad) * pixel_stride;
  }
};

struct MemoryPlan {
  std::vector<Placement> placements;  // by map
  std::vector<bool> barrier_before;   // by step: whether the threads wait for each other before it
  std::size_t size_bytes = 0;         // of one image's arena

  const Placement& placement(const ChannelSlice& slice) const { return placements[slice.map]; }
  bool is_bf16(const ChannelSlice& slice) const { return placement(slice).element_size == 2; }
};

// Whether a convolution can multiply in bfloat16 here; bf16_maps.cc.
bool multiplies_bf16(const ConvStep& step, const Program& program);

// Whether there is a kernel for a convolution with groups of few channels; bf16_maps.cc.
bool has_grouped_kernel(const ConvStep& step);
// The same over maps of bfloat16.
bool has_bf16_grouped_kernel(const ConvStep& step);

// By map, whether it is stored in bfloat16 here; bf16_maps.cc. The instruction set decides whether
// any is.
std::vector<bool> find_bf16_maps(const Program& program);

// Maps whose lifetimes overlap do not overlap in memory. Throws std::invalid_argument if the
// program cannot run on such images.
MemoryPlan plan_memory(const Program& program, int channels, int height, int width);

// Shape of an output without the batch: (C), or (C, H, W).
std::vector<std::size_t> output_shape(const Program& program, const MemoryPlan& plan, int output);

}  // namespace gluondense
