// Calls the kernels of GLUONDENSE_ISA directly and compares them with scalar loops.
//
// Arrays end at a page that cannot be read, or kOverreadBytes in front of it for the kernels that
// may read past the end. Elements around a destination must keep their values.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"

using namespace gluondense;

namespace {

int checks = 0, failures = 0;
std::mt19937 generator(0);

template <class T>
T random_value() {
  if constexpr (std::is_floating_point_v<T>) {
    return std::normal_distribution<T>()(generator);
  } else if constexpr (std::is_same_v<T, Bf16>) {
    return Bf16(std::normal_distribution<float>()(generator));
  } else {
    return static_cast<T>(generator());
  }
}

// The memory of all arrays since the last release: a process has at most 65,530 mappings.
std::vector<std::pair<char*, std::size_t>> mappings;

void release_arrays() {
  for (const auto [memory, size] : mappings) munmap(memory, size);
  mappings.clear();
}

// `count` random elements whose end is at an unreadable page, or kOverreadBytes before it.
template <class T>
T* guarded(std::size_t count, bool overread = false) {
  const std::size_t page = sysconf(_SC_PAGESIZE), slack = overread ? kOverreadBytes : 0;
  const std::size_t size = (count * sizeof(T) + slack + page - 1) / page * page;
  char* const memory = static_cast<char*>(
      mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + size, page, PROT_NONE);
  mappings.emplace_back(memory, size + page);
  std::memset(memory, 0xff, size);  // NaN
  T* const data = reinterpret_cast<T*>(memory + size - slack - count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i) data[i] = random_value<T>();
  return data;
}

void expect(double got, double wanted, double tolerance, const char* kernel) {
  ++checks;
  if (std::abs(got - wanted) <= tolerance * (1 + std::abs(wanted))) return;
  if (++failures < 20) std::printf("%s: %g instead of %g\n", kernel, got, wanted);
}

constexpr float kSlopes[] = {0, 0.1f, 1};

double activate(double x, double slope) { return x > 0 ? x : x * slope; }

double add_and_activate(double x, double residual, double slope, bool add_last) {
  return add_last ? activate(x, slope) + residual : activate(x + residual, slope);
}

// The tolerance of results of type T: a bfloat16 is rounded to 8 bits.
template <class T>
constexpr double kTolerance = std::is_same_v<T, Bf16> ? 5e-3 : 1e-4;

// Weights of an even number of input channels are pairs of them in bfloat16.
template <class T>
double weight_of(const T* weights, int channel, int lane, int lanes) {
  if (std::is_same_v<T, float>) return weights[channel * lanes + lane];
  return weights[(channel / 2 * lanes + lane) * 2 + channel % 2];
}

constexpr int kChannel = 3;  // of the outputs, the first of the tile

template <class In, class Out>
void check_conv(void (*kernel)(const ConvTile<In, Out>&), const char* name, int pixels,
                int channels, int segments, int length, bool with_residual, float slope,
                bool is_gelu = false) {
  const int stride = length + 4, dst_stride = channels + 5;
  const In* const src = guarded<In>((pixels - 1) * stride + (segments - 1) * 2 + length);
  const In* const weights = guarded<In>(segments * length * kPanelWidth);
  const float* const bias = guarded<float>(kPanelWidth);
  const Out* const residual = guarded<Out>(pixels * (channels + kChannel));
  Out* const dst = guarded<Out>(pixels * dst_stride);
  const std::vector<Out> before(dst, dst + pixels * dst_stride);
  std::vector<std::ptrdiff_t> offsets;
  for (int s = 0; s < segments; ++s) offsets.push_back(s * 2);
  std::vector<Out*> dsts;
  std::vector<const Out*> residuals;
  for (int m = 0; m < pixels; ++m) dsts.push_back(dst + m * dst_stride);
  for (int m = 0; m < pixels; ++m) residuals.push_back(residual + m * (channels + kChannel));
  ConvTile<In, Out> tile;
  tile.src = src, tile.src_stride = stride, tile.segment_offsets = offsets.data();
  tile.segments = segments, tile.segment_length = length, tile.bias = bias;
  tile.dst = dsts.data(), tile.residual = with_residual ? residuals.data() : nullptr;
  tile.pixels = pixels, tile.channels = channels, tile.channel = kChannel;
  tile.negative_slope = slope;
  tile.weights = weights, tile.add_last = with_residual && pixels % 2, tile.is_gelu = is_gelu;
  kernel(tile);
  for (int m = 0; m < pixels; ++m) {
    for (int n = 0; n < dst_stride; ++n) {
      double sum = before[m * dst_stride + n];
      const int c = n - kChannel;
      if (c >= 0 && c < channels) {
        sum = bias[c];
        for (int i = 0; i < segments * length; ++i) {
          sum += double{src[m * stride + offsets[i / length] + i % length]} *
                 weight_of(weights, i, c, kPanelWidth);
        }
        const double added = with_residual ? double{residuals[m][n]} : 0;
        sum = add_and_activate(sum, added, slope, tile.add_last);
        if (is_gelu) sum *= std::erfc(-sum / std::sqrt(2.0)) / 2;
      }
      expect(dst[m * dst_stride + n], sum, kTolerance<Out>, name);
    }
  }
}

void check_conv_u8s8(const InferenceKernels& k, int pixels, int channels, int length,
                     bool with_residual, float slope) {
  const int stride = length + 4, dst_stride = channels + 5;
  const auto* const src = guarded<std::uint8_t>(pixels * stride, true);
  const auto* const weights = guarded<std::int8_t>(length * kPanelWidth);
  const float* const bias = guarded<float>(kPanelWidth);
  float* const scale = guarded<float>(kPanelWidth);
  const float* const residual_scale = guarded<float>(kPanelWidth);
  float* const requant_scale = guarded<float>(kPanelWidth);
  const float* const requant_shift = guarded<float>(kPanelWidth);
  for (int i = 0; i < kPanelWidth; ++i) scale[i] *= 1e-3f, requant_scale[i] *= 10;
  const auto* const residual = guarded<std::uint8_t>(pixels * (channels + kChannel), true);
  auto* const dst = guarded<std::uint8_t>(pixels * dst_stride);
  const std::vector<std::uint8_t> before(dst, dst + pixels * dst_stride);
  std::vector<std::uint8_t*> dsts;
  std::vector<const std::uint8_t*> residuals;
  for (int m = 0; m < pixels; ++m) dsts.push_back(dst + m * dst_stride);
  for (int m = 0; m < pixels; ++m) residuals.push_back(residual + m * (channels + kChannel));
  const std::ptrdiff_t offset = 0;
  ConvTile<std::uint8_t> tile;
  tile.src = src, tile.src_stride = stride, tile.segment_offsets = &offset;
  tile.segments = 1, tile.segment_length = length, tile.bias = bias;
  tile.dst = dsts.data(), tile.residual = with_residual ? residuals.data() : nullptr;
  tile.pixels = pixels, tile.channels = channels, tile.channel = kChannel;
  tile.negative_slope = slope;
  tile.weights = weights, tile.scale = scale, tile.residual_scale = residual_scale;
  tile.add_last = with_residual && slope != 0 && pixels % 2;
  tile.requant_scale = slope == 0 ? nullptr : requant_scale, tile.requant_shift = requant_shift;
  k.conv_u8s8(tile);
  for (int m = 0; m < pixels; ++m) {
    for (int i = 0; i < dst_stride; ++i) {
      if (i >= kChannel && i < kChannel + channels) continue;
      expect(dsts[m][i], before[m * dst_stride + i], 0, "conv_u8s8 beyond its channels");
    }
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const int v = lane / 16, i = lane % 16, channel = i / 4 * 8 + v * 4 + i % 4;
      if (channel >= channels) continue;
      std::int64_t sum = 0;
      for (int c = 0; c < length; ++c) {
        sum += src[m * stride + c] * weights[(c / 4 * kPanelWidth + lane) * 4 + c % 4];
      }
      double x = static_cast<double>(sum) * scale[lane] + bias[lane];
      const double added =
          with_residual ? double{residual_scale[lane]} * residuals[m][kChannel + channel] : 0.0;
      if (slope == 0) {
        x += added;
      } else {
        x = add_and_activate(x, added, slope, tile.add_last) * requant_scale[lane] +
            requant_shift[lane];
      }
      const double wanted = std::fmin(std::fmax(std::rint(x), 0), 255),
                   got = dsts[m][kChannel + channel];
      expect(std::abs(got - wanted) <= 1 ? wanted : got, wanted, 0, "conv_u8s8");  // ties
    }
  }
}

