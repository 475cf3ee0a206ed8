// SPDX-License-Identifier: Apache-2.0
#include "training/transpose.h"

#include <algorithm>

#include "kernels/training_kernels.h"

namespace gluondense {
namespace {

// Calls f(plane of the first channel, rows' offset, pixels) for each image's part of the pixels.
template <class Function>
void for_each_image(int image_channels, std::int64_t first, std::int64_t count, int plane,
                    Function f) {
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t image = (first + done) / plane, pixel = (first + done) % plane;
    const std::int64_t pixels = std::min(count - done, plane - pixel);
    f(image * image_channels * plane + pixel, done, pixels);
    done += pixels;
  }
}

}  // namespace

template <class T>
void nchw_to_nhwc(const float* nchw, int image_channels, int channels, std::int64_t first,
                  std::int64_t count, int plane, T* nhwc, int stride) {
  for_each_image(image_channels, first, count, plane,
                 [&](std::int64_t offset, std::int64_t done, std::int64_t pixels) {
                   map_kernels<T>().planes_to_rows(nchw + offset, plane, nhwc + done * stride,
                                                   stride, static_cast<int>(pixels), channels);
                 });
}

template <class T>
void nhwc_to_nchw(const T* nhwc, int stride, int channels, std::int64_t first, std::int64_t count,
                  int plane, float* nchw, int image_channels) {
  for_each_image(image_channels, first, count, plane,
                 [&](std::int64_t offset, std::int64_t done, std::int64_t pixels) {
                   map_kernels<T>().rows_to_planes(nhwc + done * stride, stride, nchw + offset,
                                                   plane, static_cast<int>(pixels), channels);
                 });
}

template void nchw_to_nhwc(const float*, int, int, std::int64_t, std::int64_t, int, float*, int);
template void nchw_to_nhwc(const float*, int, int, std::int64_t, std::int64_t, int, Bf16*, int);
template void nhwc_to_nchw(const float*, int, int, std::int64_t, std::int64_t, int, float*, int);
template void nhwc_to_nchw(const Bf16*, int, int, std::int64_t, std::int64_t, int, float*, int);

}  // namespace gluondense
