// The inner loops, one table of them for each instruction set.
//
// Maps lie in memory pixel by pixel, all channels of one side by side (N, H, W, C): a pixel's
// channels are one vector load, and a concatenation is a place in a wider pixel.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gluondense {

// Filters lie in blocks of so many output channels, whatever the width of a vector.
constexpr int kBlock = 32;

// Bytes that a vector of any instruction set may read over the end of what it is for.
constexpr int kSlack = 64;

typedef std::uint8_t Byte;

// One block of output channels at a few neighbouring pixels, in floats or in bytes.
template <class T>
struct ConvTile;

template <class T>
struct ConvTileOf {
  const T* in;                 // first pixel, first tap
  std::ptrdiff_t in_step;      // from one pixel to the next
  const std::ptrdiff_t* taps;  // where each run of input channels begins
  int runs, run;               // how many runs, and how long each is
  const float* bias;           // (kBlock)
  T* const* out;               // where each pixel's channels go
  const T* const* add;         // what is added before the activation; null for nothing
  int pixels, channels;        // at most max_pixels and kBlock
  float slope;                 // of the activation below 0: 1 for none, 0 for ReLU
};

template <>
struct ConvTile<float> : ConvTileOf<float> {
  const float* weights;  // (runs * run, kBlock)
};

// A byte q stands for low + step * q, each channel with its own two numbers. The sums of products
// become floats, sum * scale + bias (+ add * add_scale), and then bytes, 0 to 255; those that bytes
// of slopes other than 0 and 1 come from are real values, which out_scale and out_shift then spread.
template <>
struct ConvTile<Byte> : ConvTileOf<Byte> {
  const std::int8_t* weights;  // (runs * run / 4, 2, 16, 4); column() in kernels_bytes.cc says which is where
  const float* scale;          // (kBlock), in that order, as all below and the bias
  const float* add_scale;
  const float* out_scale;      // null for slopes 0 and 1
  const float* out_shift;
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

// A line of pixels of a 3x3 convolution, a vector of output channels at a time, whose groups read
// few channels of one vector: those that each lane's group reads are moved there.
constexpr int kGroupedLanes = 16;

struct GroupedTile {
  const float* in;                // first pixel, first tap
  std::ptrdiff_t in_row, in_step;  // to the next row and pixel of the image
  int stride;                     // 1 or 2
  int depth, lanes[kGroupedLanes];  // of a group: how many channels, and the first for each lane
  const float* weights;           // (3, depth, 3, kGroupedLanes)
  const float* bias;
  float* out;
  const float* add;
  std::ptrdiff_t out_step, add_step;
  int pixels, channels;
  float slope;
};

struct Kernels {
  const char* name;
  int max_pixels;
  void (*conv)(const ConvTile<float>& tile);
  void (*conv_bytes)(const ConvTile<Byte>& tile);
  // Of pairs of bfloat16 in place of floats, and of weights likewise: (runs * run, kBlock) pairs of
  // two input channels. Null where the processor has no such instruction.
  void (*conv_pairs)(const ConvTile<float>& tile);
  // out = activation(in * scale + shift), over channels.
  void (*affine)(const float* in, const float* scale, const float* shift, float slope, float* out,
                 int channels);
  // out = max(0, in * scale + shift), or in where scale is null, in pairs; up to 15 more zeros.
  void (*affine_pairs)(const float* in, const float* scale, const float* shift, float* out,
                       int channels);
  // out = max(0, (in ^ flip) - zero): a normalization and ReLU whose scale the next weights have.
  void (*rectify)(const Byte* in, const Byte* flip, const Byte* zero, Byte* out, int channels);
  // out = round(in * scale + shift), 0 to 255.
  void (*quantize)(const float* in, float scale, float shift, Byte* out, int count);
  // The maximum of some pixels, or their sum times `share`; of bytes the mean.
  void (*pool)(const float* const* pixels, int count, bool max, float share, float* out,
               int channels);
  void (*pool_bytes)(const Byte* const* pixels, int count, bool max, Byte* out, int channels);
  // 6x6 pixels of all channels, to 36 planes.
  void (*winograd_in)(const float* in, std::ptrdiff_t row, std::ptrdiff_t pixel, float* out,
                      std::ptrdiff_t plane, int channels);
  void (*winograd_out)(const WinogradOut& tile);
  void (*grouped)(const GroupedTile& tile);  // null where dense blocks are no slower
};

// The best that this processor runs.
const Kernels& kernels();

}  // namespace gluondense
