// SPDX-License-Identifier: Apache-2.0
// The kernels of inference: one table of functions for each instruction set.
//
// Feature maps are stored as (N, H, W, C): the channels of a pixel are contiguous, and a
// concatenation is a range of channels in a wider pixel. Strides and offsets are in elements,
// floats or bytes. "No over-read" means that a kernel touches only the elements that its contract
// names; the others read at most kOverreadBytes past the end. A destination aliases nothing else,
// unless a contract says so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace gluondense {

// Output channels of a panel of filters, for every vector width. Python packs them (BLOCK in
// native/program/packing.py).
constexpr int kPanelWidth = 32;

// Readable bytes that every array has behind its last element.
constexpr int kOverreadBytes = 64;

// Limits of validated programs: taps of a convolution's or pooling's window, and pixels of an
// average over bytes, whose sum must fit into 16 bits.
constexpr int kMaxTaps = 1024, kMaxAveragedBytes = 257;

// A bfloat16: the upper half of a float.
struct Bf16 {
  std::uint16_t bits;

  Bf16() = default;
  // Rounds to nearest, ties to even.
  explicit Bf16(float value) {
    std::uint32_t x;
    __builtin_memcpy(&x, &value, sizeof x);
    bits = static_cast<std::uint16_t>(value != value ? x >> 16 | 0x40
                                                     : (x + 0x7fff + (x >> 16 & 1)) >> 16);
  }
  operator float() const {
    const std::uint32_t x = std::uint32_t{bits} << 16;
    float value;
    __builtin_memcpy(&value, &x, sizeof value);
    return value;
  }
};

// One panel of output channels at `pixels` neighbouring pixels:
//   dst[m][n] = act(bias[n] + sum over segments s and k < segment_length of
//                   src[m * src_stride + segment_offsets[s] + k] * weights[s][k][n] +
//                   residual[m][n])
// An implicit gemm: a segment is a contiguous range of inputs that all pixels read, such as the
// channels of one tap.
template <class In, class Out>
struct ConvTileBase {
  const In* src;                          // first pixel, first tap
  std::ptrdiff_t src_stride;              // from one output pixel's inputs to the next one's
  const std::ptrdiff_t* segment_offsets;  // (segments)
  int segments, segment_length;
  const float* bias;           // (kPanelWidth)
  Out* const* dst;             // (pixels): each pixel's output channels
  const Out* const* residual;  // (pixels), or null; may be equal to dst
  int pixels, channels;        // 1 <= pixels <= the kernel's most, 1 <= channels <= kPanelWidth
  int channel = 0;             // of the pixels' channels, the first of the tile
  float negative_slope;        // at most 1; of the activation below 0: 1 is the identity, 0 is ReLU
  bool add_last = false;       // whether the residual is added after the activation
  bool is_gelu = false;        // into floats, without a residual: instead of the slope
};

template <class In, class Out = In>
struct ConvTile;

template <>
struct ConvTile<float> : ConvTileBase<float, float> {
  const float* weights;  // (segments * segment_length, kPanelWidth)
};

// Products of bfloat16 are summed in float32. src_stride, the offsets and segment_length are even.
template <class Out>
struct ConvTile<Bf16, Out> : ConvTileBase<Bf16, Out> {
  const Bf16* weights;  // (segments * segment_length / 2, kPanelWidth, 2)
};

// A byte q of a channel represents scale * q + offset. The integer sums become floats,
// sum * scale + bias (+ residual * residual_scale), and then bytes, rounded and clipped to 0..255.
// The clipping is the ReLU; for a slope other than 0 and 1, or with add_last, the floats are real
// values that the activation and then requant_scale and requant_shift are applied to.
//
// The arrays of kPanelWidth floats are in the order of the sums: lane i of vector v is channel
// i / 4 * 8 + v * 4 + i % 4 (COLUMNS in native/program/packing.py). The weights are (segments *
// segment_length / 4, 2, 16, 4), the two middle dimensions in that order.
template <>
struct ConvTile<std::uint8_t> : ConvTileBase<std::uint8_t, std::uint8_t> {
  const std::int8_t* weights;
  const float* scale;  // (kPanelWidth), as the three below
  const float* residual_scale;
  const float* requant_scale;  // null for slopes 0 and 1, unless add_last
  const float* requant_shift;
};

// Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv:1509.09308, section 4.3): 4x4
// outputs of a 3x3 convolution in 36 products instead of 144, between two linear transforms.
constexpr int kWinogradOutputTile = 4, kWinogradInputTile = 6, kWinogradPlanes = 36;

// 4x4 output pixels of one panel.
template <class T>
struct WinogradOutputTile {
  const float* src;             // (36, kPanelWidth): the sums of each plane
  std::ptrdiff_t plane_stride;  // from one plane to the next
  const float* bias;            // (kPanelWidth)
  T* const* dst;                // 16 pixels; null skips a pixel
  const T* const* residual;     // 16 pixels, or null
  int channels;
  float negative_slope;
  bool add_last = false;
};

// `pixels` neighbouring output pixels of one row of a 3x3 convolution with groups of few channels.
// One vector holds the output channels; each lane's group reads `group_channels` of the 16 input
// channels at src, and a permutation brings them to the lane.
constexpr int kGroupedWidth = 16;

template <class T>
struct GroupedConvTile {
  const T* src;                               // first pixel, first tap
  std::ptrdiff_t src_row_stride, src_stride;  // to the next row and pixel of the input
  int stride;                                 // 1 or 2, of the convolution
  int group_channels;                         // of the input; even in bfloat16
  int channel_of_lane[kGroupedWidth];         // first input channel of each lane's group
  const T* weights;   // (3, group_channels, 3, kGroupedWidth); in bfloat16, as pairs of channels
  const float* bias;  // (kGroupedWidth)
  T* dst;
  const T* residual;  // null for none
  std::ptrdiff_t dst_stride, residual_stride;
  int pixels, channels;
  float negative_slope;
  bool add_last = false;
};

// `pixels` neighbouring output pixels of one row of a convolution of each channel, for at most
// kGroupedWidth channels.
struct DepthwiseTile {
  const float* src;               // first pixel, first tap
  std::ptrdiff_t src_row_stride;  // to the next row of taps
  std::ptrdiff_t src_tap_stride;  // to the next tap of a row
  std::ptrdiff_t src_stride;      // from one output pixel's inputs to the next one's
  int kernel[2];                  // height, width
  const float* weights;           // (KH, KW, kGroupedWidth)
  const float* bias;              // (kGroupedWidth)
  float* dst;
  const float* residual;  // null for none
  std::ptrdiff_t dst_stride, residual_stride;
  int pixels, channels;
  float negative_slope;
  bool add_last = false;
};

// Kernels over maps of bfloat16, and into them.
struct Bf16Kernels {
  // Of the tiles of conv and conv_to_f32, which have more pixels with AMX.
  int max_tile_pixels;
  // Products of bfloat16 in the time of one of float32.
  int speedup;
  // Whether conv is faster than grouped_conv3x3, for all groups of a panel as one.
  bool multiplies_groups;
  // See ConvTile. No over-read.
  void (*conv)(const ConvTile<Bf16>& tile);
  void (*conv_to_f32)(const ConvTile<Bf16, float>& tile);
  // dst[s][k] = src[offsets[s] + k], rounded; max(0, src * scale[k] + shift[k]) where scale is not
  // null. NaN propagates. No over-read. A segment of dst is `length` rounded up to an even number;
  // writes whole blocks of 16 elements, with zeros behind each segment.
  void (*pack_f32)(const float* src, const std::ptrdiff_t* offsets, int segments, int length,
                   const float* scale, const float* shift, Bf16* dst);
  // dst[c] = act(src[c] * scale[c] + shift[c]), as affine_f32. No over-read.
  void (*affine)(const Bf16* src, const float* scale, const float* shift, float negative_slope,
                 Bf16* dst, int channels);
  // As the kernels of these names over floats.
  void (*grouped_conv3x3)(const GroupedConvTile<Bf16>& tile);
  void (*pool)(const Bf16* const* pixels, int count, bool is_max, float factor, Bf16* dst,
               int channels);
  void (*winograd_input_transform)(const Bf16* src, std::ptrdiff_t row_stride,
                                   std::ptrdiff_t pixel_stride, float* planes,
                                   std::ptrdiff_t plane_stride, int channels);
  void (*winograd_output_transform)(const WinogradOutputTile<Bf16>& tile);
};