void check_elementwise(const InferenceKernels& k, int channels) {
  const float *const x = guarded<float>(channels), *const y = guarded<float>(channels);
  const float *const scale = guarded<float>(channels), *const shift = guarded<float>(channels);
  float* const dst = guarded<float>(channels);
  k.affine_f32(x, scale, shift, 0.1f, dst, channels);
  for (int c = 0; c < channels; ++c) {
    expect(dst[c], activate(double{x[c]} * scale[c] + shift[c], 0.1), 1e-5, "affine_f32");
  }
  for (const float* gate : {scale, shift}) {
    k.sigmoid_gate_f32(scale, gate, dst, channels);
    for (int c = 0; c < channels; ++c) {
      expect(dst[c], scale[c] / (1 + std::exp(-double{gate[c]})), 1e-6, "sigmoid_gate_f32");
    }
  }
  k.gelu_f32(scale, dst, channels);
  for (int c = 0; c < channels; ++c) {
    expect(dst[c], double{scale[c]} * std::erfc(-scale[c] / std::sqrt(2.0)) / 2, 1e-6, "gelu_f32");
  }
  for (bool affine : {false, true}) {
    k.layer_norm_f32(x, 0.25f, affine ? scale : nullptr, affine ? shift : nullptr, dst, channels);
    double mean = 0, variance = 0;
    for (int c = 0; c < channels; ++c) mean += x[c] / double(channels);
    for (int c = 0; c < channels; ++c) variance += std::pow(x[c] - mean, 2) / channels;
    for (int c = 0; c < channels; ++c) {
      const double y = (x[c] - mean) / std::sqrt(variance + 0.25);
      expect(dst[c], affine ? y * scale[c] + shift[c] : y, 1e-5, "layer_norm_f32");
    }
  }
  const float* const pixels[] = {x, y};
  for (bool is_max : {false, true}) {
    k.pool_f32(pixels, 2, is_max, 0.5f, dst, channels);
    for (int c = 0; c < channels; ++c) {
      const double wanted = is_max ? std::fmax(x[c], y[c]) : (double{x[c]} + y[c]) / 2;
      expect(dst[c], wanted, 1e-6, "pool_f32");
    }
  }
  const auto* const q = guarded<std::uint8_t>(channels, true);
  const auto* const p = guarded<std::uint8_t>(channels, true);
  const auto* const mask = guarded<std::uint8_t>(channels, true);
  auto* const bytes = guarded<std::uint8_t>(channels);
  k.bn_relu_u8(q, mask, p, bytes, channels);
  for (int c = 0; c < channels; ++c) {
    expect(bytes[c], std::max((q[c] ^ mask[c]) - p[c], 0), 0, "bn_relu_u8");
  }
  const std::uint8_t* const u8[] = {q, p};
  k.pool_u8(u8, 2, true, bytes, channels);
  for (int c = 0; c < channels; ++c) expect(bytes[c], std::max(q[c], p[c]), 0, "pool_u8");
  k.pool_u8(u8, 2, false, bytes, channels);
  for (int c = 0; c < channels; ++c) {
    expect(bytes[c], std::rint((q[c] + p[c]) / 2.0), 0, "pool_u8 average");
  }
  k.quantize_u8(x, 50, 100, bytes, channels);
  for (int c = 0; c < channels; ++c) {
    const double wanted = std::fmin(std::fmax(std::rint(x[c] * 50 + 100.0), 0), 255);
    expect(std::abs(bytes[c] - wanted) <= 1 ? wanted : bytes[c], wanted, 0, "quantize_u8");
  }
  float *const scales = guarded<float>(channels), *const shifts = guarded<float>(channels);
  for (int c = 0; c < channels; ++c) scales[c] *= 50, shifts[c] += 100;
  k.quantize_channels_u8(x, scales, shifts, bytes, channels);
  for (int c = 0; c < channels; ++c) {
    const double value = std::rint(double{x[c]} * scales[c] + shifts[c]);
    const double wanted = std::fmin(std::fmax(value, 0), 255);
    expect(std::abs(bytes[c] - wanted) <= 1 ? wanted : bytes[c], wanted, 0, "quantize_channels_u8");
  }
  k.dequantize_u8(q, scale, shift, dst, channels);
  for (int c = 0; c < channels; ++c) {
    expect(dst[c], double{scale[c]} * q[c] + shift[c], 1e-5, "dequantize_u8");
  }
}

