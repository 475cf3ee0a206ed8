#include <algorithm>
#include <type_traits>

#include "inference/runner.h"

namespace gluondense {
namespace {

bool has_prologue(const Step& s) { return s.flip >= 0 || s.shift >= 0; }

// Whether lines follow each other without a gap, so that a tile may go over their ends.
bool seamless(const Step& s, const Place& from) {
  return s.kernel[0] == 1 && s.kernel[1] == 1 && s.stride[0] == 1 && s.stride[1] == 1 &&
         from.border == 0;
}

}  // namespace

template <class T>
void Runner::conv(const Step& s, const float* pairs) {
  const Place &from = place(s.in), &to = place(s.out);
  const int lines = seamless(s, from) ? 1 : to.height;
  const int line = seamless(s, from) ? to.height * to.width : to.width;
  const int most = inference_kernels().max_tile_pixels;
  const int tiles = (line + most - 1) / most;  // in a line, of nearly equal length
  clear_border<T>(s.out);
  // A tile's blocks of channels may be several threads'.
  const auto [first, last] = share(static_cast<long>(lines) * tiles * s.blocks);
  for (long job = first; job < last;) {
    const long tile = job / s.blocks, part = tile % tiles;
    const int block = job % s.blocks, end = std::min<long>(s.blocks, block + last - job);
    const int x = line * part / tiles, next = line * (part + 1) / tiles;
    conv_tile<T>(s, pairs, tile / tiles, x, next - x, block, end);
    job += end - block;
  }
}

template <class T>
void Runner::conv_tile(const Step& s, const float* pairs, int y, int x, int pixels, int block,
                       int end) {
  constexpr int kMost = 16;
  const Place &from = place(s.in), &to = place(s.out);
  T* out[kMost];
  const T* add[kMost];
  for (int i = 0, row = y + x / to.width, column = x % to.width; i < pixels; ++i, ++column) {
    if (column == to.width) ++row, column = 0;
    out[i] = pixel<T>(s.out, row, column);
    if (s.add.there()) add[i] = pixel<T>(s.add, row, column);
  }
  ConvTile<T> tile;
  tile.pixels = pixels;
  tile.negative_slope = s.slope;
  tile.src_stride = static_cast<std::ptrdiff_t>(s.stride[1]) * from.step;
  const T* in = reinterpret_cast<const T*>(memory_ + from.offset) + s.in.channel;
  if (seamless(s, from)) {
    in += (static_cast<std::ptrdiff_t>(y) * from.width + x) * from.step;
  } else {
    in += (static_cast<std::ptrdiff_t>(y * s.stride[0] - s.pad[0] + from.border) * from.pitch() +
           x * s.stride[1] - s.pad[1] + from.border) * from.step;
  }
  if (pairs || has_prologue(s)) in = pack<T>(s, pairs, in, &tile);
  // Taps side by side in memory are one run.
  std::ptrdiff_t taps[kMostTaps];
  const bool joined = s.block_in == from.step;
  tile.segment_length = joined ? s.kernel[1] * s.block_in : s.block_in;
  tile.segments = 0;
  for (int ky = 0; ky < s.kernel[0]; ++ky) {
    for (int kx = 0; kx < (joined ? 1 : s.kernel[1]); ++kx) {
      taps[tile.segments++] = (static_cast<std::ptrdiff_t>(ky) * from.pitch() + kx) * from.step;
    }
  }
  tile.segment_offsets = taps;
  if (pairs) tile.segment_length = (tile.segment_length + 1) / 2;
  if (std::is_same_v<T, std::uint8_t>) tile.segment_length = (tile.segment_length + 3) / 4 * 4;  // with weights of zero
  const std::ptrdiff_t filters = static_cast<std::ptrdiff_t>(tile.segments) * tile.segment_length * kPanelWidth;
  for (; block < end; ++block) {
    const int channel = block * s.block_out;
    T* outs[kMost];
    const T* adds[kMost];
    for (int i = 0; i < pixels; ++i) {
      outs[i] = out[i] + channel;
      // These lines are on their way while the sums are computed.
      for (int c = 0; c < s.block_out; c += 64 / static_cast<int>(sizeof(T))) {
        __builtin_prefetch(outs[i] + c, 1);
      }
      if (s.add.there()) adds[i] = add[i] + channel;
    }
    tile.src = in + static_cast<std::ptrdiff_t>(block / s.block_share) * s.block_step;
    const std::ptrdiff_t lane = static_cast<std::ptrdiff_t>(block) * kPanelWidth;
    tile.bias = blob_ + s.bias + lane;
    tile.dst = outs;
    tile.residual = s.add.there() ? adds : nullptr;
    tile.channels = std::min(s.block_out, s.out.channels - channel);
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      tile.weights = bytes_ + s.weight + block * filters;
      tile.scale = blob_ + s.scale + lane;
      tile.residual_scale = blob_ + s.add_scale + lane;
      tile.requant_scale = s.out_scale < 0 ? nullptr : blob_ + s.out_scale + lane;
      tile.requant_shift = blob_ + s.out_shift + lane;
      inference_kernels().conv_u8s8(tile);
    } else {
      tile.weights = (pairs ? pairs : blob_ + s.weight) + block * filters;
      (pairs ? inference_kernels().conv_bf16 : inference_kernels().conv_f32)(tile);
    }
  }
}

// Put a tile's pixels side by side on their way into a 1x1 convolution, normalized and rectified.
template <class T>
const T* Runner::pack(const Step& s, bool pairs, const T* in, ConvTile<T>* tile) {
  const int channels = s.in.channels;
  // An odd number of cache lines: rows that lie a power of two apart share too few places in L1.
  const int line = 64 / static_cast<int>(sizeof(T));
  const int row = (((pairs ? (channels + 1) / 2 : channels) + line - 1) / line | 1) * line;
  T* const packed = reinterpret_cast<T*>(scratch_);
  for (int i = 0; i < tile->pixels; ++i) {
    const T* const from = in + i * tile->src_stride;
    T* const to = packed + static_cast<std::size_t>(i) * row;
    if constexpr (std::is_same_v<T, std::uint8_t>) {
      inference_kernels().bn_relu_u8(from, unsigned_bytes(s.flip), unsigned_bytes(s.zero), to, channels);
    } else if (pairs) {
      const bool normalizes = has_prologue(s);
      inference_kernels().affine_relu_bf16(from, normalizes ? blob_ + s.scale : nullptr,
                             normalizes ? blob_ + s.shift : nullptr, to, channels);
    } else {
      inference_kernels().affine_f32(from, blob_ + s.scale, blob_ + s.shift, 0, to, channels);
    }
  }
  // The next tile is on its way while this one is computed with.
  const T* const next = in + tile->pixels * tile->src_stride;
  for (int i = 0; i < tile->pixels; ++i) {
    for (int c = 0; c < channels; c += line) {
      __builtin_prefetch(next + i * tile->src_stride + c, 0, 2);
    }
  }
  tile->src_stride = row;
  return packed;
}

template void Runner::conv<float>(const Step&, const float*);
template void Runner::conv<std::uint8_t>(const Step&, const float*);

}  // namespace gluondense
