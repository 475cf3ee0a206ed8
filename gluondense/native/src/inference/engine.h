// SPDX-License-Identifier: Apache-2.0
// Runs a program on batches of images.
#pragma once

#include <cstdint>
#include <vector>

#include "inference/inference_worker.h"
#include "inference/memory_plan.h"
#include "inference/program.h"
#include "memory.h"

namespace gluondense {

// (batch, channels, height, width)
struct ImageBatch {
  const float* data = nullptr;
  int batch = 0, channels = 0, height = 0, width = 0;
};

struct Weights {
  const float* floats = nullptr;
  const std::int8_t* bytes = nullptr;  // null for a program that has none
  std::size_t version = 0;             // changes whenever the numbers do
};

class Engine {
 public:
  explicit Engine(Program program) : program_(std::move(program)) {}
  const Program& program() const { return program_; }

  // The outputs are (batch, ...), with the shapes of output_shape behind it.
  void run(const ImageBatch& images, const Weights& weights, const std::vector<float*>& outputs);

 private:
  Program program_;
  MemoryPlan plan_;
  std::vector<PreparedConv> convs_;
  AlignedBuffer filters_;
  // What the plan and the filters are for.
  ImageBatch planned_;
  Weights weights_;
  AlignedBuffer arena_;
  std::size_t cleared_ = 0;  // bytes of the arena

  void prepare(const ImageBatch& images, const Weights& weights);
  void pack_filters(const Weights& weights);
  // Calls function(step, &prepared) for each convolution.
  template <class Function>
  void for_each_conv(Function function) {
    for (std::size_t i = 0; i < convs_.size(); ++i) {
      if (const auto* const step = std::get_if<ConvStep>(&program_.steps[i])) {
        function(*step, &convs_[i]);
      }
    }
  }
  std::uint8_t* reserve(std::size_t size);
};

}  // namespace gluondense
