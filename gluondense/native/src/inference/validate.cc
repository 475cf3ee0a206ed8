#include "inference/validate.h"

#include "kernels/inference_kernels.h"

namespace gluondense {
namespace {

constexpr int kMostChannels = 1 << 20, kMostBorder = 64, kMostPixelsPooled = 257;

std::ptrdiff_t up(std::ptrdiff_t count, std::ptrdiff_t unit) {
  return (count + unit - 1) / unit * unit;
}

void require(bool right, const char* rule) {
  if (!right) fail(rule);
}

class Validator {
 public:
  explicit Validator(const Program& program) : program_(program) {
    for (const Map& map : program.maps) {
      require(map.channels >= 1 && map.channels <= kMostChannels, "a map has no or too many channels");
      require(map.border <= kMostBorder, "a map's border is too wide");
      if (map.edge >= 0) {
        require(map.bytes, "only bytes have an edge");
        bytes(map.edge, map.channels);
      }
      written_.emplace_back(map.channels, false);
    }
    stored_.resize(program.outputs, false);
  }

  void step(const Step& s) {
    if (s.kind != Step::kLoad) read(s.in);
    if (s.kind != Step::kStore) view(s.out);
    if (s.add.there()) read(s.add);
    switch (s.kind) {
      case Step::kLoad: load(s); break;
      case Step::kConv: conv(s); break;
      case Step::kAffine: affine(s); break;
      case Step::kPool: pool(s); break;
      case Step::kGlobalPool: global_pool(s); break;
      case Step::kCopy: copy(s); break;
      case Step::kStore: store(s); break;
    }
    if (s.kind == Step::kStore) return;
    for (int c = 0; c < s.out.channels; ++c) written_[s.out.map][s.out.channel + c] = true;
  }

  void end() const {
    require(!stored_.empty(), "nothing is put out");
    for (bool done : stored_) require(done, "an output is missing");
  }

 private:
  const Program& program_;
  std::vector<std::vector<bool>> written_;  // by map and channel
  std::vector<bool> stored_;

  bool is_bytes(const View& v) const { return program_.maps[v.map].bytes; }

  void view(const View& v) const {
    require(v.there(), "a step lacks a map");
    require(v.map < static_cast<int>(program_.maps.size()) && v.channels >= 1 &&
                v.channel + v.channels <= program_.maps[v.map].channels,
            "a step reads or writes channels that no map has");
  }
  void read(const View& v) const {
    view(v);
    for (int c = 0; c < v.channels; ++c) {
      require(written_[v.map][v.channel + c], "a step reads what no step before it has written");
    }
  }
  void floats(std::ptrdiff_t offset, std::ptrdiff_t count) const {
    require(offset >= 0 && offset + count <= static_cast<std::ptrdiff_t>(program_.blob),
            "a step reads numbers beyond the blob");
  }
  void bytes(std::ptrdiff_t offset, std::ptrdiff_t count) const {
    require(offset >= 0 && offset + count <= static_cast<std::ptrdiff_t>(program_.bytes),
            "a step reads bytes beyond their array");
  }
  void alike(const View& a, const View& b) const {
    require(a.channels == b.channels, "a step's maps have different numbers of channels");
    require(is_bytes(a) == is_bytes(b), "a step's maps are of different kinds");
  }
  // What each channel's byte stands for.
  void line(const Step& s, int channels) const {
    floats(s.scale, channels);
    floats(s.shift, channels);
  }

  void load(const Step& s) const {
    if (is_bytes(s.out)) line(s, s.out.channels);
  }

