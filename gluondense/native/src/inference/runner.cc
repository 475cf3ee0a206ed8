#include "inference/runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace gluondense {

std::size_t scratch_bytes(const Program& program, const Plan& plan) {
  const std::size_t pixels = inference_kernels().max_tile_pixels;
  std::size_t most = 0;
  for (const Step& s : program.steps) {
    if (s.kind == Step::kLoad) {
      most = std::max(most, static_cast<std::size_t>(plan.places[s.out.map].width));
    } else if (s.kind == Step::kConv) {
      const std::size_t channels = s.in.channels;
      most = std::max(most, packed_bytes(channels, pixels));
      most = std::max(most, winograd_bytes(channels, pixels));
    }
  }
  return (most + 2 * kOverreadBytes + 63) / 64 * 64;
}

void Runner::run(const float* in, int image, const std::vector<float*>& outputs) {
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    const Step& s = program_.steps[i];
    if (plan_.meets[i]) barrier_.wait();
    const bool bytes = program_.maps[s.in.there() ? s.in.map : s.out.map].bytes;
    if (s.kind == Step::kLoad) {
      bytes ? load<std::uint8_t>(s, in) : load<float>(s, in);
    } else if (s.kind == Step::kStore) {
      bytes ? store<std::uint8_t>(s, image, outputs[s.output]) : store<float>(s, image, outputs[s.output]);
    } else if (!winograd_[i].empty()) {
      winograd(s, winograd_[i].data());
    } else if (!grouped_[i].empty()) {
      grouped(s, grouped_[i].data());
    } else if (!pairs_[i].empty()) {
      conv<float>(s, pairs_[i].data());
    } else {
      bytes ? run_step<std::uint8_t>(s) : run_step<float>(s);
    }
  }
  barrier_.wait();  // the next image has the same memory
}

template <class T>
void Runner::run_step(const Step& s) {
  switch (s.kind) {
    case Step::kConv: conv<T>(s); break;
    case Step::kAffine: affine<T>(s); break;
    case Step::kPool: pool<T>(s); break;
    case Step::kGlobalPool: global_pool<T>(s); break;
    case Step::kCopy: copy<T>(s); break;
    case Step::kLoad:
    case Step::kStore: break;
  }
}

// From planes to channels side by side.
template <class T>
void Runner::load(const Step& s, const float* in) {
  const Place& p = place(s.out);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  clear_border<T>(s.out);
  std::uint8_t* const line = scratch_;
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    T* const row = pixel<T>(s.out, y, 0);
    for (int c = 0; c < s.out.channels; ++c) {
      const float* const from = in + c * plane + static_cast<std::size_t>(y) * p.width;
      if constexpr (std::is_same_v<T, std::uint8_t>) {
        inference_kernels().quantize_u8(from, blob_[s.scale + c], blob_[s.shift + c], line, p.width);
        for (int x = 0; x < p.width; ++x) row[x * p.step + c] = line[x];
      } else {
        for (int x = 0; x < p.width; ++x) row[x * p.step + c] = from[x];
      }
    }
  }
}

// And back.
template <class T>
void Runner::store(const Step& s, int image, float* out) const {
  const Place& p = place(s.in);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  out += image * plane * s.in.channels;
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const T* const from = pixel<T>(s.in, y, x);
      for (int c = 0; c < s.in.channels; ++c) {
        float value = from[c];
        if (std::is_same_v<T, std::uint8_t>) value = value * blob_[s.scale + c] + blob_[s.shift + c];
        out[c * plane + y * p.width + x] = value;
      }
    }
  }
}

template <class T>
void Runner::affine(const Step& s) const {
  const Place& p = place(s.out);
  clear_border<T>(s.out);
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const T* const in = pixel<T>(s.in, y, x);
      T* const out = pixel<T>(s.out, y, x);
      if constexpr (std::is_same_v<T, std::uint8_t>) {
        inference_kernels().bn_relu_u8(in, unsigned_bytes(s.flip), unsigned_bytes(s.zero), out, s.in.channels);
      } else {
        inference_kernels().affine_f32(in, blob_ + s.scale, blob_ + s.shift, s.slope, out, s.in.channels);
      }
    }
  }
}

template <class T>
void Runner::pool(const Step& s) const {
  const Place &from = place(s.in), &to = place(s.out);
  clear_border<T>(s.out);
  const int channels = s.in.channels;
  const T* pixels[kMostTaps];
  const auto [first, last] = share(to.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < to.width; ++x) {
      const int top = y * s.stride[0] - s.pad[0], left = x * s.stride[1] - s.pad[1];
      int count = 0;
      for (int v = std::max(top, 0); v < std::min(top + s.kernel[0], from.height); ++v) {
        for (int u = std::max(left, 0); u < std::min(left + s.kernel[1], from.width); ++u) {
          pixels[count++] = pixel<T>(s.in, v, u);
        }
      }
      T* const out = pixel<T>(s.out, y, x);
      if constexpr (std::is_same_v<T, std::uint8_t>) {
        inference_kernels().pool_u8(pixels, count, s.max, out, channels);
      } else {
        const int size = s.whole ? s.kernel[0] * s.kernel[1] : count;
        inference_kernels().pool_f32(pixels, count, s.max, 1.0f / static_cast<float>(size), out, channels);
      }
    }
  }
}

// Always to floats.
template <class T>
void Runner::global_pool(const Step& s) const {
  clear_border<float>(s.out);
  if (rank_ != 0) return;
  const Place& from = place(s.in);
  float* const out = pixel<float>(s.out, 0, 0);
  const float share = 1.0f / static_cast<float>(from.height * from.width);
  std::fill_n(out, s.in.channels, s.max ? std::numeric_limits<float>::lowest() : 0);
  for (int y = 0; y < from.height; ++y) {
    for (int x = 0; x < from.width; ++x) {
      const T* const in = pixel<T>(s.in, y, x);
      for (int c = 0; c < s.in.channels; ++c) {
        const float value = in[c];
        out[c] = s.max ? std::max(out[c], value) : out[c] + value;
      }
    }
  }
  for (int c = 0; c < s.in.channels; ++c) {
    const float value = s.max ? out[c] : out[c] * share;
    out[c] = std::is_same_v<T, std::uint8_t> ? value * blob_[s.scale + c] + blob_[s.shift + c] : value;
  }
}

// Where nothing else takes over an addition or an activation, it is done here, too.
template <class T>
void Runner::copy(const Step& s) const {
  const Place& p = place(s.out);
  clear_border<T>(s.out);
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      T* const out = pixel<T>(s.out, y, x);
      const T* const in = pixel<T>(s.in, y, x);
      const T* const add = s.add.there() ? pixel<T>(s.add, y, x) : nullptr;
      if (!computes(s)) {
        std::memcpy(out, in, s.in.channels * sizeof(T));
        continue;
      }
      for (int c = 0; c < s.in.channels; ++c) {
        float value = in[c];
        if (std::is_same_v<T, std::uint8_t>) value = value * blob_[s.scale + c] + blob_[s.shift + c];
        if (add) value += add[c] * (std::is_same_v<T, std::uint8_t> ? blob_[s.add_scale + c] : 1.0f);
        value = std::max(value, s.slope * value);
        if constexpr (std::is_same_v<T, std::uint8_t>) {
          value = value * blob_[s.out_scale + c] + blob_[s.out_shift + c];
          out[c] = static_cast<std::uint8_t>(std::lrint(std::min(std::max(value, 0.0f), 255.0f)));
        } else {
          out[c] = value;
        }
      }
    }
  }
}

}  // namespace gluondense
