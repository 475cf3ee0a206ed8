// The inner loops, one table of them for each instruction set.
//
// Maps lie in memory pixel by pixel, all channels of one side by side (N, H, W, C): a pixel's
// channels are one vector load, and a concatenation is a place in a wider pixel.
#pragma once

#include <cstddef>

namespace gluondense {

// Filters lie in blocks of so many output channels, whatever the width of a vector.
constexpr int kBlock = 32;

// One block of output channels at a few neighbouring pixels.
struct ConvTile {
  const float* in;         // first pixel, first tap
  std::ptrdiff_t in_step;  // floats from one pixel to the next
  const std::ptrdiff_t* taps;  // where each run of input channels begins
  int runs, run;               // how many runs, and how long each is
  const float* weights;        // (runs * run, kBlock)
  const float* bias;           // (kBlock)
  float* const* out;           // where each pixel's channels go
  const float* const* add;     // what is added before the activation; null for nothing
  int pixels, channels;        // at most max_pixels and kBlock
  float slope;                 // of the activation below 0: 1 for none, 0 for ReLU
};

// Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308, section 4.3): 4x4
// pixels of a 3x3 convolution in 36 products instead of 144, between two linear transforms.
constexpr int kWinogradOut = 4, kWinogradIn = 6, kWinogradTaps = 36;

// 4x4 pixels of one block of output channels.
struct WinogradOut {
  const float* in;        // 36 sums of each channel
  std::ptrdiff_t plane;   // floats from one of the 36 to the next
  const float* bias;      // (kBlock)
  float* const* out;      // 16 pixels; null for those beyond the edge
  const float* const* add;
  int channels;
  float slope;
};

struct Kernels {
  const char* name;
  int max_pixels;
  void (*conv)(const ConvTile& tile);
  // out = activation(in * scale + shift), over channels.
  void (*affine)(const float* in, const float* scale, const float* shift, float slope, float* out,
                 int channels);
  // 6x6 pixels of all channels, to 36 planes.
  void (*winograd_in)(const float* in, std::ptrdiff_t row, std::ptrdiff_t pixel, float* out,
                      std::ptrdiff_t plane, int channels);
  void (*winograd_out)(const WinogradOut& tile);
  // out += in and out = max(out, in), for pooling.
  void (*sum)(const float* in, float* out, int channels);
  void (*maximum)(const float* in, float* out, int channels);
};

// The best that this processor runs.
const Kernels& kernels();

}  // namespace gluondense
