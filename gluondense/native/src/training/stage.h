// Trains a dense stage: layers that each append their maps to those before, and what stands behind.
//
// All maps of a stage lie in one buffer, pixel by pixel. A channel's batch statistics are computed
// once, where it is written, whichever layers normalize it. In backward, a normalization's two
// corrections are lines in what was normalized; each channel's are summed over all layers that
// read it and subtracted once, where its gradient is needed.
#pragma once

#include <cstddef>
#include <vector>

#include "memory.h"

namespace gluondense {

struct StageShape {
  // What comes out: all maps, or what one more normalization, ReLU and 1x1 convolution give.
  enum Tail { kMaps, kNorm, kConv };

  int images = 0, height = 0, width = 0, channels = 0;  // of the input
  int layers = 0, growth = 0, middle = 0;  // middle: width of the 1x1 convolution, 0 for none
  Tail tail = kMaps;
  int out_channels = 0;  // of the tail's convolution
  bool pool = false;     // 2x2 means behind it
  bool recompute = false;  // in backward, what the 1x1 convolutions gave
  float eps = 1e-5f, momentum = 0.9f;

  long pixels() const { return static_cast<long>(images) * height * width; }
  int before(int layer) const { return channels + layer * growth; }
  int total() const { return before(layers); }
  int out_height() const { return pool ? height / 2 : height; }
  int out_width() const { return pool ? width / 2 : width; }
  int deepest() const { return middle ? middle : total(); }  // input of a 3x3 convolution
};

struct Norm {
  float *gamma = nullptr, *beta = nullptr, *mean = nullptr, *var = nullptr;
};

// The arrays of a stage, or their gradients, which has no moving averages.
struct StageArrays {
  struct Layer {
    Norm norm1;  // with a 1x1 convolution only
    float* weight1 = nullptr;
    Norm norm2;
    float* weight2 = nullptr;
  };
  std::vector<Layer> layers;
  Norm norm;
  float* weight = nullptr;
};

// What a pass needs while it runs; lent to one pass at a time.
struct Workspace {
  AlignedBuffer scratch, partial, packed, middle, middle_gradient, gradient, last, sums;
};

// What backward needs of forward.
struct Saved {
  AlignedBuffer maps, middles;
  std::vector<float> mean, inverse, mean2, inverse2;  // 1 / sqrt(var + eps); 2: layer by layer
};

class Stage {
 public:
  void forward(const StageShape& shape, const float* in, const StageArrays& arrays, float* out);
  void backward(const float* out_gradient, const StageArrays& arrays, float* in_gradient,
                const StageArrays& gradients);

 private:
  StageShape shape_;
  Saved saved_;
  bool done_ = false;
};

}  // namespace gluondense
