// SPDX-License-Identifier: Apache-2.0
// The inner loops that only training uses: one table of them for each instruction set.
//
// Strides are in elements. "No over-read" means that a kernel touches nothing but the elements that
// its contract names; the others read and write whole vectors, at most kOverreadBytes bytes past
// the end. Destinations alias nothing unless a contract says so.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/inference_kernels.h"

namespace gluondense {

// The backward pass of batch normalization and ReLU, y = relu(x * scale + shift), without the two
// terms that depend on sums over the batch: dx = scale * dy where y > 0, else slope * scale * dy.
template <class T>
struct BnReluBackward {
  const float* dy;  // (pixels, channels): dy_stride floats from one pixel to the next
  std::ptrdiff_t dy_stride;
  const T* const* x;                  // each pixel's channels; null skips the pixel
  T* const* dx;                       // each pixel's destination
  const float *scale, *shift, *mean;  // (channels)
  double *sum_dy, *sum_dy_xmu;        // (channels): accumulate d and d * (x - mean), dx = scale * d
  float slope;                        // of the ReLU for negative values
  float dy_factor;                    // multiplies dy
  int pixels, channels;
  bool accumulate;  // add to dx instead of overwriting it
};

// One row of 3x3 max-pooling of stride 2 and padding 1, behind BN-ReLU, relu(x * scale + shift).
// Pixels of x, y and argmax have the same stride. Channels are a multiple of kChannelPad, whole
// vectors of every instruction set.
constexpr int kChannelPad = 16, kNoArgmax = 9;

template <class T>
struct BnReluMaxPool {
  const T* rows[3];  // of x; null outside of the map
  std::ptrdiff_t stride;
  int width, channels;         // of x; (width + 1) / 2 pixels of y
  const float *scale, *shift;  // (channels)
  float slope;                 // of the ReLU for negative values
  float* y;
  // y * 3 + x in the window, the first of equals; kNoArgmax where a ReLU of slope 0 has no
  // gradient.
  std::uint8_t* argmax;
};

// The backward pass for one row of x.
template <class T>
struct BnReluMaxPoolBackward {
  const T* x;
  // The one or two rows of windows that contain the row of x, and its place in them.
  const float* dy[2];
  const std::uint8_t* argmax[2];
  int window_row[2];
  std::ptrdiff_t stride;
  int width, channels;                               // of x
  const float *mean, *scale, *shift;                 // (channels), as the next two
  const float *correction_scale, *correction_shift;  // those of BnCorrection
  float slope;                                       // of the ReLU
};

// Elements that one product takes from each operand: one float, or a pair of bfloat16.
template <class T>
constexpr int kProductDepth = sizeof(float) / sizeof(T);

// Kernels over feature maps of type T, float or Bf16. Sums are in float32 or in doubles.
template <class T>
struct MapKernels {
  int max_rows;  // of gemm, and pixels of conv
  // sums[c] += sum_p x[p][c] and squares[c] += sum_p x[p][c]^2, in doubles. No over-read.
  void (*channel_sums)(const T* x, std::ptrdiff_t stride, int pixels, int channels, double* sums,
                       double* squares);
  // c[m][n] = sum_k a[m][k] * b[k][n]. 1 <= rows <= max_rows. b is a dense panel
  // (depth / kProductDepth, kPanelWidth, kProductDepth). depth is rounded up to whole products,
  // which read zeros behind the last element. columns <= kPanelWidth are rounded up to whole
  // vectors, in c.
  void (*gemm)(const T* a, std::ptrdiff_t a_stride, int depth, const T* b, float* c,
               std::ptrdiff_t c_stride, int rows, int columns);
  // The same into a feature map.
  void (*gemm_to_maps)(const T* a, std::ptrdiff_t a_stride, int depth, const T* b, T* c,
                       std::ptrdiff_t c_stride, int rows, int columns);
  // c[m][n] += sum_p a[p][m] * b[p][n], a transposed. m < rows; columns are rounded up to whole
  // vectors, in b and in c. a is (pixels / kProductDepth, rows, kProductDepth), b likewise; the
  // strides are those of a pixel, and pixels are rounded up to whole products.
  void (*gemm_tn)(const T* a, std::ptrdiff_t a_stride, const T* b, std::ptrdiff_t b_stride,
                  int pixels, float* c, std::ptrdiff_t c_stride, int rows, int columns);
  // channels <= dy_stride. No over-read.
  void (*bn_relu_backward)(const BnReluBackward<T>& args);
  // out[c] = in[c] + (x[c] * scale[c] + shift[c]). out may be in. No over-read.
  void (*add_affine)(const T* in, const T* x, const float* scale, const float* shift, T* out,
                     int channels);
  // out[c] = relu((x[c] * x_scale[c] + x_shift[c]) + (y[c] * y_scale[c] + y_shift[c])), a leaky
  // ReLU with this slope, from 0 to 1. No over-read.
  void (*add_relu)(const T* x, const float* x_scale, const float* x_shift, const T* y,
                   const float* y_scale, const float* y_shift, float slope, T* out, int channels);
  // Its gradient: dx[c] = dy[c] where y[c] > 0, else slope * dy[c]. No over-read.
  void (*relu_backward)(const T* dy, const T* y, float slope, float* dx, int channels);
  // out[p][c] = relu(in[p][c] * scale[c] + shift[c]), a leaky ReLU with this slope, from 0 to 1.
  // NaN propagates. No over-read.
  void (*affine_relu)(const T* in, std::ptrdiff_t in_stride, const float* scale, const float* shift,
                      float slope, float* out, std::ptrdiff_t out_stride, int pixels, int channels);
  // The same into gemm's operand a, with zeros behind it; writes whole vectors of Bf16.
  void (*affine_relu_to_rows)(const T* in, std::ptrdiff_t in_stride, const float* scale,
                              const float* shift, float slope, T* out, std::ptrdiff_t out_stride,
                              int pixels, int channels);
  // The same into an operand of gemm_tn. Reads and writes whole vectors of Bf16.
  void (*affine_relu_to_columns)(const T* in, std::ptrdiff_t in_stride, const float* scale,
                                 const float* shift, float slope, T* out, std::ptrdiff_t out_stride,
                                 int pixels, int channels);
  // Makes an operand of gemm_tn of rows with the same stride. Null for float, where rows are one.
  void (*rows_to_columns)(const T* rows, std::ptrdiff_t stride, T* out, int pixels, int channels);
  // out[c] = sum_i max(0, in[i][c] * scale[c] + shift[c]) / count, over `count` pixels. NaN
  // propagates. Writes whole vectors of Bf16, with zeros behind the channels.
  void (*mean_affine_relu)(const T* const* in, int count, const float* scale, const float* shift,
                           T* out, int channels);
  // out[p][c] = in[p][c]. No over-read.
  void (*copy_to_f32)(const T* in, std::ptrdiff_t in_stride, float* out, std::ptrdiff_t out_stride,
                      int pixels, int channels);
  // rows[p][c] = planes[c][p], and the reverse; a plane is `plane` floats from the next. No
  // over-read.
  void (*planes_to_rows)(const float* planes, std::ptrdiff_t plane, T* rows, std::ptrdiff_t stride,
                         int pixels, int channels);
  void (*rows_to_planes)(const T* rows, std::ptrdiff_t stride, float* planes, std::ptrdiff_t plane,
                         int pixels, int channels);
  // conv_f32 of inference_kernels.h, and the same in bfloat16.
  void (*conv)(const ConvTile<T>& tile);
  // See BnReluMaxPool. NaN propagates. No over-read.
  void (*bn_relu_max_pool)(const BnReluMaxPool<T>& args);
  // Adds dy and dy * (x - mean) of the pixels where y > 0 to the sums of each channel.
  void (*bn_relu_max_pool_sums)(const BnReluMaxPoolBackward<T>& args, double* sum_dy,
                                double* sum_dy_xmu);
  // The gradient of the row of x: dx = scale * dy + x * correction_scale + correction_shift.
  void (*bn_relu_max_pool_backward)(const BnReluMaxPoolBackward<T>& args, T* dx);
  // winograd_output_transform of inference_kernels.h.
  void (*winograd_output_transform)(const WinogradOutputTile<T>& tile);
};

// A vector of output channels of a 3x3 convolution whose groups have as many inputs as outputs. It
// has whole groups, or a part of one.
constexpr int kGroupedMaxLanes = 16;  // >= grouped_lanes of every instruction set

struct GroupedLanes {
  int group_channels;
  bool one_group;  // all lanes read the same inputs
};

// `pixels` neighbouring output pixels of a row. Reads and writes whole vectors.
struct GroupedTrainingTile {
  // The windows' rows, from the first input channel of the first lane on; null for zeros.
  const float* rows[3];
  std::ptrdiff_t src_stride;  // from an input pixel to the next
  int stride;                 // 1 or 2, of the convolution
  GroupedLanes lanes;
  const float* weights;  // (3, group_channels, 3, grouped_lanes)
  float* dst;
  std::ptrdiff_t dst_stride;
  int pixels;  // <= max_tile_pixels
};

// The gradient of the filters of such a vector, over rows of output pixels. Adds to d_weights.
struct GroupedFilterGradient {
  const float* src;  // the first row of the first window, as above
  std::ptrdiff_t src_row_stride, src_stride;
  int stride;
  const float* dy;  // the vector's channels
  std::ptrdiff_t dy_row_stride, dy_stride;
  int rows, pixels;
  GroupedLanes lanes;
  float* d_weights;  // as the weights
};

struct TrainingKernels : MapKernels<float> {
  const char* isa;
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
  MapKernels<Bf16> bf16;
  int grouped_lanes;  // channels of a vector
  void (*grouped_conv3x3)(const GroupedTrainingTile& tile);
  void (*grouped_conv3x3_backward_filter)(const GroupedFilterGradient& args);
};

// The table of the instruction set that inference_kernels() has.
const TrainingKernels& training_kernels();

template <class T>
const MapKernels<T>& map_kernels();
template <>
inline const MapKernels<float>& map_kernels() {
  return training_kernels();
}
template <>
inline const MapKernels<Bf16>& map_kernels() {
  return training_kernels().bf16;
}

}  // namespace gluondense
