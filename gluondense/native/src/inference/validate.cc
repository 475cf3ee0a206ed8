// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "inference/program.h"
#include "kernels/inference_kernels.h"
#include "memory.h"

namespace gluondense {
namespace {

constexpr int kMaxChannels = 1 << 20, kMaxPad = 64, kMaxFactor = 16;
// Limits of what a damaged program may ask for: the largest DenseNets have a tenth of it.
constexpr std::size_t kMaxMaps = 1 << 13, kMaxSteps = 1 << 14;
constexpr std::int64_t kMaxTotalChannels = 1 << 22;
// Elements of an array of weights that no step reads: those at the end, and at each slice's end.
constexpr Offset kUnread = 1 << 16, kUnreadOfSlice = 64;

void require(bool holds, const char* rule) {
  if (!holds) throw_invalid(rule);
}

// Checks the steps in order; each may read only what a step before it has written.
class Validator {
 public:
  explicit Validator(const Program& program) : program_(program) {
    require(program.bf16 <= 2, "there is no such use of bfloat16; update the library");
    require(program.maps.size() <= kMaxMaps && program.steps.size() <= kMaxSteps,
            "there are too many maps or steps");
    std::int64_t total_channels = 0;
    for (const FeatureMap& map : program.maps) {
      require(map.channels >= 1 && map.channels <= kMaxChannels,
              "a map has no or too many channels");
      total_channels += map.channels;
      require(total_channels <= kMaxTotalChannels, "the maps have too many channels");
      require(map.pad <= kMaxPad, "a map's padding is too wide");
      if (map.pad_values >= 0) {
        require(map.is_u8, "only maps of bytes have padding values");
        bytes(map.pad_values, map.channels);
      }
      written_.emplace_back(map.channels, false);
    }
    needed_pad_.resize(program.maps.size(), 0);
    stored_.resize(program.output_count, false);
  }

  void check_step(const Step& step) {
    const StepBase& s = base(step);
    if (!std::holds_alternative<LoadStep>(step)) read(s.in);
    if (!std::holds_alternative<StoreStep>(step)) exists(s.out);
    if (s.residual.valid()) read(s.residual);
    if (std::holds_alternative<GateStep>(step)) read(s.gate);
    std::visit([this](const auto& kind) { check(kind); }, step);
    if (!s.out.valid()) return;
    for (int c = 0; c < s.out.channels; ++c) written_[s.out.map][s.out.channel + c] = true;
  }

  // After all steps: what the program asks for is what its steps need.
  void check_sizes() const {
    for (std::size_t i = 0; i < written_.size(); ++i) {
      const std::vector<bool>& written = written_[i];
      const auto count = std::count(written.begin(), written.end(), true);
      require(count == 0 || count == program_.maps[i].channels,
              "a map has channels that no step writes");
      require(program_.maps[i].pad <= needed_pad_[i],
              "a map has padding that no convolution reads");
    }
    require(program_.float_count <= needed_floats_ + kUnread &&
                program_.byte_count <= needed_bytes_ + kUnread,
            "an array of weights is larger than what the steps read");
  }

 private:
  const Program& program_;
  std::vector<std::vector<bool>> written_;  // by map and channel
  std::vector<int> needed_pad_;             // by map, of the convolutions that read it
  Offset needed_floats_ = 0, needed_bytes_ = 0;
  std::vector<bool> stored_;  // by output

