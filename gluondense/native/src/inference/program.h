// SPDX-License-Identifier: Apache-2.0
// A network as a list of steps over feature maps.
//
// The words that each step has in a program's text are in parse.cc; the rules that a program must
// follow are in validate.cc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace gluondense {

// A range of channels of a feature map.
struct ChannelSlice {
  int map = -1;
  int channel = 0;
  int channels = 0;
  bool valid() const { return map >= 0; }
};

// An index into a program's floats or bytes; -1 for none.
typedef std::ptrdiff_t Offset;

// What a step reads and writes; slices that it does not have are invalid.
struct StepBase {
  ChannelSlice in, residual, gate, out;
  std::array<ChannelSlice, 3> inputs() const { return {in, residual, gate}; }
};

// height, width
struct Window {
  int kernel[2] = {1, 1}, stride[2] = {1, 1}, pad[2] = {0, 0};
  int taps() const { return kernel[0] * kernel[1]; }
};

// Writes an image, (C, H, W), into a map: bytes are round(x * scale[c] + shift[c]).
struct LoadStep : StepBase {
  Offset scale = -1, shift = -1;  // of bytes
};

// A convolution or a dense layer: act(conv(in) + bias + residual), or with `add_last`
// act(conv(in) + bias) + residual. Its filters are `panels` blocks
// of kPanelWidth output channels, of which the first `panel_out` are used.
struct ConvStep : StepBase {
  Window window;
  int panels = 0;
  int panel_in = 0;          // input channels that a panel reads
  int panel_in_stride = 0;   // from the input channels of a panel to those of the next
  int panels_per_input = 1;  // consecutive panels that read the same input channels
  int panel_out = 0;
  int groups_per_panel = 1;  // filters are 0 outside their own group's channels
  float negative_slope = 1;  // of the activation below 0: 1 is the identity, 0 is ReLU
  bool add_last = false;
  bool is_gelu = false;  // instead of the slope, and without a residual
  Offset weight = -1, bias = -1;
  // Of a layer normalization in front of a 1x1 convolution over floats; negative for none. Its
  // scale and shift are folded into the filters.
  float layer_norm_eps = -1;
  // Over floats: batch normalization and ReLU in front of a 1x1 convolution. Over bytes: the scale
  // of the sums.
  Offset scale = -1, shift = -1;
  // Over bytes: see bn_relu_u8 and ConvTile in kernels/inference_kernels.h.
  Offset xor_mask = -1, zero_point = -1, residual_scale = -1, requant_scale = -1;
  Offset requant_shift = -1;

  bool has_layer_norm() const { return layer_norm_eps >= 0; }
  // Whether the input is normalized on the way.
  bool has_prologue() const { return xor_mask >= 0 || shift >= 0 || has_layer_norm(); }
};

// A convolution of each channel over floats. Its filters are
// (C / kGroupedWidth rounded up, KH, KW, kGroupedWidth).
struct DepthwiseStep : StepBase {
  Window window;
  float negative_slope = 1;
  bool add_last = false;  // as a ConvStep's
  Offset weight = -1, bias = -1;
};

// Layer normalization of the channels of each pixel, over floats: out = (in - mean) /
// sqrt(variance + eps) * scale + shift.
struct LayerNormStep : StepBase {
  float eps = 0;
  Offset scale = -1, shift = -1;
};

// out = in * gate over floats; the gate has one pixel.
struct GateStep : StepBase {};

// out = act(in * scale + shift); over bytes, bn_relu_u8. From bytes to floats and from floats to
// bytes, a conversion without an activation; bytes are rounded and clipped to 0..255.
struct AffineStep : StepBase {
  float negative_slope = 1;
  Offset scale = -1, shift = -1, xor_mask = -1, zero_point = -1;
};

// Maximum or average of windows.
struct PoolStep : StepBase {
  Window window;
  bool is_max = false, count_include_pad = true;
  bool is_ceil = false;  // whether windows that reach beyond the padding count; of a maximum only
};

// Maximum or average of all pixels, into floats; those of bytes are scale * q + shift.
struct GlobalPoolStep : StepBase {
  bool is_max = false;
  Offset scale = -1, shift = -1;
};

// Copies channels; with a residual or an activation, where no convolution computes them.
struct CopyStep : StepBase {
  float negative_slope = 1;
  // Instead of the slope: x / (1 + exp(-x)); over floats also x * Phi(x), and x / 6 + 1 / 2 clipped
  // to 0..1.
  bool is_silu = false, is_gelu = false, is_hard_sigmoid = false;
  Offset scale = -1, shift = -1, residual_scale = -1, requant_scale = -1, requant_shift = -1;

  bool has_arithmetic() const {
    return residual.valid() || negative_slope != 1 || is_silu || is_gelu || is_hard_sigmoid ||
           requant_scale >= 0;
  }
};

// Repeats each pixel in a square of `up` x `up` pixels; or makes one pixel of each square of
// `down` x `down`, whose channels then follow each other, row by row. With a residual, rows and
// columns beyond its size are cut off; nothing is added.
struct ResampleStep : StepBase {
  int up = 1, down = 1;
};

// max(in, residual), or in / (1 + exp(-residual)). Floats only.
struct CombineStep : StepBase {
  bool is_gate = false;
};

// Writes an output, (C, H, W) or flattened; those of bytes are scale * q + shift.
struct StoreStep : StepBase {
  int output_index = -1;
  bool flatten = true;
  Offset scale = -1, shift = -1;
};

typedef std::variant<LoadStep, ConvStep, DepthwiseStep, AffineStep, LayerNormStep, PoolStep,
                     GlobalPoolStep, CopyStep, GateStep, ResampleStep, CombineStep, StoreStep>
    Step;

inline const StepBase& base(const Step& step) {
  return std::visit([](const auto& s) -> const StepBase& { return s; }, step);
}

struct FeatureMap {
  int channels = 0;
  int pad = 0;             // pixels of padding on each side, for convolutions that read them
  bool is_u8 = false;      // otherwise float32, or bfloat16 where bf16_maps.cc says so
  Offset pad_values = -1;  // among the bytes: the zero of each channel; -1 for 0 in all
};

struct Program {
  std::vector<FeatureMap> maps;
  std::vector<Step> steps;
  Offset float_count = 0, byte_count = 0;  // of the weights' arrays
  int bf16 = 0;  // convolutions that may multiply in bfloat16: 1 for those of 1x1, 2 for all
  int output_count = 0;
  std::string text;  // that was parsed

  bool is_u8(const ChannelSlice& slice) const { return maps[slice.map].is_u8; }
  // Throws std::invalid_argument if the text is no valid program; a valid one can be run.
  static Program parse(const std::string& text);
};

// Throws std::invalid_argument. Programs come from files, which may be damaged or malicious.
[[noreturn]] void throw_invalid(const std::string& message);

// Throws std::invalid_argument unless each step reads and writes only what exists.
void validate(const Program& program);

}  // namespace gluondense
