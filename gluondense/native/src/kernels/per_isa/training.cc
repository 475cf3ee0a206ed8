// SPDX-License-Identifier: Apache-2.0
// The kernels that only training uses.
#include "kernels/training_kernels.h"

#include "kernels/per_isa/conv_bf16.h"
#include "kernels/per_isa/conv_tile.h"
#include "kernels/per_isa/doubles.h"
#include "kernels/per_isa/max_pool.h"
#include "kernels/per_isa/training_gemm.h"
#include "kernels/per_isa/transpose.h"
#include "kernels/per_isa/winograd_transforms.h"

namespace gluondense::GLUONDENSE_ISA_NAMESPACE {

void conv_f32(const ConvTile<float>& tile);

namespace {

template <class T>
void channel_sums(const T* x, std::ptrdiff_t stride, int pixels, int channels, double* sums,
                  double* squares) {
  int c = 0;
  for (; c + kWidth / 2 <= channels; c += kWidth / 2) {
    Wide sum = wide_at(sums + c), square = wide_at(squares + c);
    for (int p = 0; p < pixels; ++p) {
      const Wide value = to_double(x + p * stride + c);
      sum += value;
      square += value * value;
    }
    wide_at(sums + c) = sum;
    wide_at(squares + c) = square;
  }
  for (; c < channels; ++c) {
    double sum = sums[c], square = squares[c];
    for (int p = 0; p < pixels; ++p) {
      const double value = value_of(x[p * stride + c]);
      sum += value;
      square += value * value;
    }
    sums[c] = sum;
    squares[c] = square;
  }
}

// One vector of channels from channel c on, or the first `count` of it.
template <class T, bool kAccumulate, bool kWhole>
inline void bn_relu_backward_vector(const BnReluBackward<T>& g, int c, int count = kWidth) {
  const auto read = [=](const auto* p) { return kWhole ? load(p) : load(p, count); };
  const Vector scale = read(g.scale + c), shift = read(g.shift + c), mean = read(g.mean + c);
  // Copies: a store of floats could change the members.
  const T* const* const xs = g.x;
  T* const* const dxs = g.dx;
  const float *dys = g.dy + c, dy_factor = g.dy_factor, slope = g.slope;
  const std::ptrdiff_t dy_stride = g.dy_stride;
  const int pixels = g.pixels;
  Vector sum_dy = {}, sum_dy_xmu = {};
  for (int p = 0; p < pixels; ++p) {
    if (!xs[p]) continue;
    const Vector x = read(xs[p] + c), zero = {};
    const Vector dy = read(dys + p * dy_stride) * dy_factor;
    const Vector d = x * scale + shift > 0 ? dy : slope == 0 ? zero : dy * slope;
    sum_dy += d;
    sum_dy_xmu += d * (x - mean);
    T* const dx = dxs[p] + c;
    const Vector sum = kAccumulate ? read(dx) + d * scale : d * scale;
    if (kWhole) {
      store(sum, dx);
    } else {
      store(sum, dx, count);
    }
  }
  add_wide(sum_dy, g.sum_dy + c, count);
  add_wide(sum_dy_xmu, g.sum_dy_xmu + c, count);
}

template <class T, bool kAccumulate>
void bn_relu_backward_as(const BnReluBackward<T>& g) {
  int c = 0;
  for (; c + kWidth <= g.channels; c += kWidth) {
    bn_relu_backward_vector<T, kAccumulate, true>(g, c);
  }
  if (c < g.channels) {
    bn_relu_backward_vector<T, kAccumulate, false>(g, c, g.channels - c);
  }
}

template <class T>
void bn_relu_backward(const BnReluBackward<T>& args) {
  args.accumulate ? bn_relu_backward_as<T, true>(args) : bn_relu_backward_as<T, false>(args);
}

// Whole vectors, or their first `count` elements with zeros behind them.
template <class T>
inline Vector load_some(const T* p, int count) {
  return count >= kWidth ? load(p) : load(p, count);
}

template <class T>
void add_affine(const T* in, const T* x, const float* scale, const float* shift, T* out,
                int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    store(load(in + c) + (load(x + c) * at(scale + c) + at(shift + c)), out + c);
  }
  if (const int left = channels - c; left > 0) {
    const Vector a = load(scale + c, left), b = load(shift + c, left);
    store(load(in + c, left) + (load(x + c, left) * a + b), out + c, left);
  }
}

template <class T>
void add_relu(const T* x, const float* x_scale, const float* x_shift, const T* y,
              const float* y_scale, const float* y_shift, float slope, T* out, int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vector first = load(x + c) * at(x_scale + c) + at(x_shift + c);
    store(activate(first + (load(y + c) * at(y_scale + c) + at(y_shift + c)), slope), out + c);
  }
  if (const int left = channels - c; left > 0) {
    const Vector first = load(x + c, left) * load(x_scale + c, left) + load(x_shift + c, left);
    const Vector second = load(y + c, left) * load(y_scale + c, left) + load(y_shift + c, left);
    store(activate(first + second, slope), out + c, left);
  }
}

