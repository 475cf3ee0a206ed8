// Calls the kernels of GLUONDENSE_ISA directly and compares them with scalar loops.
//
// Arrays end at a page that cannot be read, or kOverreadBytes in front of it for the kernels that
// may read past the end. Elements around a destination must keep their values.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"

using namespace gluondense;

namespace {

int checks = 0, failures = 0;
std::mt19937 generator(0);

template <class T>
T random_value() {
  if constexpr (std::is_same_v<T, float>) return std::normal_distribution<float>()(generator);
  return static_cast<T>(generator());
}

// `count` random elements whose end is at an unreadable page, or kOverreadBytes before it.
template <class T>
T* guarded(std::size_t count, bool overread = false) {
  const std::size_t page = sysconf(_SC_PAGESIZE), slack = overread ? kOverreadBytes : 0;
  const std::size_t size = (count * sizeof(T) + slack + page - 1) / page * page;
  char* const memory = static_cast<char*>(
      mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(memory + size, page, PROT_NONE);
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

double activate(double x, double slope) { return x > 0 ? x : x * slope; }

void check_conv_f32(const InferenceKernels& k, int pixels, int channels, int segments, int length,
                    bool with_residual, float slope) {
  const int stride = length + 3, dst_stride = channels + 5;
  const float* const src = guarded<float>((pixels - 1) * stride + (segments - 1) * 2 + length);
  const float* const weights = guarded<float>(segments * length * kPanelWidth);
  const float* const bias = guarded<float>(kPanelWidth);
  const float* const residual = guarded<float>(pixels * channels);
  float* const dst = guarded<float>(pixels * dst_stride);
  const std::vector<float> before(dst, dst + pixels * dst_stride);
  std::vector<std::ptrdiff_t> offsets;
  for (int s = 0; s < segments; ++s) offsets.push_back(s * 2);
  std::vector<float*> dsts;
  std::vector<const float*> residuals;
  for (int m = 0; m < pixels; ++m) dsts.push_back(dst + m * dst_stride);
  for (int m = 0; m < pixels; ++m) residuals.push_back(residual + m * channels);
  ConvTile<float> tile;
  tile.src = src, tile.src_stride = stride, tile.segment_offsets = offsets.data();
  tile.segments = segments, tile.segment_length = length, tile.bias = bias;
  tile.dst = dsts.data(), tile.residual = with_residual ? residuals.data() : nullptr;
  tile.pixels = pixels, tile.channels = channels, tile.negative_slope = slope;
  tile.weights = weights;
  k.conv_f32(tile);
  for (int m = 0; m < pixels; ++m) {
    for (int n = 0; n < dst_stride; ++n) {
      double sum = before[m * dst_stride + n];
      if (n < channels) {
        sum = bias[n] + (with_residual ? residuals[m][n] : 0);
        for (int i = 0; i < segments * length; ++i) {
          sum += double{src[m * stride + offsets[i / length] + i % length]} *
                 weights[i * kPanelWidth + n];
        }
        sum = activate(sum, slope);
      }
      expect(dst[m * dst_stride + n], sum, 1e-4, "conv_f32");
    }
  }
}

void check_conv_u8s8(const InferenceKernels& k, int pixels, int channels, int length) {
  const int stride = length + 4, dst_stride = channels + 5;
  const auto* const src = guarded<std::uint8_t>(pixels * stride, true);
  const auto* const weights = guarded<std::int8_t>(length * kPanelWidth);
  const float* const bias = guarded<float>(kPanelWidth);
  float* const scale = guarded<float>(kPanelWidth);
  for (int i = 0; i < kPanelWidth; ++i) scale[i] *= 1e-3f;
  auto* const dst = guarded<std::uint8_t>(pixels * dst_stride);
  const std::vector<std::uint8_t> before(dst, dst + pixels * dst_stride);
  std::vector<std::uint8_t*> dsts;
  for (int m = 0; m < pixels; ++m) dsts.push_back(dst + m * dst_stride);
  const std::ptrdiff_t offset = 0;
  ConvTile<std::uint8_t> tile;
  tile.src = src, tile.src_stride = stride, tile.segment_offsets = &offset;
  tile.segments = 1, tile.segment_length = length, tile.bias = bias;
  tile.dst = dsts.data(), tile.residual = nullptr;
  tile.pixels = pixels, tile.channels = channels, tile.negative_slope = 0;
  tile.weights = weights, tile.scale = scale;
  tile.residual_scale = tile.requant_scale = tile.requant_shift = nullptr;
  k.conv_u8s8(tile);
  for (int m = 0; m < pixels; ++m) {
    for (int i = channels; i < dst_stride; ++i) {
      expect(dsts[m][i], before[m * dst_stride + i], 0, "conv_u8s8 beyond its channels");
    }
    for (int lane = 0; lane < kPanelWidth; ++lane) {
      const int v = lane / 16, i = lane % 16, channel = i / 4 * 8 + v * 4 + i % 4;
      if (channel >= channels) continue;
      std::int64_t sum = 0;
      for (int c = 0; c < length; ++c) {
        sum += src[m * stride + c] * weights[(c / 4 * kPanelWidth + lane) * 4 + c % 4];
      }
      const double x = std::rint(static_cast<double>(sum) * scale[lane] + bias[lane]);
      const double wanted = std::fmin(std::fmax(x, 0), 255), got = dsts[m][channel];
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
  k.quantize_u8(x, 50, 100, bytes, channels);
  for (int c = 0; c < channels; ++c) {
    const double wanted = std::fmin(std::fmax(std::rint(x[c] * 50 + 100.0), 0), 255);
    expect(std::abs(bytes[c] - wanted) <= 1 ? wanted : bytes[c], wanted, 0, "quantize_u8");
  }
}

// A 3x3 convolution of one input channel a lane, between all of Winograd's transforms.
void check_winograd(const InferenceKernels& k, const TrainingKernels& t, int channels) {
  const int lanes = kPanelWidth;
  const float* const src = guarded<float>(36 * lanes);
  const float* const filters = guarded<float>(9 * lanes);
  const float* const bias = guarded<float>(lanes);
  float* const planes = guarded<float>(36 * lanes);
  float* const weights = guarded<float>(36 * lanes);
  k.winograd_input_transform(src, 6 * lanes, lanes, planes, lanes, lanes);
  t.winograd_filter_transform(filters, weights, lanes);
  for (int i = 0; i < 36 * lanes; ++i) planes[i] *= weights[i];
  float* const out = guarded<float>(16 * channels);
  float* dst[16];
  for (int i = 0; i < 16; ++i) dst[i] = out + i * channels;
  k.winograd_output_transform({planes, lanes, bias, dst, nullptr, channels, 0});
  for (int i = 0; i < 16; ++i) {
    for (int c = 0; c < channels; ++c) {
      double sum = bias[c];
      for (int tap = 0; tap < 9; ++tap) {
        const int y = i / 4 + tap / 3, x = i % 4 + tap % 3;
        sum += double{src[(y * 6 + x) * lanes + c]} * filters[tap * lanes + c];
      }
      expect(dst[i][c], activate(sum, 0), 1e-4, "winograd");
    }
  }
}

void check_gemm(const TrainingKernels& t, int rows, int depth) {
  const float* const a = guarded<float>(rows * depth);
  const float* const b = guarded<float>(depth * kPanelWidth);
  float* const c = guarded<float>(rows * kPanelWidth);
  t.gemm(a, depth, depth, b, c, kPanelWidth, rows);
  for (int m = 0; m < rows; ++m) {
    for (int n = 0; n < kPanelWidth; ++n) {
      double sum = 0;
      for (int i = 0; i < depth; ++i) sum += double{a[m * depth + i]} * b[i * kPanelWidth + n];
      expect(c[m * kPanelWidth + n], sum, 1e-4, "gemm");
    }
  }
}

}  // namespace

int main() {
  const InferenceKernels& k = inference_kernels();
  const TrainingKernels& t = training_kernels();
  for (int pixels = 1; pixels <= k.max_tile_pixels; ++pixels) {
    for (int channels : {1, 4, 7, 16, 17, 31, 32}) {
      for (int length : {1, 5, 19}) {
        for (int segments : {1, 3}) {
          check_conv_f32(k, pixels, channels, segments, length, channels % 2, length == 5 ? 0 : 1);
        }
        check_conv_u8s8(k, pixels, channels, 4 * length);
      }
    }
    for (int depth : {1, 7, 40}) check_gemm(t, pixels, depth);
  }
  for (int channels = 1; channels <= 130; ++channels) check_elementwise(k, channels);
  for (int channels : {1, 3, 8, 15, 16, 17, 32}) check_winograd(k, t, channels);
  std::printf("%s: %d checks, %d failures\n", k.isa, checks, failures);
  return failures != 0 || checks == 0;
}