// Two pixels of bfloat16, whose averages, maxima and affine transforms are rounded.
void check_elementwise_bf16(const Bf16Kernels& k, int channels) {
  const Bf16 *const x = guarded<Bf16>(channels), *const y = guarded<Bf16>(channels);
  const float *const scale = guarded<float>(channels), *const shift = guarded<float>(channels);
  Bf16* const dst = guarded<Bf16>(channels);
  k.affine(x, scale, shift, 0.1f, dst, channels);
  for (int c = 0; c < channels; ++c) {
    expect(dst[c], activate(double{x[c]} * scale[c] + shift[c], 0.1), 5e-3, "affine of bfloat16");
  }
  const Bf16* const pixels[] = {x, y};
  for (bool is_max : {false, true}) {
    k.pool(pixels, 2, is_max, 0.5f, dst, channels);
    for (int c = 0; c < channels; ++c) {
      const double wanted = is_max ? std::fmax(x[c], y[c]) : (double{x[c]} + y[c]) / 2;
      expect(dst[c], wanted, is_max ? 0 : 5e-3, "pool of bfloat16");
    }
  }
}

// Segments of an odd or even number of channels that overlap, with and without normalization.
void check_pack(const Bf16Kernels& k, int segments, int length, bool normalizes) {
  const int packed = (length + 1) / 2 * 2;
  std::vector<std::ptrdiff_t> offsets;
  for (int s = 0; s < segments; ++s) offsets.push_back(s * 3);
  const float* const src = guarded<float>(offsets.back() + length);
  const float *const scale = guarded<float>(length), *const shift = guarded<float>(length);
  Bf16* const dst = guarded<Bf16>((segments - 1) * packed + (length + 15) / 16 * 16);
  k.pack_f32(src, offsets.data(), segments, length, normalizes ? scale : nullptr, shift, dst);
  for (int s = 0; s < segments; ++s) {
    for (int c = 0; c < packed; ++c) {
      float wanted = c < length ? src[offsets[s] + c] : 0;
      if (normalizes && c < length) wanted = std::fmax(wanted * scale[c] + shift[c], 0.0f);
      // A fused product may be rounded to the neighbour.
      expect(dst[s * packed + c], Bf16(wanted), normalizes ? 5e-3 : 0, "pack_f32");
    }
  }
}

// A 3x3 convolution of one input channel a lane, between all of Winograd's transforms.
template <class T, class Input, class Output>
void check_winograd(const TrainingKernels& t, int channels, Input input_transform,
                    Output output_transform) {
  const int lanes = kPanelWidth;
  const T* const src = guarded<T>(36 * lanes);
  const float* const filters = guarded<float>(9 * lanes);
  const float* const bias = guarded<float>(lanes);
  float* const planes = guarded<float>(36 * lanes);
  float* const weights = guarded<float>(36 * lanes);
  input_transform(src, 6 * lanes, lanes, planes, lanes, lanes);
  t.winograd_filter_transform(filters, weights, lanes);
  for (int i = 0; i < 36 * lanes; ++i) planes[i] *= weights[i];
  T* const out = guarded<T>(16 * channels);
  T* dst[16];
  for (int i = 0; i < 16; ++i) dst[i] = out + i * channels;
  output_transform({planes, lanes, bias, dst, nullptr, channels, 0});
  for (int i = 0; i < 16; ++i) {
    for (int c = 0; c < channels; ++c) {
      double sum = bias[c];
      for (int tap = 0; tap < 9; ++tap) {
        const int y = i / 4 + tap / 3, x = i % 4 + tap % 3;
        sum += double{src[(y * 6 + x) * lanes + c]} * filters[tap * lanes + c];
      }
      expect(dst[i][c], activate(sum, 0), kTolerance<T>, "winograd");
    }
  }
}

// Operands of kProductDepth<T> elements a product: `rows` of them, with zeros behind the last.
template <class T>
T* operand(int rows, int columns, int row_stride) {
  constexpr int kDepth = kProductDepth<T>;
  T* const data = guarded<T>((rows + kDepth - 1) / kDepth * kDepth * row_stride);
  for (int n = 0; rows % kDepth && n < columns; ++n) {
    data[(rows - 1) * row_stride + n * kDepth + 1] = T(0.0f);
  }
  return data;
}

