// Runs a program over a batch of images.
#pragma once

#include <cstdint>
#include <vector>

#include "inference/program.h"
#include "inference/runner.h"

namespace gluondense {

// (count, channels, height, width).
struct Images {
  const float* data = nullptr;
  int count = 0, channels = 0, height = 0, width = 0;
};

struct Weights {
  const float* blob = nullptr;
  const std::int8_t* bytes = nullptr;  // of programs with bytes
  std::size_t version = 0;             // changes whenever the numbers do
};

class Engine {
 public:
  explicit Engine(Program program) : program_(std::move(program)) {}

  // The outputs are as Program::output_shape says.
  void run(const Images& images, const Weights& weights, const std::vector<float*>& outputs);

 private:
  Program program_;
  Plan plan_;
  FiltersByStep winograd_, grouped_, pairs_;
  // What these are for.
  Images planned_;
  Weights weights_;
  AlignedBuffer memory_;
  std::size_t cleared_ = 0;

  void prepare(const Images& images, const Weights& weights);
};

}  // namespace gluondense
