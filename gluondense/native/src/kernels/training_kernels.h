// SPDX-License-Identifier: Apache-2.0
// The inner loops that only training uses: one table of them for each instruction set.
//
// Strides are in floats. "No over-read" means that a kernel touches nothing but the elements that
// its contract names; the others read and write whole vectors, at most kOverreadBytes bytes past
// the end. Destinations alias nothing unless a contract says so.
#pragma once

#include <cstddef>

namespace gluondense {

// The backward pass of batch normalization and ReLU, y = max(0, x * scale + shift), without the two
// terms that depend on sums over the batch: dx = scale * dy where y > 0, else 0.
struct BnReluBackward {
  const float* dy;  // (pixels, channels): dy_stride floats from one pixel to the next
  std::ptrdiff_t dy_stride;
  const float* const* x;              // each pixel's channels; null skips the pixel
  float* const* dx;                   // each pixel's destination
  const float *scale, *shift, *mean;  // (channels)
  double *sum_dy, *sum_dy_xmu;        // (channels): accumulate dy and dy * (x - mean) where y > 0
  float dy_factor;                    // multiplies dy
  int pixels, channels;
  bool accumulate;  // add to dx instead of overwriting it
};

struct TrainingKernels {
  const char* isa;
  // sums[c] += sum_p x[p][c] and squares[c] += sum_p x[p][c]^2, in doubles. No over-read.
  void (*channel_sums)(const float* x, std::ptrdiff_t stride, int pixels, int channels,
                       double* sums, double* squares);
  // c[m][n] = sum_k a[m][k] * b[k][n]. 1 <= rows <= max_tile_pixels; b is a dense panel (depth,
  // kPanelWidth). columns <= kPanelWidth are rounded up to whole vectors, in c.
  void (*gemm)(const float* a, std::ptrdiff_t a_stride, int depth, const float* b, float* c,
               std::ptrdiff_t c_stride, int rows, int columns);
  // c[m][n] += sum_p a[p][m] * b[p][n], a transposed. m < rows; columns are rounded up to whole
  // vectors, in b and in c.
  void (*gemm_tn)(const float* a, std::ptrdiff_t a_stride, const float* b, std::ptrdiff_t b_stride,
                  int pixels, float* c, std::ptrdiff_t c_stride, int rows, int columns);
  // channels <= dy_stride. No over-read.
  void (*bn_relu_backward)(const BnReluBackward& args);
  // out[c] = in[c] + (x[c] * scale[c] + shift[c]). No over-read.
  void (*add_affine)(const float* in, const float* x, const float* scale, const float* shift,
                     float* out, int channels);
  // out[p][c] = max(0, in[p][c] * scale[c] + shift[c]). NaN propagates. No over-read.
  void (*affine_relu)(const float* in, std::ptrdiff_t in_stride, const float* scale,
                      const float* shift, float* out, std::ptrdiff_t out_stride, int pixels,
                      int channels);
  // out[c] += factor * max(0, in[c] * scale[c] + shift[c]). NaN propagates. No over-read.
  void (*accumulate_affine_relu)(const float* in, const float* scale, const float* shift,
                                 float factor, float* out, int channels);
  // G g G^T of 3x3 filters (9, kPanelWidth): plane i of 36 is written to out + i * plane_stride.
  void (*winograd_filter_transform)(const float* filters, float* out, std::ptrdiff_t plane_stride);
  // Its adjoint: the gradient of the 36 planes to that of the filters (9, kPanelWidth).
  void (*winograd_filter_transform_adjoint)(const float* planes, std::ptrdiff_t plane_stride,
                                            float* d_filters);
  // The adjoint of the output transform: the gradient of 4x4 pixels to that of the 36 planes.
  // Channels are rounded up to whole vectors.
  void (*winograd_output_transform_adjoint)(const float* dy, std::ptrdiff_t row_stride,
                                            std::ptrdiff_t pixel_stride, float* planes,
                                            std::ptrdiff_t plane_stride, int channels);
};

// The table of the instruction set that inference_kernels() has.
const TrainingKernels& training_kernels();

}  // namespace gluondense
