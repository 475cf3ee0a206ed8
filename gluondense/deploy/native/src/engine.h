// Runs a program over a batch of images.
#pragma once

#include <vector>

#include "program.h"
#include "runner.h"

namespace gluondense {

class Engine {
 public:
  explicit Engine(Program program) : program_(std::move(program)) {}

  // `in` is (images, channels, height, width); the outputs are as Program::output_shape says.
  // `version` changes whenever the blob's numbers do.
  void run(const float* in, int images, int channels, int height, int width, const float* blob,
           std::size_t version, const std::vector<float*>& outputs);

 private:
  Program program_;
  Plan plan_;
  WinogradFilters winograd_;
  // What they are for.
  int planned_[3] = {0, 0, 0};
  const float* blob_ = nullptr;
  std::size_t version_ = 0;
  std::vector<float> memory_;

  void prepare(int channels, int height, int width, const float* blob, std::size_t version);
};

}  // namespace gluondense
