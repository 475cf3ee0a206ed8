// A network as a list of steps over maps in one piece of memory.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gluondense {

// Some channels of a map.
struct View {
  int map = -1;
  int channel = 0;
  int channels = 0;
  bool there() const { return map >= 0; }
};

struct Step {
  enum Kind { kLoad, kConv, kAffine, kPool, kGlobalPool, kCopy, kStore };
  Kind kind;
  View in, out, add;
  int kernel[2] = {1, 1}, stride[2] = {1, 1}, pad[2] = {0, 0};
  int blocks = 0;          // of output channels
  int block_in = 0;        // input channels that a block reads
  int block_step = 0;      // from one block's input channels to the next one's
  int block_share = 1;     // how many blocks read the same ones, before that step
  int block_out = 0;       // output channels of a block
  int block_groups = 1;    // groups of a block: its filters are 0 but for their own group's channels
  bool max = false;        // of a pooling; else the mean
  bool whole = true;       // whether a mean counts the border
  float slope = 1;         // of the activation below 0
  // Where in the blob; -1 for none. Of a convolution or normalization of bytes, the weight, flip and
  // zero are among the bytes; see kernels.h for their meaning.
  std::ptrdiff_t weight = -1, bias = -1, scale = -1, shift = -1;
  std::ptrdiff_t flip = -1, zero = -1, add_scale = -1, out_scale = -1, out_shift = -1;
  int output = -1;
  bool flat = true;        // an output of shape (N, C)
};

struct Map {
  int channels = 0;
  int border = 0;  // zeros on each side, for convolutions that look over the edge
  bool bytes = false;        // else floats
  std::ptrdiff_t edge = -1;  // in the bytes: what zero is in each channel; -1 for 0 in all
};

// Taps of a kernel.
constexpr int kMostTaps = 1024;

// Whether a copy is more than that.
inline bool computes(const Step& s) { return s.add.there() || s.slope != 1 || s.out_scale >= 0; }

// Where a map lies for one size of images.
struct Place {
  int height = 0, width = 0, border = 0, element = 4;
  int step = 0;            // elements from one pixel to the next
  std::size_t offset = 0;  // bytes from the memory's begin
  int pitch() const { return width + 2 * border; }
  std::size_t bytes() const {
    return static_cast<std::size_t>(pitch()) * (height + 2 * border) * step * element;
  }
  // Elements before a pixel's first; y and x may be in the border.
  std::size_t at(int y, int x) const {
    return (static_cast<std::size_t>(y + border) * pitch() + x + border) * step;
  }
};

struct Plan {
  std::vector<Place> places;  // one a map
  std::vector<bool> meets;    // one a step: whether the threads meet before it
  std::size_t bytes = 0;      // memory for one image
};

[[noreturn]] void fail(const std::string& message);

struct Program {
  std::vector<Map> maps;
  std::vector<Step> steps;
  std::size_t blob = 0;   // floats of all weights
  std::size_t bytes = 0;  // and bytes
  bool bf16 = false;      // whether 1x1 convolutions may compute in bfloat16
  int outputs = 0;

  // Throws std::invalid_argument with what is wrong: whatever is left can be run.
  static Program parse(const std::string& text);
  // Sizes of all maps, and memory in which those that live at a time do not overlap.
  Plan plan(int channels, int height, int width) const;
  // Shape of an output without the batch: (channels), or (channels, height, width).
  std::vector<std::size_t> output_shape(const Plan& plan, int output) const;
};

}  // namespace gluondense
