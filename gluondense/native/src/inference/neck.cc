// SPDX-License-Identifier: Apache-2.0
// Steps of detectors' necks, which join maps of different sizes.
#include <algorithm>
#include <cstring>
#include <type_traits>

#include "inference/inference_worker.h"

namespace gluondense {

template <class T>
void InferenceWorker::run_step(const ResampleStep& s) {
  const Placement& out = placement(s.out);
  const std::size_t size = s.in.channels * sizeof(T);
  fill_padding(s.out);
  const auto [first, last] = partition(out.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < out.width; ++x) {
      T* dst = pixel_ptr<T>(s.out, y, x);
      for (int i = 0; i < s.down; ++i) {
        for (int j = 0; j < s.down; ++j, dst += s.in.channels) {
          const int row = (y * s.down + i) / s.up, column = (x * s.down + j) / s.up;
          std::memcpy(dst, pixel_ptr<T>(s.in, row, column), size);
        }
      }
    }
  }
}

template void InferenceWorker::run_step<float>(const ResampleStep&);
template void InferenceWorker::run_step<Bf16>(const ResampleStep&);
template void InferenceWorker::run_step<std::uint8_t>(const ResampleStep&);

template <class T>
void InferenceWorker::run_step(const CombineStep& s) {
  if constexpr (std::is_same_v<T, float>) {
    const Placement& out = placement(s.out);
    fill_padding(s.out);
    const auto [first, last] = partition(out.height);
    for (int y = first; y < last; ++y) {
      for (int x = 0; x < out.width; ++x) {
        float* const dst = pixel_ptr<float>(s.out, y, x);
        const float* const a = pixel_ptr<float>(s.in, y, x);
        const float* const b = pixel_ptr<float>(s.residual, y, x);
        if (s.is_gate) {
          inference_kernels().sigmoid_gate_f32(a, b, dst, s.in.channels);
          continue;
        }
        for (int c = 0; c < s.in.channels; ++c) dst[c] = std::max(a[c], b[c]);
      }
    }
  }
}

template void InferenceWorker::run_step<float>(const CombineStep&);
template void InferenceWorker::run_step<Bf16>(const CombineStep&);
template void InferenceWorker::run_step<std::uint8_t>(const CombineStep&);

}  // namespace gluondense