// Element (row, column) of such an operand.
template <class T>
double element(const T* operand, int row, int column, int row_stride) {
  constexpr int kDepth = kProductDepth<T>;
  return operand[row / kDepth * kDepth * row_stride + column * kDepth + row % kDepth];
}

// c = a b, of a panel's first columns. c has whole vectors of columns, and no more.
template <class T, class Out, class Kernel>
void check_gemm(Kernel kernel, int rows, int depth, int columns) {
  const int c_stride = (columns + 15) / 16 * 16;
  const int stride = (depth + kProductDepth<T> - 1) / kProductDepth<T> * kProductDepth<T>;
  T* const a = guarded<T>(rows * stride);
  for (int m = 0; m < rows && depth < stride; ++m) a[m * stride + depth] = T(0.0f);
  const T* const b = operand<T>(depth, kPanelWidth, kPanelWidth);
  Out* const c = guarded<Out>(rows * c_stride);
  kernel(a, stride, depth, b, c, c_stride, rows, columns);
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; ++n) {
      double sum = 0;
      for (int i = 0; i < depth; ++i) {
        sum += double{a[m * stride + i]} * element(b, i, n, kPanelWidth);
      }
      expect(c[m * c_stride + n], sum, std::is_same_v<Out, Bf16> ? 5e-3 : 1e-4, "gemm");
    }
  }
}

// c += a^T b. b and c have whole vectors of columns.
template <class T>
void check_gemm_tn(const MapKernels<T>& t, int rows, int columns, int pixels) {
  const int stride = (columns + 15) / 16 * 16;
  const T* const a = operand<T>(pixels, rows, rows);
  const T* const b = operand<T>(pixels, stride, stride);
  float* const c = guarded<float>(rows * stride);
  const std::vector<float> before(c, c + rows * stride);
  t.gemm_tn(a, rows, b, stride, pixels, c, stride, rows, columns);
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < columns; ++n) {
      double sum = before[m * stride + n];
      for (int p = 0; p < pixels; ++p) sum += element(a, p, m, rows) * element(b, p, n, stride);
      expect(c[m * stride + n], sum, 1e-4, "gemm_tn");
    }
  }
}

// Batch normalization and ReLU of three pixels, of which backward skips the second.
template <class T>
void check_batch_norm(const MapKernels<T>& t, int channels, bool accumulate, float slope) {
  constexpr int kPixels = 3;
  constexpr double kRounding = std::is_same_v<T, float> ? 1e-5 : 5e-3;
  const T* const x = guarded<T>(kPixels * channels);
  const float* const dy = guarded<float>(kPixels * channels);
  const float* const scale = guarded<float>(channels);
  const float* const shift = guarded<float>(channels);
  const float* const mean = guarded<float>(channels);
  float* const out = guarded<float>(kPixels * channels);
  double *const first = guarded<double>(channels), *const second = guarded<double>(channels);
  std::fill_n(first, channels, 1.0), std::fill_n(second, channels, 2.0);
  t.channel_sums(x, channels, kPixels, channels, first, second);
  t.affine_relu(x, channels, scale, shift, slope, out, channels, kPixels, channels);
  for (int c = 0; c < channels; ++c) {
    double sum = 1, squares = 2;
    for (int p = 0; p < kPixels; ++p) {
      const double value = x[p * channels + c];
      sum += value, squares += value * value;
      expect(out[p * channels + c], activate(value * scale[c] + shift[c], slope), 1e-5,
             "affine_relu");
    }
    expect(first[c], sum, 1e-12, "channel_sums");
    expect(second[c], squares, 1e-12, "channel_sums of squares");
  }
  T *const row = guarded<T>(channels), *const dx = guarded<T>(kPixels * channels);
  const std::vector<T> before(dx, dx + kPixels * channels);
  t.add_affine(dx, x, scale, shift, row, channels);
  for (int c = 0; c < channels; ++c) {
    expect(row[c], dx[c] + (double{x[c]} * scale[c] + shift[c]), kRounding, "add_affine");
  }
  const T* const other = x + channels;
  t.add_relu(x, scale, shift, other, mean, scale, slope, row, channels);
  t.relu_backward(x, other, slope, out, channels);
  for (int c = 0; c < channels; ++c) {
    const double first_term = double{x[c]} * scale[c] + shift[c];
    const double sum = first_term + (double{other[c]} * mean[c] + scale[c]);
    expect(row[c], activate(sum, slope), kRounding, "add_relu");
    expect(out[c], double{x[c]} * (other[c] > 0 ? 1 : slope), 1e-6, "relu_backward");
  }
  t.copy_to_f32(x, channels, out, channels, kPixels, channels);
  for (int i = 0; i < kPixels * channels; ++i) expect(out[i], x[i], 0, "copy_to_f32");
  const T* const xs[kPixels] = {x, nullptr, x + 2 * channels};
  T* const dxs[kPixels] = {dx, nullptr, dx + 2 * channels};
  std::fill_n(first, channels, 1.0), std::fill_n(second, channels, 2.0);
  t.bn_relu_backward({dy, channels, xs, dxs, scale, shift, mean, first, second, slope, 0.5f,
                      kPixels, channels, accumulate});
  for (int c = 0; c < channels; ++c) {
    double sum = 1, sum_xmu = 2;
    for (int p = 0; p < kPixels; ++p) {
      const int i = p * channels + c;
      const double y = double{x[i]} * scale[c] + shift[c], d = dy[i] * 0.5 * (y > 0 ? 1 : slope);
      double wanted = before[i];
      if (xs[p]) {
        wanted = d * scale[c] + (accumulate ? wanted : 0);
        sum += d, sum_xmu += d * (double{x[i]} - mean[c]);
      }
      expect(dx[i], wanted, kRounding, "bn_relu_backward");
    }
    expect(first[c], sum, 1e-5, "bn_relu_backward's sum of dy");
    expect(second[c], sum_xmu, 1e-5, "bn_relu_backward's sum of dy * (x - mean)");
  }
}

