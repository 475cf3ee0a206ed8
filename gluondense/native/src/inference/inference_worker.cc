// SPDX-License-Identifier: Apache-2.0
#include "inference/inference_worker.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "memory.h"

namespace gluondense {
namespace {

// The packed pixels of a tile, see packed_stride.
std::size_t packed_tile_bytes(int channels, int pixels) {
  return static_cast<std::size_t>(packed_stride<float>(channels)) * sizeof(float) * pixels;
}

}  // namespace

std::size_t scratch_bytes(const Program& program, const MemoryPlan& plan) {
  const InferenceKernels& k = inference_kernels();
  const int bf16_pixels = k.bf16 ? k.bf16->max_tile_pixels : 0;
  const int pixels = std::max({k.max_tile_pixels, k.max_u8_tile_pixels, bf16_pixels});
  std::size_t most = 0;
  for (const Step& step : program.steps) {
    if (const auto* const load = std::get_if<LoadStep>(&step)) {
      most = std::max(most, static_cast<std::size_t>(plan.placement(load->out).width));
    } else if (const auto* const conv = std::get_if<ConvStep>(&step)) {
      const int channels = conv->in.channels;
      const int packed_taps = multiplies_bf16(*conv, program) ? conv->window.taps() : 1;
      most = std::max(most, conv->out.channels * sizeof(float));  // see InferenceWorker::conv_tile
      // And a row, see pack_tile.
      most = std::max({most, packed_tile_bytes(channels * packed_taps, pixels + 1),
                       WinogradScratch::floats(channels, k.max_tile_pixels) * sizeof(float)});
    }
  }
  return round_up<std::size_t>(most + 2 * kOverreadBytes, kCacheLineBytes);
}

void InferenceWorker::run(const float* image, int index, const std::vector<float*>& outputs) {
  const TileRegisters registers;
  image_ = image, image_index_ = index, outputs_ = &outputs;
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    if (plan_.barrier_before[i]) barrier_.wait();
    conv_ = &convs_[i];
    std::visit(
        [this](const auto& s) {
          const int size = placement(s.in.valid() ? s.in : s.out).element_size;
          size == 1   ? run_step<std::uint8_t>(s)
          : size == 2 ? run_step<Bf16>(s)
                      : run_step<float>(s);
        },
        program_.steps[i]);
  }
  barrier_.wait();  // the next image uses the same memory
}

void InferenceWorker::fill_padding(const ChannelSlice& slice) const {
  const Placement& p = placement(slice);
  if (p.pad == 0) return;
  const FeatureMap& map = program_.maps[slice.map];
  const std::size_t pixel_size = static_cast<std::size_t>(p.pixel_stride) * p.element_size;
  const auto fill = [&](std::uint8_t* begin, std::size_t pixels) {
    if (map.pad_values < 0) {
      std::memset(begin, 0, pixels * pixel_size);
    } else {
      for (std::size_t i = 0; i < pixels; ++i) {
        std::memcpy(begin + i * pixel_size, bytes_ + map.pad_values, map.channels);
      }
    }
  };
  const std::size_t row_size = p.row_pixels() * pixel_size;
  const auto [first, last] = partition(p.height + 2 * p.pad);
  for (std::int64_t y = first; y < last; ++y) {
    std::uint8_t* const row = arena_ + p.offset + y * row_size;
    if (y < p.pad || y >= p.pad + p.height) {
      fill(row, p.row_pixels());
    } else {
      fill(row, p.pad);
      fill(row + row_size - p.pad * pixel_size, p.pad);
    }
  }
}

template <class T>
void InferenceWorker::run_step(const LoadStep& s) {
  const Placement& p = placement(s.out);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  fill_padding(s.out);
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    T* const dst = pixel_ptr<T>(s.out, y, 0);
    for (int c = 0; c < s.out.channels; ++c) {
      const float* const src = image_ + c * plane + static_cast<std::size_t>(y) * p.width;
      if constexpr (std::is_same_v<T, std::uint8_t>) {
        inference_kernels().quantize_u8(src, floats_[s.scale + c], floats_[s.shift + c], scratch_,
                                        p.width);
        for (int x = 0; x < p.width; ++x) dst[x * p.pixel_stride + c] = scratch_[x];
      } else {
        for (int x = 0; x < p.width; ++x) dst[x * p.pixel_stride + c] = static_cast<T>(src[x]);
      }
    }
  }
}