  void exists(const ChannelSlice& slice) const {
    require(slice.valid(), "a step lacks a map");
    require(slice.map < static_cast<int>(program_.maps.size()) && slice.channels >= 1 &&
                slice.channel + slice.channels <= program_.maps[slice.map].channels,
            "a step reads or writes channels that no map has");
  }
  void read(const ChannelSlice& slice) const {
    exists(slice);
    for (int c = 0; c < slice.channels; ++c) {
      require(written_[slice.map][slice.channel + c],
              "a step reads what no step before it has written");
    }
  }
  void floats(Offset offset, std::ptrdiff_t count) {
    require(offset >= 0 && offset + count <= program_.float_count,
            "a step reads numbers beyond the blob");
    needed_floats_ += count + kUnreadOfSlice;
  }
  void bytes(Offset offset, std::ptrdiff_t count) {
    require(offset >= 0 && offset + count <= program_.byte_count,
            "a step reads bytes beyond their array");
    needed_bytes_ += count + kUnreadOfSlice;
  }
  void absent(std::initializer_list<Offset> offsets) const {
    for (Offset offset : offsets) {
      require(offset < 0, "a step has an array for maps of another data type");
    }
  }
  bool is_u8(const ChannelSlice& slice) const { return program_.is_u8(slice); }
  void same_type(const ChannelSlice& a, const ChannelSlice& b) const {
    require(is_u8(a) == is_u8(b), "a step's maps have different data types");
  }
  void same_channels(const ChannelSlice& a, const ChannelSlice& b) const {
    require(a.channels == b.channels, "a step's maps have different numbers of channels");
  }
  void alike(const ChannelSlice& a, const ChannelSlice& b) const {
    same_channels(a, b);
    same_type(a, b);
  }
  void only_floats(const ChannelSlice& in, const ChannelSlice& out) const {
    alike(in, out);
    require(!is_u8(in), "bytes have no such step");
  }
  void affine(Offset scale, Offset shift, std::ptrdiff_t count) {
    floats(scale, count);
    floats(shift, count);
  }
  // What bytes represent; none for floats.
  void dequantization(const ChannelSlice& slice, Offset scale, Offset shift) {
    is_u8(slice) ? affine(scale, shift, slice.channels) : absent({scale, shift});
  }
  // bn_relu_u8 reads whole vectors.
  void bn_relu(const ChannelSlice& in, Offset xor_mask, Offset zero_point) {
    bytes(xor_mask, round_up(in.channels, kOverreadBytes));
    bytes(zero_point, round_up(in.channels, kOverreadBytes));
  }
  void window(const Window& w) const {
    for (int i : {0, 1}) {
      require(w.kernel[i] >= 1 && w.stride[i] >= 1, "a kernel or stride is 0");
      require(w.kernel[i] <= kMaxTaps, "a kernel is too large");
    }
    require(w.taps() <= kMaxTaps, "a kernel is too large");
  }
  void slope(float negative_slope) const { require(negative_slope <= 1, "a slope is above 1"); }
  void padding(const Window& w, const ChannelSlice& in) {
    for (int i : {0, 1}) {
      require(w.pad[i] <= program_.maps[in.map].pad, "a convolution reads beyond the padding");
      needed_pad_[in.map] = std::max(needed_pad_[in.map], w.pad[i]);
    }
  }

  void check(const LoadStep& s) { dequantization(s.out, s.scale, s.shift); }

  void check(const ConvStep& s) {
    same_type(s.in, s.out);
    if (s.residual.valid()) alike(s.residual, s.out);
    window(s.window);
    padding(s.window, s.in);
    slope(s.negative_slope);
    require(!s.add_last || s.residual.valid(), "a convolution adds no residual last");
    require(!s.is_gelu || (!s.residual.valid() && s.negative_slope == 1),
            "a GELU has a residual or a slope");
    panels(s);
    const std::ptrdiff_t lanes = std::ptrdiff_t{s.panels} * kPanelWidth;
    floats(s.bias, lanes);
    if (s.has_prologue()) {
      require(
          s.window.taps() == 1 && s.window.pad[0] + s.window.pad[1] == 0 && s.panel_in_stride == 0,
          "only a 1x1 convolution has a prologue");
    }
    is_u8(s.in) ? conv_u8(s, lanes) : conv_f32(s, lanes);
  }

  void panels(const ConvStep& s) const {
    require(s.panels >= 1 && s.panel_in >= 1 && s.panels_per_input >= 1 && s.panel_out >= 1 &&
                s.panel_out <= kPanelWidth,
            "a convolution's panels are empty or too wide");
    require(s.groups_per_panel >= 1 && s.panel_in % s.groups_per_panel == 0 &&
                s.panel_out % s.groups_per_panel == 0,
            "a panel's groups are not of equal width");
    const std::ptrdiff_t before = s.panels - 1;
    require(before / s.panels_per_input * s.panel_in_stride + s.panel_in <= s.in.channels &&
                before * s.panel_out < s.out.channels &&
                (before + 1) * s.panel_out >= s.out.channels,
            "a convolution's panels are not those of its channels");
  }

  void conv_f32(const ConvStep& s, std::ptrdiff_t lanes) {
    floats(s.weight, s.window.taps() * s.panel_in * lanes);
    absent({s.xor_mask, s.zero_point, s.residual_scale, s.requant_scale, s.requant_shift});
    if (s.has_prologue() && !s.has_layer_norm()) {
      affine(s.scale, s.shift, s.in.channels);
    } else {
      absent({s.scale, s.shift});
    }
  }

  void conv_u8(const ConvStep& s, std::ptrdiff_t lanes) {
    // The segments of a tile; see InferenceWorker::direct_conv.
    require(!s.is_gelu && !s.has_layer_norm(), "bytes have no GELU and no layer normalization");
    const bool joined = s.panel_in == program_.maps[s.in.map].channels;
    const std::ptrdiff_t segments = joined ? s.window.kernel[0] : s.window.taps();
    const int length = round_up(joined ? s.window.kernel[1] * s.panel_in : s.panel_in, 4);
    bytes(s.weight, segments * length * lanes);
    floats(s.scale, lanes);
    absent({s.shift});
    s.residual.valid() ? floats(s.residual_scale, lanes) : absent({s.residual_scale});
    if (s.requant_scale >= 0 || (s.negative_slope != 0 && s.negative_slope != 1) || s.add_last) {
      affine(s.requant_scale, s.requant_shift, lanes);
    }
    s.has_prologue() ? bn_relu(s.in, s.xor_mask, s.zero_point) : absent({s.zero_point});
  }