// The operands of gemm and gemm_tn that are made of an odd number of pixels, and their mean.
template <class T>
void check_operands(const MapKernels<T>& t, int channels, float slope) {
  constexpr int kPixels = 3, kRows = 4;
  constexpr double kRounding = std::is_same_v<T, float> ? 1e-5 : 5e-3;
  const int stride = std::is_same_v<T, float> ? channels : (channels + 31) / 32 * 32;
  const T* const x = guarded<T>(kPixels * channels, true);
  const float* const scale = guarded<float>(channels);
  const float* const shift = guarded<float>(channels);
  T *const rows = guarded<T>(kPixels * stride), *const columns = guarded<T>(kRows * stride);
  const auto normalized = [&](int p, int c) {
    return double{x[p * channels + c]} * scale[c] + shift[c];
  };
  const auto wanted = [&](int p, int c) { return activate(normalized(p, c), slope); };
  t.affine_relu_to_rows(x, channels, scale, shift, slope, rows, stride, kPixels, channels);
  t.affine_relu_to_columns(x, channels, scale, shift, slope, columns, stride, kPixels, channels);
  for (int p = 0; p < kPixels; ++p) {
    for (int c = 0; c < channels; ++c) {
      expect(rows[p * stride + c], wanted(p, c), kRounding, "affine_relu_to_rows");
      expect(element(columns, p, c, stride), wanted(p, c), kRounding, "affine_relu_to_columns");
    }
    const int padding = channels % kProductDepth<T>;
    if (padding) expect(rows[p * stride + channels], 0, 0, "affine_relu_to_rows behind the row");
  }
  if (t.rows_to_columns) {
    std::fill_n(columns, kRows * stride, T(NAN));
    t.rows_to_columns(rows, stride, columns, kPixels, channels);
    for (int p = 0; p < kRows; ++p) {
      for (int c = 0; c < channels; ++c) {
        const double row = p < kPixels ? double{rows[p * stride + c]} : 0;
        expect(element(columns, p, c, stride), row, 0, "rows_to_columns");
      }
    }
  }
  const T* const parts[] = {x, x + channels};
  t.mean_affine_relu(parts, 2, scale, shift, rows, channels);
  for (int c = 0; c < channels; ++c) {
    const double sum = activate(normalized(0, c), 0) + activate(normalized(1, c), 0);
    expect(rows[c], sum / 2, kRounding, "mean_affine_relu");
  }
}

// Planes that are further apart than their pixels, and back.
template <class T>
void check_transpose(const MapKernels<T>& t, int pixels, int channels) {
  const int plane = pixels + 3;
  const float* const planes = guarded<float>((channels - 1) * plane + pixels);
  T* const rows = guarded<T>(pixels * channels);
  float* const back = guarded<float>((channels - 1) * plane + pixels);
  const std::vector<float> before(back, back + (channels - 1) * plane + pixels);
  t.planes_to_rows(planes, plane, rows, channels, pixels, channels);
  t.rows_to_planes(rows, channels, back, plane, pixels, channels);
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const T value = rows[p * channels + c];
      expect(value, T(planes[c * plane + p]), 0, "planes_to_rows");
      expect(back[c * plane + p], value, 0, "rows_to_planes");
    }
    for (int p = pixels; p < plane && c + 1 < channels; ++p) {
      expect(back[c * plane + p], before[c * plane + p], 0, "rows_to_planes between planes");
    }
  }
}