  void conv(const Step& s) const {
    require(is_bytes(s.in) == is_bytes(s.out), "a step's maps are of different kinds");
    if (s.add.there()) alike(s.add, s.out);
    const std::ptrdiff_t taps = static_cast<std::ptrdiff_t>(s.kernel[0]) * s.kernel[1];
    for (int i : {0, 1}) {
      require(s.kernel[i] >= 1 && s.stride[i] >= 1, "a kernel or stride is 0");
      require(s.pad[i] <= program_.maps[s.in.map].border, "a convolution looks beyond the border");
      require(s.kernel[i] <= kMostTaps, "a kernel is too large");
    }
    require(taps <= kMostTaps, "a kernel is too large");
    require(s.slope <= 1, "a slope is above 1");
    require(s.blocks >= 1 && s.block_in >= 1 && s.block_share >= 1 && s.block_out >= 1 &&
                s.block_out <= kPanelWidth,
            "a convolution's blocks are empty or too wide");
    require(s.block_groups >= 1 && s.block_in % s.block_groups == 0 &&
                s.block_out % s.block_groups == 0,
            "a block's groups are not of equal width");
    const std::ptrdiff_t last = static_cast<std::ptrdiff_t>(s.blocks - 1) / s.block_share;
    require(last * s.block_step + s.block_in <= s.in.channels &&
                static_cast<std::ptrdiff_t>(s.blocks - 1) * s.block_out < s.out.channels &&
                static_cast<std::ptrdiff_t>(s.blocks) * s.block_out >= s.out.channels,
            "a convolution's blocks are not those of its channels");
    const std::ptrdiff_t lanes = static_cast<std::ptrdiff_t>(s.blocks) * kPanelWidth;
    floats(s.bias, lanes);
    const bool prologue = s.flip >= 0 || s.shift >= 0;
    if (prologue) {
      require(taps == 1 && s.pad[0] + s.pad[1] == 0 && s.block_step == 0,
              "only a 1x1 convolution has a prologue");
    }
    if (!is_bytes(s.in)) {
      floats(s.weight, taps * s.block_in * lanes);
      if (prologue) line(s, s.in.channels);
      return;
    }
    const bool joined = s.block_in == program_.maps[s.in.map].channels;
    const std::ptrdiff_t run = up(joined ? s.kernel[1] * s.block_in : s.block_in, 4);
    bytes(s.weight, (joined ? s.kernel[0] : taps) * run * lanes);
    floats(s.scale, lanes);
    if (s.add.there()) floats(s.add_scale, lanes);
    if (s.out_scale >= 0 || (s.slope != 0 && s.slope != 1)) spread(s, lanes);
    if (prologue) rectifying(s);
  }

  void spread(const Step& s, std::ptrdiff_t count) const {
    floats(s.out_scale, count);
    floats(s.out_shift, count);
  }
  void rectifying(const Step& s) const {
    bytes(s.flip, up(s.in.channels, kOverreadBytes));
    bytes(s.zero, up(s.in.channels, kOverreadBytes));
  }

  void affine(const Step& s) const {
    alike(s.in, s.out);
    is_bytes(s.in) ? rectifying(s) : line(s, s.in.channels);
  }

  void pool(const Step& s) const {
    alike(s.in, s.out);
    for (int i : {0, 1}) {
      require(s.kernel[i] >= 1 && s.stride[i] >= 1, "a kernel or stride is 0");
      require(s.pad[i] < s.kernel[i], "a pooling's window lies beyond the edge");
      require(s.kernel[i] <= kMostTaps, "a kernel is too large");
    }
    require(s.kernel[0] * s.kernel[1] <= kMostTaps, "a kernel is too large");
    if (is_bytes(s.in) && !s.max) {
      require(s.pad[0] + s.pad[1] == 0, "bytes have no mean over the edge");
      require(s.kernel[0] * s.kernel[1] <= kMostPixelsPooled, "a kernel is too large");
    }
  }

  void global_pool(const Step& s) const {
    require(s.in.channels == s.out.channels && !is_bytes(s.out), "a global pooling gives floats");
    if (is_bytes(s.in)) line(s, s.in.channels);
  }

  void copy(const Step& s) const {
    alike(s.in, s.out);
    require(s.slope <= 1, "a slope is above 1");
    if (s.add.there()) alike(s.add, s.out);
    if (!is_bytes(s.in) || !computes(s)) return;
    line(s, s.in.channels);
    spread(s, s.in.channels);
    if (s.add.there()) floats(s.add_scale, s.in.channels);
  }

  void store(const Step& s) {
    require(s.output >= 0 && s.output < static_cast<int>(stored_.size()) && !stored_[s.output],
            "an output is missing or put out twice");
    stored_[s.output] = true;
    if (is_bytes(s.in)) line(s, s.in.channels);
  }
};

}  // namespace

void validate(const Program& program) {
  Validator validator(program);
  for (const Step& s : program.steps) validator.step(s);
  validator.end();
}

}  // namespace gluondense