struct InferenceKernels {
  const char* isa;
  int max_tile_pixels;
  int max_u8_tile_pixels;  // of conv_u8s8
  // Null where no registers outlive a kernel: see TileRegisters.
  void (*reset_tiles)();
  // See ConvTile. No over-read.
  void (*conv_f32)(const ConvTile<float>& tile);
  // See ConvTile. segment_length is a multiple of 4; inputs up to that multiple are read and need
  // zero weights. Reads 32 bytes of each residual.
  void (*conv_u8s8)(const ConvTile<std::uint8_t>& tile);
  // dst[c] = act(src[c] * scale[c] + shift[c]). negative_slope is at most 1. No over-read.
  void (*affine_f32)(const float* src, const float* scale, const float* shift, float negative_slope,
                     float* dst, int channels);
  // dst[c] = src[c] / (1 + exp(-gate[c])); SiLU where gate is src. No over-read.
  void (*sigmoid_gate_f32)(const float* src, const float* gate, float* dst, int channels);
  // dst[c] = src[c] * Phi(src[c]), see gelu() in per_isa/simd.h. dst may be src. No over-read.
  void (*gelu_f32)(const float* src, float* dst, int channels);
  // dst[c] = (src[c] - mean) / sqrt(variance + eps) * scale[c] + shift[c], or without the last two
  // where they are null. No over-read.
  void (*layer_norm_f32)(const float* src, float eps, const float* scale, const float* shift,
                         float* dst, int channels);
  // dst[c] = max(0, (src[c] ^ xor_mask[c]) - zero_point[c]): batch normalization and ReLU whose
  // scale is folded into the next weights. Reads whole vectors of 64 bytes of all three.
  void (*bn_relu_u8)(const std::uint8_t* src, const std::uint8_t* xor_mask,
                     const std::uint8_t* zero_point, std::uint8_t* dst, int channels);
  // dst[i] = round(src[i] * scale + shift), clipped to 0..255. No over-read.
  void (*quantize_u8)(const float* src, float scale, float shift, std::uint8_t* dst, int count);
  // The same with a scale and shift for each channel, and dst[c] = src[c] * scale[c] + shift[c].
  // No over-read.
  void (*quantize_channels_u8)(const float* src, const float* scale, const float* shift,
                               std::uint8_t* dst, int channels);
  void (*dequantize_u8)(const std::uint8_t* src, const float* scale, const float* shift, float* dst,
                        int channels);
  // dst[c] = max over pixels[i][c], or factor times their sum. count >= 1. No over-read.
  void (*pool_f32)(const float* const* pixels, int count, bool is_max, float factor, float* dst,
                   int channels);
  // Maximum, or average of at most kMaxAveragedBytes pixels. Reads whole vectors of 64 bytes.
  void (*pool_u8)(const std::uint8_t* const* pixels, int count, bool is_max, std::uint8_t* dst,
                  int channels);
  // B^T d B of 6x6 input pixels: plane i of 36 is written to planes + i * plane_stride. Channels
  // are rounded up to whole vectors, in src and in planes.
  void (*winograd_input_transform)(const float* src, std::ptrdiff_t row_stride,
                                   std::ptrdiff_t pixel_stride, float* planes,
                                   std::ptrdiff_t plane_stride, int channels);
  // A^T m A, bias, residual and activation. Reads whole vectors of src and bias.
  void (*winograd_output_transform)(const WinogradOutputTile<float>& tile);
  // See DepthwiseTile. No over-read.
  void (*depthwise_conv_f32)(const DepthwiseTile& tile);
  // Reads kGroupedWidth elements of each input pixel. Null where conv_f32 with the groups of a
  // panel as one is no slower.
  void (*grouped_conv3x3_f32)(const GroupedConvTile<float>& tile);
  // Null where the processor does not multiply in bfloat16.
  const Bf16Kernels* bf16;
};

// The table of the best instruction set of this processor, or of GLUONDENSE_ISA. Throws
// std::invalid_argument if that names none.
const InferenceKernels& inference_kernels();

// AMX's registers, in one thread: each run of kernels has one of these, as kernels reconfigure them
// only if their number of rows changes, and other libraries use them in between.
class TileRegisters {
 public:
  TileRegisters() { reset(); }
  ~TileRegisters() { reset(); }
  TileRegisters(const TileRegisters&) = delete;

 private:
  static void reset() {
    if (inference_kernels().reset_tiles) inference_kernels().reset_tiles();
  }
};

}  // namespace gluondense