// BN-ReLU and max-pooling of all rows of a map, and their backward pass.
template <class T>
void check_max_pool(const MapKernels<T>& t, int height, int width, int channels, float slope) {
  constexpr double kRounding = std::is_same_v<T, float> ? 1e-5 : 5e-3;
  const int out_height = (height + 1) / 2, out_width = (width + 1) / 2;
  const int row = width * channels, out_row = out_width * channels;
  const T* const x = guarded<T>(height * row);
  const float* const dy = guarded<float>(out_height * out_row);
  const float* arrays[5];  // scale, shift, mean, and those of the correction
  for (const float*& array : arrays) array = guarded<float>(channels);
  float* const y = guarded<float>(out_height * out_row);
  std::uint8_t* const argmax = guarded<std::uint8_t>(out_height * out_row);
  std::vector<double> gradient(height * row), first(channels), second(channels);
  for (int oy = 0; oy < out_height; ++oy) {
    BnReluMaxPool<T> args = {{}, channels, width, channels, arrays[0], arrays[1], slope};
    args.y = y + oy * out_row, args.argmax = argmax + oy * out_row;
    for (int i = 0; i < 3; ++i) {
      const int source = 2 * oy - 1 + i;
      args.rows[i] = source >= 0 && source < height ? x + source * row : nullptr;
    }
    t.bn_relu_max_pool(args);
    for (int i = 0; i < out_row; ++i) {
      const int ox = i / channels, c = i % channels;
      double best = slope ? -INFINITY : 0;
      int place = kNoArgmax, pixel = 0;
      for (int k = 0; k < 9; ++k) {
        const int source_y = 2 * oy - 1 + k / 3, source_x = 2 * ox - 1 + k % 3;
        if (source_y < 0 || source_y >= height || source_x < 0 || source_x >= width) continue;
        const int source = source_y * row + source_x * channels + c;
        const float value = std::fma(float(x[source]), arrays[0][c], arrays[1][c]);
        if (value > best) best = value, place = k, pixel = source;
      }
      expect(args.y[i], activate(best, slope), 1e-6, "bn_relu_max_pool");
      expect(args.argmax[i], place, 0, "bn_relu_max_pool's argmax");
      if (place != kNoArgmax) gradient[pixel] += dy[oy * out_row + i] * (best > 0 ? 1 : slope);
    }
  }
  T* const dx = guarded<T>(row);
  double *const sums = guarded<double>(channels), *const products = guarded<double>(channels);
  std::copy_n(sums, channels, first.begin()), std::copy_n(products, channels, second.begin());
  for (int h = 0; h < height; ++h) {
    BnReluMaxPoolBackward<T> args = {x + h * row, {}, {}, {}, channels, width, channels};
    args.mean = arrays[2], args.scale = arrays[0], args.shift = arrays[1], args.slope = slope;
    args.correction_scale = arrays[3], args.correction_shift = arrays[4];
    const int windows = h % 2 && h / 2 + 1 < out_height ? 2 : 1;
    for (int i = 0; i < windows; ++i) {
      args.dy[i] = dy + (h / 2 + i) * out_row, args.argmax[i] = argmax + (h / 2 + i) * out_row;
      args.window_row[i] = i ? 0 : 1 + h % 2;
    }
    t.bn_relu_max_pool_sums(args, sums, products);
    t.bn_relu_max_pool_backward(args, dx);
    for (int i = 0; i < row; ++i) {
      const int c = i % channels;
      const double d = gradient[h * row + i], value = x[h * row + i];
      first[c] += d, second[c] += d * (value - arrays[2][c]);
      expect(dx[i], d * arrays[0][c] + value * arrays[3][c] + arrays[4][c], kRounding,
             "bn_relu_max_pool_backward");
    }
  }
  for (int c = 0; c < channels; ++c) {
    expect(sums[c], first[c], 1e-5, "bn_relu_max_pool_sums of dy");
    expect(products[c], second[c], 1e-5, "bn_relu_max_pool_sums of dy * (x - mean)");
  }
}

// The adjoint F' of a transform F: <F(a), b> = <a, F'(b)>.
void check_adjoints(const InferenceKernels& k, const TrainingKernels& t) {
  const int lanes = kPanelWidth;
  const float* const filters = guarded<float>(9 * lanes);
  const float* const planes = guarded<float>(36 * lanes);
  const float* const dy = guarded<float>(16 * lanes);
  const std::vector<float> zeros(lanes);
  float* const transformed = guarded<float>(36 * lanes);
  float* const d_filters = guarded<float>(9 * lanes);
  float* const d_planes = guarded<float>(36 * lanes);
  float* const y = guarded<float>(16 * lanes);
  float* dst[16];
  for (int i = 0; i < 16; ++i) dst[i] = y + i * lanes;
  t.winograd_filter_transform(filters, transformed, lanes);
  t.winograd_filter_transform_adjoint(planes, lanes, d_filters);
  k.winograd_output_transform({planes, lanes, zeros.data(), dst, nullptr, lanes, 1});
  t.winograd_output_transform_adjoint(dy, 4 * lanes, lanes, d_planes, lanes, lanes);
  for (int c = 0; c < lanes; ++c) {
    const auto dot = [c](const float* a, const float* b, int count) {
      double sum = 0;
      for (int i = 0; i < count; ++i)
        sum += double{a[i * kPanelWidth + c]} * b[i * kPanelWidth + c];
      return sum;
    };
    expect(dot(filters, d_filters, 9), dot(transformed, planes, 36), 1e-4, "filter adjoint");
    expect(dot(planes, d_planes, 36), dot(y, dy, 16), 1e-3, "output adjoint");
  }
}

template <class T>
void check_grouped(void (*kernel)(const GroupedConvTile<T>&), int stride, int pixels,
                   int group_channels) {
  const int width = (pixels - 1) * stride + 3, groups = kGroupedWidth / group_channels;
  const int channels = groups * group_channels;
  const T* const src = guarded<T>(3 * width * kGroupedWidth);
  const T* const weights = guarded<T>(9 * group_channels * kGroupedWidth);
  const float* const bias = guarded<float>(kGroupedWidth);
  const T* const residual = guarded<T>(pixels * channels);
  T* const dst = guarded<T>(pixels * channels);
  GroupedConvTile<T> tile = {src, width * kGroupedWidth, kGroupedWidth, stride, group_channels, {}};
  for (int lane = 0; lane < kGroupedWidth; ++lane) {
    tile.channel_of_lane[lane] = std::min(lane / group_channels, groups - 1) * group_channels;
  }
  tile.weights = weights, tile.bias = bias, tile.dst = dst, tile.residual = residual;
  tile.dst_stride = tile.residual_stride = tile.channels = channels;
  tile.pixels = pixels, tile.negative_slope = 0.1f, tile.add_last = pixels % 2;
  kernel(tile);
  for (int m = 0; m < pixels; ++m) {
    for (int c = 0; c < channels; ++c) {
      double sum = bias[c];
      for (int i = 0; i < 9 * group_channels; ++i) {
        const int y = i / 3 / group_channels, g = i / 3 % group_channels, x = i % 3;
        const int pixel = y * width + m * stride + x;
        // The columns of the filter are inside of a channel, or of a pair of channels.
        const int per = std::is_same_v<T, Bf16> ? 2 : 1;
        const int row = ((y * group_channels / per + g / per) * 3 + x) * per + g % per;
        sum += double{src[pixel * kGroupedWidth + c / group_channels * group_channels + g]} *
               weight_of(weights, row, c, kGroupedWidth);
      }
      sum = add_and_activate(sum, residual[m * channels + c], 0.1f, tile.add_last);
      expect(dst[m * channels + c], sum, kTolerance<T>, "grouped_conv3x3");
    }
  }
}

