#include "runner.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

namespace gluondense {

void Runner::run(const float* in, int image, const std::vector<float*>& outputs) {
  for (std::size_t i = 0; i < program_.steps.size(); ++i) {
    const Step& s = program_.steps[i];
    switch (s.kind) {
      case Step::kLoad: load(s, in); break;
      case Step::kConv:
        winograd_[i].empty() ? conv(s) : winograd(s, winograd_[i].data());
        break;
      case Step::kAffine: affine(s); break;
      case Step::kPool: pool(s); break;
      case Step::kGlobalPool: global_pool(s); break;
      case Step::kCopy: copy(s); break;
      case Step::kStore: store(s, image, outputs[s.output]); break;
    }
    team_.meet();
  }
}

void Runner::clear_border(const View& view) const {
  const Place& p = place(view);
  if (p.border == 0) return;
  const std::size_t line = static_cast<std::size_t>(p.pitch()) * p.channels;
  const std::size_t edge = static_cast<std::size_t>(p.border) * p.channels;
  float* const begin = memory_ + p.offset;
  const auto [first, last] = share(p.height + 2 * p.border);
  for (int y = first; y < last; ++y) {
    float* const row = begin + y * line;
    if (y < p.border || y >= p.border + p.height) {
      std::memset(row, 0, line * sizeof(float));
    } else {
      std::memset(row, 0, edge * sizeof(float));
      std::memset(row + line - edge, 0, edge * sizeof(float));
    }
  }
}

float* Runner::scratch(std::size_t floats) {
  if (scratch_.size() < floats + 16) scratch_.resize(floats + 16);
  return reinterpret_cast<float*>((reinterpret_cast<std::uintptr_t>(scratch_.data()) + 63) / 64 *
                                  64);
}

void Runner::load(const Step& s, const float* in) const {
  const Place& p = place(s.out);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  clear_border(s.out);
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    float* const row = pixel(s.out, y, 0);
    for (int c = 0; c < s.out.channels; ++c) {
      const float* const from = in + c * plane + static_cast<std::size_t>(y) * p.width;
      for (int x = 0; x < p.width; ++x) row[x * p.channels + c] = from[x];
    }
  }
}

void Runner::store(const Step& s, int image, float* out) const {
  const Place& p = place(s.in);
  const std::size_t plane = static_cast<std::size_t>(p.height) * p.width;
  out += image * plane * s.in.channels;
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      const float* const from = pixel(s.in, y, x);
      for (int c = 0; c < s.in.channels; ++c) out[c * plane + y * p.width + x] = from[c];
    }
  }
}

void Runner::affine(const Step& s) const {
  const Place& p = place(s.out);
  clear_border(s.out);
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      kernels().affine(pixel(s.in, y, x), blob_ + s.scale, blob_ + s.shift, s.slope,
                       pixel(s.out, y, x), s.in.channels);
    }
  }
}

namespace {

void gather(float* out, const float* in, int channels, bool max) {
  (max ? kernels().maximum : kernels().sum)(in, out, channels);
}

}  // namespace

void Runner::pool(const Step& s) const {
  const Place &from = place(s.in), &to = place(s.out);
  clear_border(s.out);
  const int channels = s.in.channels;
  const auto [first, last] = share(to.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < to.width; ++x) {
      const int top = y * s.stride[0] - s.pad[0], left = x * s.stride[1] - s.pad[1];
      const int y0 = std::max(top, 0), y1 = std::min(top + s.kernel[0], from.height);
      const int x0 = std::max(left, 0), x1 = std::min(left + s.kernel[1], from.width);
      float* const out = pixel(s.out, y, x);
      std::fill_n(out, channels, s.max ? -std::numeric_limits<float>::infinity() : 0.0f);
      for (int v = y0; v < y1; ++v) {
        for (int u = x0; u < x1; ++u) gather(out, pixel(s.in, v, u), channels, s.max);
      }
      if (!s.max) {
        const int count = s.whole ? s.kernel[0] * s.kernel[1] : (y1 - y0) * (x1 - x0);
        for (int c = 0; c < channels; ++c) out[c] /= static_cast<float>(count);
      }
    }
  }
}

void Runner::global_pool(const Step& s) const {
  if (rank_ != 0) return;
  const Place& from = place(s.in);
  const int channels = s.in.channels;
  float* const out = pixel(s.out, 0, 0);
  std::fill_n(out, channels, s.max ? -std::numeric_limits<float>::infinity() : 0.0f);
  for (int y = 0; y < from.height; ++y) {
    for (int x = 0; x < from.width; ++x) gather(out, pixel(s.in, y, x), channels, s.max);
  }
  if (s.max) return;
  const auto count = static_cast<float>(from.height * from.width);
  for (int c = 0; c < channels; ++c) out[c] /= count;
}

void Runner::copy(const Step& s) const {
  const Place& p = place(s.out);
  clear_border(s.out);
  const auto [first, last] = share(p.height);
  for (int y = first; y < last; ++y) {
    for (int x = 0; x < p.width; ++x) {
      float* const out = pixel(s.out, y, x);
      const float* const in = pixel(s.in, y, x);
      const float* const add = s.add.there() ? pixel(s.add, y, x) : nullptr;
      for (int c = 0; c < s.in.channels; ++c) {
        const float value = add ? in[c] + add[c] : in[c];
        out[c] = std::max(value, s.slope * value);
      }
    }
  }
}

}  // namespace gluondense
