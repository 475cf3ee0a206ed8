// 3x3 convolutions with a quarter of the products; see kernels.h.
#include <algorithm>
#include <cstring>

#include "inference/runner.h"

namespace gluondense {
namespace {

constexpr int kIn = kWinogradInputTile, kOut = kWinogradOutputTile, kTaps = kWinogradPlanes;

long tiles_of(int pixels) { return (pixels + kOut - 1) / kOut; }

// Below so many tiles the 36 filters, four times as large as the nine, cost more than they save.
constexpr int kFewest = 14;

// Vector operations of both ways; the transforms' were counted in their loops.
bool pays(const Step& s, const Plan& plan, bool bytes) {
  if (s.kernel[0] != 3 || s.kernel[1] != 3 || s.stride[0] != 1 ||
      s.stride[1] != 1 || s.pad[0] != 1 || s.pad[1] != 1 || s.shift >= 0 || bytes) {
    return false;
  }
  constexpr long kLanes = 16, kInTransform = 170, kOutTransform = 130;
  // Whole vectors; and enough to do for each of the 36 products, which groups of few channels have
  // not: there it took as long as the plain way, or twice.
  if (s.in.channels % kLanes != 0 || s.block_in < 2 * kLanes) return false;
  const Place& to = plan.places[s.out.map];
  const long pixels = static_cast<long>(to.height) * to.width;
  const long tiles = tiles_of(to.height) * tiles_of(to.width);
  const long outs = s.blocks * ((s.block_out + kLanes - 1) / kLanes);
  const long direct = pixels * 9 * s.block_in * outs;
  const long winograd = tiles * (kTaps * s.block_in * outs + kInTransform * s.in.channels / kLanes +
                                 kOutTransform * outs);
  return tiles >= kFewest && winograd < direct * 3 / 4;
}

// G g G^T of the paper, for one filter.
void transform(const double* g, double* u) {
  static const double kG[6][3] = {{1.0 / 4, 0, 0},
                                  {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                  {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                  {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                  {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                  {0, 0, 1}};
  for (int y = 0; y < kIn; ++y) {
    for (int x = 0; x < kIn; ++x) {
      double sum = 0;
      for (int v = 0; v < 3; ++v) {
        for (int w = 0; w < 3; ++w) sum += kG[y][v] * g[v * 3 + w] * kG[x][w];
      }
      u[y * kIn + x] = sum;
    }
  }
}

}  // namespace

FiltersByStep winograd_filters(const Program& program, const Plan& plan, const float* blob) {
  FiltersByStep all(program.steps.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Step& s = program.steps[i];
    if (s.kind != Step::kConv || !pays(s, plan, program.maps[s.in.map].bytes)) continue;
    // (blocks, 9, channels, kPanelWidth) becomes (blocks, 36, channels, kPanelWidth).
    const std::size_t plane = static_cast<std::size_t>(s.block_in) * kPanelWidth;
    all[i].resize(s.blocks * kTaps * plane);
    for (int block = 0; block < s.blocks; ++block) {
      const float* const from = blob + s.weight + block * 9 * plane;
      float* const to = all[i].data() + block * kTaps * plane;
      for (std::size_t j = 0; j < plane; ++j) {
        double g[9], u[kTaps];
        for (int tap = 0; tap < 9; ++tap) g[tap] = from[tap * plane + j];
        transform(g, u);
        for (int tap = 0; tap < kTaps; ++tap) to[tap * plane + j] = static_cast<float>(u[tap]);
      }
    }
  }
  return all;
}

void Runner::winograd(const Step& s, const float* filters) {
  const Place& to = place(s.out);
  const int tiles = static_cast<int>(tiles_of(to.height) * tiles_of(to.width));
  const int most = inference_kernels().max_tile_pixels;
  const int chunks = (tiles + most - 1) / most;  // of nearly equal length
  clear_border<float>(s.out);
  const auto [first, last] = share(chunks);
  for (int chunk = first; chunk < last; ++chunk) {
    const int begin = tiles * chunk / chunks, end = tiles * (chunk + 1) / chunks;
    winograd_tiles(s, filters, begin, end - begin);
  }
}

void Runner::winograd_tiles(const Step& s, const float* filters, int first, int tiles) {
  static const float kNothing[kPanelWidth] = {};
  const int columns = static_cast<int>(tiles_of(place(s.out).width));
  const int channels = s.in.channels;
  const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(tiles) * channels;
  const std::ptrdiff_t sums_plane = static_cast<std::ptrdiff_t>(tiles) * kPanelWidth;
  float* const planes = reinterpret_cast<float*>(scratch_);
  float* const sums = planes + kTaps * plane;
  float* const patch = sums + kTaps * sums_plane;
  const auto corner = [&](int i) {
    return std::make_pair((first + i) / columns * kOut, (first + i) % columns * kOut);
  };
  for (int i = 0; i < tiles; ++i) {
    const auto [y, x] = corner(i);
    winograd_in(s, y, x, patch, planes + i * channels, plane);
  }
  const std::ptrdiff_t tap = 0;
  ConvTile<float> tile;
  tile.src_stride = channels;
  tile.segment_offsets = &tap;
  tile.segments = 1;
  tile.segment_length = s.block_in;
  tile.bias = kNothing;
  tile.residual = nullptr;
  tile.pixels = tiles;
  tile.negative_slope = 1;
  float* out[16];
  tile.dst = out;
  for (int block = 0; block < s.blocks; ++block) {
    tile.channels = std::min(s.block_out, s.out.channels - block * s.block_out);
    const std::ptrdiff_t group = block / s.block_share * s.block_step;
    for (int t = 0; t < kTaps; ++t) {
      tile.src = planes + t * plane + group;
      tile.weights = filters + (static_cast<std::ptrdiff_t>(block) * kTaps + t) * s.block_in * kPanelWidth;
      for (int i = 0; i < tiles; ++i) out[i] = sums + t * sums_plane + i * kPanelWidth;
      inference_kernels().conv_f32(tile);
    }
    for (int i = 0; i < tiles; ++i) {
      const auto [y, x] = corner(i);
      winograd_out(s, block, y, x, sums + i * kPanelWidth, sums_plane);
    }
  }
}

void Runner::winograd_in(const Step& s, int y, int x, float* patch, float* planes,
                         std::ptrdiff_t plane) {
  const Place& from = place(s.in);
  const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(from.pitch()) * from.step;
  const bool inside = y - 1 + kIn <= from.height + from.border &&
                      x - 1 + kIn <= from.width + from.border;
  if (inside) {
    inference_kernels().winograd_input_transform(pixel<float>(s.in, y - 1, x - 1), line, from.step, planes, plane,
                          s.in.channels);
    return;
  }
  // Beyond the lower and right edge there are only zeros.
  const int channels = s.in.channels;
  std::fill_n(patch, kTaps * channels, 0.0f);
  for (int v = 0; v < std::min(kIn, from.height + 1 - y + 1); ++v) {
    for (int u = 0; u < std::min(kIn, from.width + 1 - x + 1); ++u) {
      std::memcpy(patch + (v * kIn + u) * channels, pixel<float>(s.in, y - 1 + v, x - 1 + u),
                  channels * sizeof(float));
    }
  }
  inference_kernels().winograd_input_transform(patch, static_cast<std::ptrdiff_t>(kIn) * channels, channels,
                        planes, plane, channels);
}

void Runner::winograd_out(const Step& s, int block, int y, int x, const float* sums,
                          std::ptrdiff_t plane) const {
  const Place& to = place(s.out);
  const int channel = block * s.block_out;
  float* out[kOut * kOut];
  const float* add[kOut * kOut];
  for (int i = 0; i < kOut * kOut; ++i) {
    const int v = y + i / kOut, u = x + i % kOut;
    const bool there = v < to.height && u < to.width;
    out[i] = there ? pixel<float>(s.out, v, u) + channel : nullptr;
    add[i] = there && s.add.there() ? pixel<float>(s.add, v, u) + channel : nullptr;
  }
  WinogradOutputTile tile;
  tile.src = sums;
  tile.plane_stride = plane;
  tile.bias = blob_ + s.bias + block * kPanelWidth;
  tile.dst = out;
  tile.residual = s.add.there() ? add : nullptr;
  tile.channels = std::min(s.block_out, s.out.channels - channel);
  tile.negative_slope = s.slope;
  inference_kernels().winograd_output_transform(tile);
}

}  // namespace gluondense