// Both training kernels of a vector of channels of groups.
void check_grouped_training(const TrainingKernels& t, int stride, int pixels, int group) {
  constexpr int kRows = 2;  // of the filters' gradient
  const int lanes = t.grouped_lanes;
  const GroupedLanes groups = {group, lanes < 2 * group};
  const int outputs = groups.one_group ? std::min(lanes, group) : lanes / group * group;
  const int width = (pixels - 1) * stride + 3, inputs = std::max(group, lanes);
  const std::ptrdiff_t row_stride = width * inputs;
  const float* const src = guarded<float>(((kRows - 1) * stride + 3) * row_stride, true);
  const float* const weights = guarded<float>(9 * group * lanes);
  float* const dst = guarded<float>(pixels * lanes);
  const float* const dy = guarded<float>(kRows * pixels * lanes);
  float* const d_weights = guarded<float>(9 * group * lanes);
  const std::vector<float> before(d_weights, d_weights + 9 * group * lanes);
  const auto at = [=](int y, int x, int lane, int k) {
    const int first = groups.one_group ? 0 : lane / group * group;
    return double{src[y * row_stride + x * inputs + first + k]};
  };
  const float* const skipped = pixels % 2 ? nullptr : src + row_stride;
  t.grouped_conv3x3(
      {{src, skipped, src + 2 * row_stride}, inputs, stride, groups, weights, dst, lanes, pixels});
  t.grouped_conv3x3_backward_filter({src, row_stride, inputs, stride, dy, pixels * lanes, lanes,
                                     kRows, pixels, groups, d_weights});
  for (int lane = 0; lane < outputs; ++lane) {
    std::vector<double> sums(pixels);
    for (int i = 0; i < 9 * group; ++i) {
      const int y = i / 3 / group, k = i / 3 % group, x = i % 3;
      double gradient = before[i * lanes + lane];
      for (int m = 0; m < pixels; ++m) {
        const bool skips = y == 1 && !skipped;
        if (!skips) sums[m] += at(y, m * stride + x, lane, k) * weights[i * lanes + lane];
        for (int row = 0; row < kRows; ++row) {
          gradient +=
              at(row * stride + y, m * stride + x, lane, k) * dy[(row * pixels + m) * lanes + lane];
        }
      }
      expect(d_weights[i * lanes + lane], gradient, 1e-4, "grouped_conv3x3_backward_filter");
    }
    for (int m = 0; m < pixels; ++m) {
      expect(dst[m * lanes + lane], sums[m], 1e-4, "grouped_conv3x3 of training");
    }
  }
}

void check_depthwise(const InferenceKernels& k, int pixels, int channels, int kernel, int stride) {
  const int rows = kernel + 1, width = (pixels - 1) * stride + kernel, dst_stride = channels + 3;
  const float* const src = guarded<float>(rows * width * channels);
  const float* const weights = guarded<float>(rows * kernel * kGroupedWidth);
  const float* const bias = guarded<float>(kGroupedWidth);
  const float* const residual = guarded<float>(pixels * channels);
  float* const dst = guarded<float>((pixels - 1) * dst_stride + channels);
  const std::vector<float> before(dst, dst + (pixels - 1) * dst_stride + channels);
  DepthwiseTile tile = {src, width * channels, channels, stride * channels, {rows, kernel}};
  tile.weights = weights, tile.bias = bias, tile.dst = dst, tile.residual = residual;
  tile.dst_stride = dst_stride, tile.residual_stride = tile.channels = channels;
  tile.pixels = pixels, tile.negative_slope = 0.1f, tile.add_last = pixels % 2;
  k.depthwise_conv_f32(tile);
  for (std::size_t i = 0; i < before.size(); ++i) {
    const int m = i / dst_stride, c = i % dst_stride;
    double sum = before[i];
    if (c < channels) {
      sum = bias[c];
      for (int tap = 0; tap < rows * kernel; ++tap) {
        const int pixel = tap / kernel * width + m * stride + tap % kernel;
        sum += double{src[pixel * channels + c]} * weights[tap * kGroupedWidth + c];
      }
      sum = add_and_activate(sum, residual[m * channels + c], 0.1f, tile.add_last);
    }
    expect(dst[i], sum, 1e-4, "depthwise_conv_f32");
  }
}

// Over the range of its polynomial, beyond it, and of values that are no numbers.
void check_gelu(const InferenceKernels& k) {
  constexpr int kCount = 4001;
  std::vector<float> x(kCount), y(kCount);
  for (int i = 0; i < kCount; ++i) x[i] = 0.005f * (i - kCount / 2);
  k.gelu_f32(x.data(), y.data(), kCount);
  for (int i = 0; i < kCount; ++i) {
    const double wanted = x[i] * std::erfc(-x[i] / std::sqrt(2.0)) / 2;
    expect((y[i] - wanted) / (std::fabs(x[i]) + 1e-30), 0, 2.5e-7, "gelu_f32's relative error");
  }
  const float wild[] = {INFINITY, -INFINITY, 1e30f, -1e30f, NAN};
  k.gelu_f32(wild, y.data(), 5);
  expect(y[0] == INFINITY && std::isnan(y[4]), 1, 0, "gelu_f32 of inf and NaN");
  expect(y[2] / wild[2], 1, 2.5e-7, "gelu_f32 of 1e30");
  expect(y[1], 0, 1e-6, "gelu_f32 of -inf");
  expect(y[3], 0, 1e-6, "gelu_f32 of -1e30");
}