template <class T>
void relu_backward(const T* dy, const T* y, float slope, float* dx, int channels) {
  const auto gradient = [=](Vector d, Vector value) { return value > 0 ? d : d * slope; };
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) store(gradient(load(dy + c), load(y + c)), dx + c);
  if (const int left = channels - c; left > 0) {
    store(gradient(load(dy + c, left), load(y + c, left)), dx + c, left);
  }
}

inline Vector relu(Vector x) { return activate(x, 0); }

template <class T, class Out>
void affine_relu(const T* in, std::ptrdiff_t in_stride, const float* scale, const float* shift,
                 float slope, Out* out, std::ptrdiff_t out_stride, int pixels, int channels) {
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vector a = at(scale + c), b = at(shift + c);
    for (int p = 0; p < pixels; ++p) {
      store(activate(load(in + p * in_stride + c) * a + b, slope), out + p * out_stride + c);
    }
  }
  if (const int left = channels - c; left > 0) {
    const Vector a = load(scale + c, left), b = load(shift + c, left);
    for (int p = 0; p < pixels; ++p) {
      const Vector x = activate(load(in + p * in_stride + c, left) * a + b, slope);
      if constexpr (std::is_same_v<Out, float>) {
        store(x, out + p * out_stride + c, left);
      } else {
        store(x, out + p * out_stride + c);
      }
    }
  }
}

// Writes the pairs of two pixels' channels.
inline void store_pairs(HalfBits even, HalfBits odd, Bf16* out) {
  const Bits pairs = __builtin_convertvector(even, Bits) | __builtin_convertvector(odd, Bits) << 16;
  *reinterpret_cast<Bits*>(out) = pairs;
}

void affine_relu_to_pairs(const Bf16* in, std::ptrdiff_t in_stride, const float* scale,
                          const float* shift, float slope, Bf16* out, std::ptrdiff_t out_stride,
                          int pixels, int channels) {
  for (int c = 0; c < channels; c += kWidth) {
    const Vector a = load_some(scale + c, channels - c), b = load_some(shift + c, channels - c);
    for (int p = 0; p < pixels; p += 2) {
      const Bf16* const x = in + p * in_stride + c;
      const HalfBits even = round_to_bf16(activate(load(x) * a + b, slope));
      const HalfBits odd =
          p + 1 < pixels ? round_to_bf16(activate(load(x + in_stride) * a + b, slope)) : HalfBits{};
      store_pairs(even, odd, out + p * out_stride + 2 * c);
    }
  }
}

void rows_to_pairs(const Bf16* rows, std::ptrdiff_t stride, Bf16* out, int pixels, int channels) {
  for (int p = 0; p < pixels; p += 2) {
    for (int c = 0; c < channels; c += kWidth) {
      const Bf16* const x = rows + p * stride + c;
      const HalfBits even = *reinterpret_cast<const HalfBits*>(x);
      const HalfBits odd =
          p + 1 < pixels ? *reinterpret_cast<const HalfBits*>(x + stride) : HalfBits{};
      store_pairs(even, odd, out + p * stride + 2 * c);
    }
  }
}

