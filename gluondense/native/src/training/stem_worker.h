// SPDX-License-Identifier: Apache-2.0
// The steps of a stem, each for one thread's share of the rows. Feature maps are of type T, in
// NHWC; the channels of a pixel are padded to `stride`.
#pragma once

#include <cstdint>

#include "kernels/training_kernels.h"
#include "threads.h"
#include "training/stage_data.h"
#include "training/stage_layout.h"
#include "training/stem.h"

namespace gluondense {

// Strides, and the sizes of a thread's memory.
template <class T>
struct StemLayout {
  // Rows of the convolution's output that share a copy of their rows of the image.
  static constexpr int kStripRows = 8, kKernel = StemConfig::kKernel;

  explicit StemLayout(const StemConfig& config);

  int stride;
  int tap_row;                      // elements of a row of the kernel, whole products: (7, C)
  int image_row;                    // elements of a row of the image, padded
  std::ptrdiff_t panel, d_filters;  // of kPanelWidth filters; of the gradient of all
  std::size_t scratch;              // bytes of a thread
};

// A thread's scratch memory. `columns` are pairs of pixels of `strip`, for gemm_tn: the same array
// in float32.
template <class T>
struct StemScratch {
  T *strip, *columns;     // rows of the image that kStripRows rows of the output read
  T *d_conv, *d_columns;  // a row of the gradient of the convolution's output
  float *y, *dy[2];       // rows of the pooled map
  StemScratch(ScratchAllocator& memory, const StemConfig& config, const StemLayout<T>& layout);
};

template <class T>
struct StemBuffers {
  const StemConfig& config;
  const StemLayout<T>& layout;
  T* conv;               // the output of the convolution: (conv_pixels, stride)
  std::uint8_t* argmax;  // see BnReluMaxPool: (out_pixels, stride)
  T* panels;             // the packed filters
  double* thread_sums;   // (threads, 2, stride)
  char* scratch;
  float* d_filters = nullptr;                                       // (threads, 7, 7, C, stride)
  const float *mean = nullptr, *scale = nullptr, *shift = nullptr;  // (stride)
  Affine correction = {};  // of the gradient of the convolution's output; see BnCorrection
};

template <class T>
class StemWorker {
 public:
  StemWorker(const StemBuffers<T>& buffers, int rank, int threads);

  // The convolution and, if with_sums, the sums for its batch statistics.
  void convolve(const float* x, bool with_sums) const;
  void pool(float* y) const;
  // The sums for the gradient of the normalization.
  void sum_gradient(const float* dy) const;
  void filter_gradient(const float* x, const float* dy) const;

 private:
  const StemBuffers<T>& buffers_;
  const StemConfig& config_;
  const StemLayout<T>& layout_;
  const int rank_, threads_;
  StemScratch<T> scratch_;
  double *const sums_, *const squares_;

  template <class Function>
  void for_each_strip(Function f) const;
  void fill_strip(const float* x, int image, int first, int rows) const;
  void make_columns(int rows) const;
  template <class Function>
  void for_each_gradient_row(const float* dy, int image, int first, int last, Function f) const;
  T* conv_row(int image, int y) const {
    const std::int64_t row = std::int64_t{image} * config_.conv_height() + y;
    return buffers_.conv + row * config_.conv_width() * layout_.stride;
  }
};

// Packs filters (out_channels, in_channels, 7, 7) into panels: see ConvTile.
template <class T>
void pack_stem_filters(const StemConfig& config, const StemLayout<T>& layout, const float* filters,
                       T* panels);

}  // namespace gluondense
