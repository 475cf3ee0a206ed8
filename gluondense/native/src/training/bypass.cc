// SPDX-License-Identifier: Apache-2.0
// The channels that bypass the layers of a cross-stage partial stage. They stay (N, C, H, W), so
// that splitting, pooling and concatenating them is one copy.
#include <algorithm>

#include "training/stage_worker.h"

namespace gluondense {
namespace {

// 2x2 average pooling of a channel; an odd last row or column is ignored.
void average_pool(const float* x, int height, int width, float* y) {
  for (int v = 0; v + 1 < height; v += 2, x += 2 * width, y += width / 2) {
    for (int u = 0; u < width / 2; ++u) {
      y[u] = 0.25f * (x[2 * u] + x[2 * u + 1] + x[width + 2 * u] + x[width + 2 * u + 1]);
    }
  }
}

void average_pool_backward(const float* dy, int height, int width, float* dx) {
  std::fill_n(dx, std::ptrdiff_t{height} * width, 0.0f);
  for (int v = 0; v + 1 < height; v += 2, dx += 2 * width, dy += width / 2) {
    for (int u = 0; u < width / 2; ++u) {
      const float d = 0.25f * dy[u];
      dx[2 * u] = d, dx[2 * u + 1] = d;
      dx[width + 2 * u] = d, dx[width + 2 * u + 1] = d;
    }
  }
}

}  // namespace

template <class T>
template <class Function>
void StageWorker<T>::for_each_bypass_plane(Function f) const {
  const std::ptrdiff_t plane = std::ptrdiff_t{config_.height} * config_.width;
  const std::ptrdiff_t out_plane = std::ptrdiff_t{config_.out_height()} * config_.out_width();
  const auto [first, last] = share(std::int64_t{config_.batch} * config_.bypass);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t image = i / config_.bypass, channel = i % config_.bypass;
    f((image * config_.image_in_channels() + channel) * plane,
      (image * config_.image_out_channels() + channel) * out_plane);
  }
}

template <class T>
void StageWorker<T>::bypass_forward(const float* x, float* y) const {
  for_each_bypass_plane([&](std::ptrdiff_t in, std::ptrdiff_t out) {
    if (config_.pool) return average_pool(x + in, config_.height, config_.width, y + out);
    std::copy_n(x + in, config_.height * config_.width, y + out);
  });
}

template <class T>
void StageWorker<T>::bypass_backward(const float* dy, float* dx) const {
  for_each_bypass_plane([&](std::ptrdiff_t in, std::ptrdiff_t out) {
    if (config_.pool) {
      return average_pool_backward(dy + out, config_.height, config_.width, dx + in);
    }
    std::copy_n(dy + out, config_.height * config_.width, dx + in);
  });
}

template class StageWorker<float>;
template class StageWorker<Bf16>;

}  // namespace gluondense