template <class T>
void InferenceWorker::run_step(const StoreStep& s) {
  const Placement& p = placement(s.in);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  float* const output = (*outputs_)[s.output_index] + image_index_ * plane * s.in.channels;
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const T* const src = pixel_ptr<T>(s.in, y, x);
      for (int c = 0; c < s.in.channels; ++c) {
        float value = src[c];
        if (std::is_same_v<T, std::uint8_t>) {
          value = value * floats_[s.scale + c] + floats_[s.shift + c];
        }
        output[c * plane + static_cast<std::size_t>(y) * p.width + x] = value;
      }
    }
  }
}

template <class T>
void InferenceWorker::run_step(const AffineStep& s) {
  if constexpr (std::is_same_v<T, Bf16>) {
    affine<Bf16, Bf16>(s);
  } else {
    program_.is_u8(s.out) ? affine<T, std::uint8_t>(s) : affine<T, float>(s);
  }
}

template <class In, class Out>
void InferenceWorker::affine(const AffineStep& s) {
  constexpr bool kInIsU8 = std::is_same_v<In, std::uint8_t>;
  constexpr bool kOutIsU8 = std::is_same_v<Out, std::uint8_t>;
  const InferenceKernels& k = inference_kernels();
  const Placement& p = placement(s.out);
  const int channels = s.in.channels;
  fill_padding(s.out);
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const In* const src = pixel_ptr<In>(s.in, y, x);
      Out* const dst = pixel_ptr<Out>(s.out, y, x);
      if constexpr (std::is_same_v<In, Bf16>) {
        k.bf16->affine(src, floats_ + s.scale, floats_ + s.shift, s.negative_slope, dst, channels);
      } else if constexpr (kInIsU8 && kOutIsU8) {
        k.bn_relu_u8(src, u8_ptr(s.xor_mask), u8_ptr(s.zero_point), dst, channels);
      } else if constexpr (kInIsU8) {
        k.dequantize_u8(src, floats_ + s.scale, floats_ + s.shift, dst, channels);
      } else if constexpr (kOutIsU8) {
        k.quantize_channels_u8(src, floats_ + s.scale, floats_ + s.shift, dst, channels);
      } else {
        k.affine_f32(src, floats_ + s.scale, floats_ + s.shift, s.negative_slope, dst, channels);
      }
    }
  }
}

template <class T>
void InferenceWorker::run_step(const LayerNormStep& s) {
  const Placement& p = placement(s.out);
  fill_padding(s.out);
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      inference_kernels().layer_norm_f32(pixel_ptr<float>(s.in, y, x), s.eps, floats_ + s.scale,
                                         floats_ + s.shift, pixel_ptr<float>(s.out, y, x),
                                         s.in.channels);
    }
  }
}

template <class T>
void InferenceWorker::run_step(const GateStep& s) {
  const Placement& p = placement(s.out);
  const float* const gate = pixel_ptr<float>(s.gate, 0, 0);
  fill_padding(s.out);
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const float* const src = pixel_ptr<float>(s.in, y, x);
      float* const dst = pixel_ptr<float>(s.out, y, x);
      for (int c = 0; c < s.in.channels; ++c) dst[c] = src[c] * gate[c];
    }
  }
}