// Lengths of a segment that are less than a tile of AMX, whole tiles and more, and the number of
// segments.
constexpr int kSegments[][2] = {{1, 1}, {1, 3}, {5, 1}, {16, 3}, {19, 1}, {19, 3}, {35, 2}};

void check_low_precision(const InferenceKernels& k, int pixels, int channels) {
  const bool has_bf16 = k.bf16 && pixels <= k.bf16->max_tile_pixels;
  for (const auto [length, segments] : kSegments) {
    const float slope = length == 5 ? 0 : 1;
    const bool with_residual = channels % 2;
    if (has_bf16) {
      check_conv(k.bf16->conv, "conv of bfloat16", pixels, channels, segments, 2 * length,
                 with_residual, slope);
      check_conv(k.bf16->conv_to_f32, "conv_to_f32", pixels, channels, segments, 2 * length,
                 with_residual, slope, !with_residual && slope == 1);
    }
    if (segments == 1 && pixels <= k.max_u8_tile_pixels) {
      check_conv_u8s8(k, pixels, channels, 4 * length, with_residual, length == 5 ? 0.1f : 0);
    }
  }
  release_arrays();
}

}  // namespace

int main() {
  const InferenceKernels& k = inference_kernels();
  const TrainingKernels& t = training_kernels();
  for (int pixels = 1; pixels <= k.max_tile_pixels; ++pixels) {
    for (int channels : {1, 4, 7, 16, 17, 31, 32}) {
      for (int kernel : {1, 3, 7}) {
        check_depthwise(k, pixels, std::min(channels, kGroupedWidth), kernel, 1 + channels % 2);
      }
      for (int length : {1, 5, 19}) {
        for (int segments : {1, 3}) {
          const float slope = length == 5 ? 0 : 1;
          const bool with_residual = channels % 2;
          check_conv(k.conv_f32, "conv_f32", pixels, channels, segments, length, with_residual,
                     slope);
          check_conv(k.conv_f32, "conv_f32", pixels, channels, segments, length, false, 1, true);
          check_conv(t.bf16.conv, "conv of bfloat16, training", pixels, channels, segments,
                     2 * length, with_residual, slope);
        }
      }
    }
    for (int depth : {1, 7, 40}) {
      for (int columns : {1, 12, 16, 17, 32}) {
        check_gemm<float, float>(t.gemm, pixels, depth, columns);
        check_gemm<Bf16, float>(t.bf16.gemm, pixels, depth, columns);
        check_gemm<Bf16, Bf16>(t.bf16.gemm_to_maps, pixels, depth, columns);
      }
    }
    for (int columns : {1, 16, 17, 40}) {
      check_gemm_tn<float>(t, 2 * pixels - 1, columns, 9);
      for (int p : {9, 64, 147}) check_gemm_tn<Bf16>(t.bf16, 5 * pixels - 1, columns, p);
    }
    for (int group_channels : {1, 3, 4, 8, 12, 16, 24, 32}) {
      for (int stride : {1, 2}) check_grouped_training(t, stride, pixels, group_channels);
    }
    for (int group_channels : {1, 3, 4, 16}) {
      if (!k.grouped_conv3x3_f32) break;
      for (int stride : {1, 2}) {
        check_grouped(k.grouped_conv3x3_f32, stride, pixels, group_channels);
        if (!k.bf16 || group_channels % 2) continue;
        check_grouped(k.bf16->grouped_conv3x3, stride, pixels, group_channels);
      }
    }
    release_arrays();
  }
  for (int channels = 1; channels <= 130; ++channels) {
    check_elementwise(k, channels);
    const float slope = kSlopes[channels % 3];
    check_batch_norm<float>(t, channels, channels % 2, slope);
    check_batch_norm<Bf16>(t.bf16, channels, channels % 2, slope);
    check_operands<float>(t, channels, slope);
    check_operands<Bf16>(t.bf16, channels, slope);
    if (!k.bf16) continue;
    check_elementwise_bf16(*k.bf16, channels);
    for (bool normalizes : {false, true}) check_pack(*k.bf16, 3, channels, normalizes);
  }
  for (int pixels : {1, 3, 8, 15, 16, 17, 33}) {
    for (int channels : {1, 4, 7, 16, 31, 48}) {
      check_transpose<float>(t, pixels, channels);
      check_transpose<Bf16>(t.bf16, pixels, channels);
    }
  }
  for (int height = 1; height <= 4; ++height) {
    for (int width : {1, 2, 3, 8, 9}) {
      for (int channels : {16, 48}) {
        for (float slope : {0.0f, 0.1f}) check_max_pool<float>(t, height, width, channels, slope);
        for (float slope : {0.0f, 0.1f})
          check_max_pool<Bf16>(t.bf16, height, width, channels, slope);
      }
    }
  }
  for (int channels : {1, 16, 17, 32}) {
    for (int pixels = 1; pixels <= 18; ++pixels) check_low_precision(k, pixels, channels);
    for (int pixels : {31, 32}) check_low_precision(k, pixels, channels);
  }
  check_gelu(k);
  check_adjoints(k, t);
  for (int channels : {1, 3, 8, 15, 16, 17, 32}) {
    check_winograd<float>(t, channels, k.winograd_input_transform, k.winograd_output_transform);
    if (!k.bf16) continue;
    check_winograd<Bf16>(t, channels, k.bf16->winograd_input_transform,
                         t.bf16.winograd_output_transform);
  }
  std::printf("%s: %d checks, %d failures\n", k.isa, checks, failures);
  return failures != 0 || checks == 0;
}
