// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "kernels/inference_kernels.h"

namespace gluondense {

// Convert the pixels [first, first + count), numbered over all images, between
// (N, C, H, W) and (pixels, stride). An image has `image_channels` channels of `plane` pixels, and
// `nchw` is the first one to convert.
template <class T>
void nchw_to_nhwc(const float* nchw, int image_channels, int channels, std::int64_t first,
                  std::int64_t count, int plane, T* nhwc, int stride);
template <class T>
void nhwc_to_nchw(const T* nhwc, int stride, int channels, std::int64_t first, std::int64_t count,
                  int plane, float* nchw, int image_channels);

}  // namespace gluondense
