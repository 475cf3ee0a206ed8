// The inner loops that only training has, one table of them for each instruction set.
#pragma once

#include <cstddef>

namespace gluondense {

// Some pixels of up to kBlock channels on their way back through a normalization and its ReLU.
struct Gate {
  const float* in;         // gradient behind the ReLU, in_step floats from one pixel to the next
  std::ptrdiff_t in_step;
  const float* const* x;   // what was normalized, by pixel; null leaves the pixel out
  float* const* out;       // the gradient times the normalization's scale, by pixel
  const float *scale, *shift, *mean;
  double *sums, *products;  // of the gradient, and of it times (x - mean), by channel
  float factor;            // of the gradient
  int pixels, channels;
  bool add;                // to what is in out
};

struct TrainKernels {
  const char* name;
  // Adds to the sums and squares of each channel those of some pixels.
  void (*moments)(const float* in, std::ptrdiff_t step, int pixels, int channels, double* sums,
                  double* squares);
  // out[m, n] = sum over k of in[m, k] * weights[k, n]: up to max_pixels rows times kBlock columns.
  void (*product)(const float* in, std::ptrdiff_t in_step, int depth, const float* weights,
                  float* out, std::ptrdiff_t out_step, int rows);
  // out[m, n] += sum over p of left[p, m] * right[p, n]; whole vectors of columns.
  void (*outer)(const float* left, std::ptrdiff_t left_step, const float* right,
                std::ptrdiff_t right_step, int pixels, float* out, std::ptrdiff_t out_step,
                int rows, int columns);
  void (*gate)(const Gate& gate);
  // out = in + x * slope + offset.
  void (*correct)(const float* in, const float* x, const float* slope, const float* offset,
                  float* out, int channels);
  // out = max(0, in * scale + shift) of some pixels; what is no number stays none.
  void (*rectify)(const float* in, std::ptrdiff_t in_step, const float* scale, const float* shift,
                  float* out, std::ptrdiff_t out_step, int pixels, int channels);
  // out += share * max(0, in * scale + shift).
  void (*add_rectified)(const float* in, const float* scale, const float* shift, float share,
                        float* out, int channels);
  // 3x3 filters (9, kBlock) to their 36 planes, and the planes' gradient back.
  void (*winograd_filter)(const float* in, float* out, std::ptrdiff_t plane);
  void (*winograd_filter_gradient)(const float* in, std::ptrdiff_t plane, float* out);
  // The gradient of 4x4 pixels to that of 36 sums; whole vectors of channels.
  void (*winograd_out_gradient)(const float* in, std::ptrdiff_t row, std::ptrdiff_t pixel,
                                float* out, std::ptrdiff_t plane, int channels);
};

// Of the same instruction set as kernels().
const TrainKernels& train_kernels();

}  // namespace gluondense