template <class T>
void mean_affine_relu(const T* const* in, int count, const float* scale, const float* shift, T* out,
                      int channels) {
  const float factor = 1.0f / count;
  int c = 0;
  for (; c + kWidth <= channels; c += kWidth) {
    const Vector a = at(scale + c), b = at(shift + c);
    Vector sum = {};
    for (int i = 0; i < count; ++i) sum += relu(load(in[i] + c) * a + b) * factor;
    store(sum, out + c);
  }
  if (const int left = channels - c; left > 0) {
    const Vector a = load(scale + c, left), b = load(shift + c, left);
    Vector sum = {};
    for (int i = 0; i < count; ++i) sum += relu(load(in[i] + c, left) * a + b) * factor;
    if constexpr (std::is_same_v<T, float>) {
      store(sum, out + c, left);
    } else {
      store(sum, out + c);
    }
  }
}

template <class T>
void copy_to_f32(const T* in, std::ptrdiff_t in_stride, float* out, std::ptrdiff_t out_stride,
                 int pixels, int channels) {
  for (int p = 0; p < pixels; ++p, in += in_stride, out += out_stride) {
    int c = 0;
    for (; c + kWidth <= channels; c += kWidth) store(load(in + c), out + c);
    if (c < channels) store(load(in + c, channels - c), out + c, channels - c);
  }
}

void winograd_filter_transform(const float* filters, float* out, std::ptrdiff_t plane_stride) {
  for (int n = 0; n < kPanelWidth; n += kWidth) {
    transform_2d<FilterTransform>(
        [&](int y, int x) { return at(filters + (y * 3 + x) * kPanelWidth + n); },
        [&](int y, int x, Vector u) { at(out + (y * 6 + x) * plane_stride + n) = u; });
  }
}

void winograd_filter_transform_adjoint(const float* planes, std::ptrdiff_t plane_stride,
                                       float* d_filters) {
  for (int n = 0; n < kPanelWidth; n += kWidth) {
    transform_2d<FilterTransformAdjoint>(
        [&](int y, int x) { return at(planes + (y * 6 + x) * plane_stride + n); },
        [&](int y, int x, Vector g) { at(d_filters + (y * 3 + x) * kPanelWidth + n) = g; });
  }
}

}  // namespace

// grouped_training.cc
void grouped_conv3x3(const GroupedTrainingTile& tile);
void grouped_conv3x3_backward_filter(const GroupedFilterGradient& args);

extern const TrainingKernels training_table;
const TrainingKernels training_table = {{kMaxTilePixels,
                                         channel_sums<float>,
                                         gemm<float, float>,
                                         gemm<float, float>,
                                         gemm_tn<float>,
                                         bn_relu_backward<float>,
                                         add_affine<float>,
                                         add_relu<float>,
                                         relu_backward<float>,
                                         affine_relu<float, float>,
                                         affine_relu<float, float>,
                                         affine_relu<float, float>,
                                         nullptr,
                                         mean_affine_relu<float>,
                                         copy_to_f32<float>,
                                         planes_to_rows<float>,
                                         rows_to_planes<float>,
                                         conv_f32,
                                         bn_relu_max_pool<float>,
                                         bn_relu_max_pool_sums<float>,
                                         bn_relu_max_pool_backward<float>,
                                         sums_to_pixels<float>},
                                        GLUONDENSE_ISA_NAME,
                                        winograd_filter_transform,
                                        winograd_filter_transform_adjoint,
                                        pixels_to_planes<OutputTransformAdjoint, float>,
                                        {kMaxBf16Pixels,
                                         channel_sums<Bf16>,
                                         gemm<Bf16, float>,
                                         gemm<Bf16, Bf16>,
                                         gemm_tn<Bf16>,
                                         bn_relu_backward<Bf16>,
                                         add_affine<Bf16>,
                                         add_relu<Bf16>,
                                         relu_backward<Bf16>,
                                         affine_relu<Bf16, float>,
                                         affine_relu<Bf16, Bf16>,
                                         affine_relu_to_pairs,
                                         rows_to_pairs,
                                         mean_affine_relu<Bf16>,
                                         copy_to_f32<Bf16>,
                                         planes_to_rows<Bf16>,
                                         rows_to_planes<Bf16>,
                                         conv_bf16<Bf16>,
                                         bn_relu_max_pool<Bf16>,
                                         bn_relu_max_pool_sums<Bf16>,
                                         bn_relu_max_pool_backward<Bf16>,
                                         sums_to_pixels<Bf16>},
                                        kWidth,
                                        grouped_conv3x3,
                                        grouped_conv3x3_backward_filter};

}  // namespace gluondense::GLUONDENSE_ISA_NAMESPACE