template <class T>
void InferenceWorker::run_step(const PoolStep& s) {
  const Placement &in = placement(s.in), &out = placement(s.out);
  const Window& w = s.window;
  fill_padding(s.out);
  const T* pixels[kMaxTaps];
  const auto [first, last] = partition(out.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int top = y * w.stride[0] - w.pad[0], left = x * w.stride[1] - w.pad[1];
      int count = 0;
      for (int v = std::max(top, 0); v < std::min(top + w.kernel[0], in.height); ++v) {
        for (int u = std::max(left, 0); u < std::min(left + w.kernel[1], in.width); ++u) {
          pixels[count++] = pixel_ptr<T>(s.in, v, u);
        }
      }
      T* const dst = pixel_ptr<T>(s.out, y, x);
      if constexpr (std::is_same_v<T, std::uint8_t>) {
        inference_kernels().pool_u8(pixels, count, s.is_max, dst, s.in.channels);
      } else {
        const int divisor = s.count_include_pad ? w.taps() : count;
        const float factor = 1.0f / static_cast<float>(divisor);
        if constexpr (std::is_same_v<T, Bf16>) {
          inference_kernels().bf16->pool(pixels, count, s.is_max, factor, dst, s.in.channels);
        } else {
          inference_kernels().pool_f32(pixels, count, s.is_max, factor, dst, s.in.channels);
        }
      }
    }
  }
}

template <class T>
void InferenceWorker::run_step(const GlobalPoolStep& s) {
  fill_padding(s.out);
  if (rank_ != 0) return;
  const Placement& in = placement(s.in);
  float* const dst = pixel_ptr<float>(s.out, 0, 0);
  const float factor = 1.0f / static_cast<float>(in.height * in.width);
  std::fill_n(dst, s.in.channels, s.is_max ? std::numeric_limits<float>::lowest() : 0);
  for (int y = 0; y < in.height; ++y) {
    for (int x = 0; x < in.width; ++x) {
      const T* const src = pixel_ptr<T>(s.in, y, x);
      for (int c = 0; c < s.in.channels; ++c) {
        const float value = src[c];
        dst[c] = s.is_max ? std::max(dst[c], value) : dst[c] + value;
      }
    }
  }
  for (int c = 0; c < s.in.channels; ++c) {
    const float value = s.is_max ? dst[c] : dst[c] * factor;
    dst[c] = std::is_same_v<T, std::uint8_t> ? value * floats_[s.scale + c] + floats_[s.shift + c]
                                             : value;
  }
}

template <class T>
void InferenceWorker::run_step(const CopyStep& s) {
  constexpr bool kIsU8 = std::is_same_v<T, std::uint8_t>;
  const Placement& p = placement(s.out);
  fill_padding(s.out);
  const auto [first, last] = partition(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      T* const dst = pixel_ptr<T>(s.out, y, x);
      const T* const src = pixel_ptr<T>(s.in, y, x);
      const T* const residual = s.residual.valid() ? pixel_ptr<T>(s.residual, y, x) : nullptr;
      if (!s.has_arithmetic()) {
        std::memcpy(dst, src, s.in.channels * sizeof(T));
        continue;
      }
      if constexpr (std::is_same_v<T, float>) {
        if (s.is_silu) {
          inference_kernels().sigmoid_gate_f32(src, src, dst, s.in.channels);
          continue;
        }
        if (s.is_gelu) {
          inference_kernels().gelu_f32(src, dst, s.in.channels);
          continue;
        }
      }
      for (int c = 0; c < s.in.channels; ++c) {
        float value = src[c];
        if (kIsU8) value = value * floats_[s.scale + c] + floats_[s.shift + c];
        if (residual) value += residual[c] * (kIsU8 ? floats_[s.residual_scale + c] : 1.0f);
        value = s.is_silu           ? value / (1 + std::exp(-value))
                : s.is_hard_sigmoid ? std::min(std::max(value / 6 + 0.5f, 0.0f), 1.0f)
                                    : std::max(value, s.negative_slope * value);
        if constexpr (kIsU8) {
          value = value * floats_[s.requant_scale + c] + floats_[s.requant_shift + c];
          dst[c] = static_cast<T>(std::lrint(std::min(std::max(value, 0.0f), 255.0f)));
        } else {
          dst[c] = static_cast<T>(value);
        }
      }
    }
  }
}

}  // namespace gluondense
