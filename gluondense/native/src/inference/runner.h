// One thread's part of the work on one image.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/inference_kernels.h"
#include "inference/program.h"
#include "memory.h"
#include "threads.h"

namespace gluondense {

// Filters in another form, by step; empty for steps that do not use it.
typedef std::vector<std::vector<float>> FiltersByStep;

FiltersByStep winograd_filters(const Program& program, const Plan& plan, const float* blob);
FiltersByStep grouped_filters(const Program& program, const float* blob);
FiltersByStep pair_filters(const Program& program, const Plan& plan, const float* blob);

// All that the threads share.
struct Network {
  const Program& program;
  const Plan& plan;
  const FiltersByStep &winograd, &grouped, &pairs;
  const float* blob;
  const std::int8_t* bytes;
};

// Of a tile's pixels side by side, and of Winograd's planes, sums and one patch.
inline std::size_t packed_bytes(std::size_t channels, std::size_t pixels) {
  return (channels * sizeof(float) + 128) * pixels;
}
inline std::size_t winograd_bytes(std::size_t channels, std::size_t tiles) {
  return kWinogradPlanes * (tiles * (channels + kPanelWidth) + channels) * sizeof(float);
}

// What any step needs for itself, so that none allocates: an exception could not leave a thread.
std::size_t scratch_bytes(const Program& program, const Plan& plan);

class Runner {
 public:
  // Memory of Plan::bytes for the image, and of scratch_bytes for this thread alone.
  Runner(const Network& network, std::uint8_t* memory, std::uint8_t* scratch, Barrier& barrier, int rank)
      : program_(network.program),
        plan_(network.plan),
        winograd_(network.winograd),
        grouped_(network.grouped),
        pairs_(network.pairs),
        blob_(network.blob),
        bytes_(network.bytes),
        memory_(memory),
        scratch_(scratch),
        barrier_(barrier),
        rank_(rank) {}

  void run(const float* in, int image, const std::vector<float*>& outputs);

 private:
  const Program& program_;
  const Plan& plan_;
  const FiltersByStep &winograd_, &grouped_, &pairs_;
  const float* const blob_;
  const std::int8_t* const bytes_;
  std::uint8_t* const memory_;
  std::uint8_t* const scratch_;
  Barrier& barrier_;
  const int rank_;

  // T is what the step's maps hold, float or std::uint8_t.
  template <class T>
  void run_step(const Step& s);
  template <class T>
  void load(const Step& s, const float* in);
  template <class T>
  void store(const Step& s, int image, float* out) const;
  // With pairs, in bfloat16.
  template <class T>
  void conv(const Step& s, const float* pairs = nullptr);
  template <class T>
  void conv_tile(const Step& s, const float* pairs, int y, int x, int pixels, int block, int end);
  template <class T>
  const T* pack(const Step& s, bool pairs, const T* in, ConvTile<T>* tile);
  void grouped(const Step& s, const float* filters);
  void winograd(const Step& s, const float* filters);
  void winograd_tiles(const Step& s, const float* filters, int first, int tiles);
  void winograd_in(const Step& s, int y, int x, float* patch, float* planes,
                   std::ptrdiff_t plane);
  void winograd_out(const Step& s, int block, int y, int x, const float* sums,
                    std::ptrdiff_t plane) const;
  template <class T>
  void affine(const Step& s) const;
  template <class T>
  void pool(const Step& s) const;
  template <class T>
  void global_pool(const Step& s) const;
  template <class T>
  void copy(const Step& s) const;

  const Place& place(const View& view) const { return plan_.places[view.map]; }
  template <class T>
  T* pixel(const View& view, int y, int x) const {
    const Place& p = place(view);
    return reinterpret_cast<T*>(memory_ + p.offset) + p.at(y, x) + view.channel;
  }
  // Such as flips and zeros, which are unsigned.
  const std::uint8_t* unsigned_bytes(std::ptrdiff_t offset) const {
    return reinterpret_cast<const std::uint8_t*>(bytes_) + offset;
  }
  // This thread's share of so many equal pieces of work.
  std::pair<long, long> share(long count) const {
    return partition(count, rank_, barrier_.size());
  }
  // The memory was another map's before.
  template <class T>
  void clear_border(const View& view) const;
};

template <class T>
void Runner::clear_border(const View& view) const {
  const Place& p = place(view);
  if (p.border == 0) return;
  const Map& map = program_.maps[view.map];
  const auto clear = [&](T* begin, std::size_t pixels) {
    if (map.edge < 0) {
      std::memset(begin, 0, pixels * p.step * sizeof(T));
    } else {
      for (std::size_t i = 0; i < pixels; ++i) {
        std::memcpy(begin + i * p.step, bytes_ + map.edge, map.channels);
      }
    }
  };
  T* const begin = reinterpret_cast<T*>(memory_ + p.offset);
  const std::size_t line = static_cast<std::size_t>(p.pitch()) * p.step;
  const auto [first, last] = share(p.height + 2 * p.border);
  for (int y = first; y < last; ++y) {
    T* const row = begin + y * line;
    if (y < p.border || y >= p.border + p.height) {
      clear(row, p.pitch());
    } else {
      clear(row, p.border);
      clear(row + line - static_cast<std::size_t>(p.border) * p.step, p.border);
    }
  }
}

}  // namespace gluondense