  void check(const DepthwiseStep& s) {
    only_floats(s.in, s.out);
    if (s.residual.valid()) alike(s.residual, s.out);
    window(s.window);
    padding(s.window, s.in);
    slope(s.negative_slope);
    require(!s.add_last || s.residual.valid(), "a convolution adds no residual last");
    const std::ptrdiff_t lanes = round_up(s.in.channels, kGroupedWidth);
    floats(s.weight, s.window.taps() * lanes);
    floats(s.bias, lanes);
  }

  void check(const LayerNormStep& s) {
    only_floats(s.in, s.out);
    require(s.eps >= 0, "a layer normalization has a negative eps");
    affine(s.scale, s.shift, s.in.channels);
  }

  void check(const GateStep& s) const {
    only_floats(s.in, s.out);
    alike(s.gate, s.out);
  }

  void check(const AffineStep& s) {
    same_channels(s.in, s.out);
    slope(s.negative_slope);
    if (is_u8(s.in) && is_u8(s.out)) {
      bn_relu(s.in, s.xor_mask, s.zero_point);
      absent({s.scale, s.shift});
    } else {
      affine(s.scale, s.shift, s.in.channels);
      absent({s.xor_mask, s.zero_point});
      require(is_u8(s.in) == is_u8(s.out) || s.negative_slope == 1,
              "a conversion of a data type has an activation");
    }
  }

  void check(const PoolStep& s) const {
    alike(s.in, s.out);
    window(s.window);
    for (int i : {0, 1}) {
      require(s.window.pad[i] < s.window.kernel[i], "a pooling's window is outside the image");
    }
    for (int i : {0, 1}) {
      require(
          !s.is_ceil || (s.is_max && s.window.stride[i] <= s.window.kernel[i] - s.window.pad[i]),
          "a pooling that rounds up has an average or a window outside the image");
    }
    if (is_u8(s.in) && !s.is_max) {
      require(s.window.pad[0] + s.window.pad[1] == 0 || !s.count_include_pad,
              "bytes have no average with padding");
      require(s.window.taps() <= kMaxAveragedBytes, "a kernel is too large");
    }
  }

  void check(const GlobalPoolStep& s) {
    require(s.in.channels == s.out.channels && !is_u8(s.out), "a global pooling gives floats");
    dequantization(s.in, s.scale, s.shift);
  }

  void check(const CopyStep& s) {
    alike(s.in, s.out);
    slope(s.negative_slope);
    if (s.residual.valid()) alike(s.residual, s.out);
    const int activations = s.is_silu + s.is_gelu + s.is_hard_sigmoid;
    require(activations == 0 || (activations == 1 && !s.residual.valid() && s.negative_slope == 1),
            "an activation has a residual or a slope");
    require(!is_u8(s.in) || activations == s.is_silu, "bytes have no such activation");
    if (!is_u8(s.in) || !s.has_arithmetic()) {
      absent({s.scale, s.shift, s.residual_scale, s.requant_scale, s.requant_shift});
      return;
    }
    const int channels = s.in.channels;
    affine(s.scale, s.shift, channels);
    affine(s.requant_scale, s.requant_shift, channels);
    s.residual.valid() ? floats(s.residual_scale, channels) : absent({s.residual_scale});
  }

  void check(const ResampleStep& s) const {
    require(s.up >= 1 && s.down >= 1 && s.up <= kMaxFactor && s.down <= kMaxFactor &&
                (s.up == 1 || s.down == 1),
            "a resampling has no or a too large factor");
    require(s.out.channels == std::int64_t{s.in.channels} * s.down * s.down,
            "a resampling has another number of channels");
    same_type(s.in, s.out);
  }

  void check(const CombineStep& s) const {
    require(s.residual.valid(), "a step combines one map");
    alike(s.in, s.out);
    alike(s.residual, s.out);
    require(!is_u8(s.in), "bytes cannot be combined");
  }

  void check(const StoreStep& s) {
    require(s.output_index >= 0 && s.output_index < static_cast<int>(stored_.size()) &&
                !stored_[s.output_index],
            "an output is missing or stored twice");
    stored_[s.output_index] = true;
    dequantization(s.in, s.scale, s.shift);
  }
};

}  // namespace

void validate(const Program& program) {
  require(program.output_count > 0, "there is no output");
  Validator validator(program);
  for (const Step& step : program.steps) validator.check_step(step);
  validator.check_sizes();
}

}  // namespace gluondense
