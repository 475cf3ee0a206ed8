// One thread's part of the work on one image.
#pragma once

#include <utility>
#include <vector>

#include "kernels.h"
#include "program.h"
#include "team.h"

namespace gluondense {

// Filters of the steps that use Winograd's filtering, by step; empty for the others.
typedef std::vector<std::vector<float>> WinogradFilters;

WinogradFilters winograd_filters(const Program& program, const Plan& plan, const float* blob);

class Runner {
 public:
  Runner(const Program& program, const Plan& plan, const float* blob,
         const WinogradFilters& winograd, float* memory, Team& team, int rank)
      : program_(program),
        plan_(plan),
        blob_(blob),
        winograd_(winograd),
        memory_(memory),
        team_(team),
        rank_(rank) {}

  void run(const float* in, int image, const std::vector<float*>& outputs);

 private:
  const Program& program_;
  const Plan& plan_;
  const float* const blob_;
  const WinogradFilters& winograd_;
  float* const memory_;
  Team& team_;
  const int rank_;
  std::vector<float> scratch_, patch_;

  void load(const Step& s, const float* in) const;
  void store(const Step& s, int image, float* out) const;
  void conv(const Step& s);
  void conv_tile(const Step& s, int y, int x, int pixels, int block, int end);
  const float* pack(const Step& s, const float* in, ConvTile* tile);
  void winograd(const Step& s, const float* filters);
  void winograd_tiles(const Step& s, const float* filters, int first, int tiles);
  void winograd_in(const Step& s, int y, int x, float* planes, std::ptrdiff_t plane);
  void winograd_out(const Step& s, int block, int y, int x, const float* sums,
                    std::ptrdiff_t plane) const;
  void affine(const Step& s) const;
  void pool(const Step& s) const;
  void global_pool(const Step& s) const;
  void copy(const Step& s) const;

  const Place& place(const View& view) const { return plan_.places[view.map]; }
  float* pixel(const View& view, int y, int x) const {
    return memory_ + place(view).at(y, x) + view.channel;
  }
  // This thread's share of so many equal pieces of work.
  std::pair<int, int> share(int count) const {
    return {static_cast<int>(static_cast<long>(count) * rank_ / team_.size()),
            static_cast<int>(static_cast<long>(count) * (rank_ + 1) / team_.size())};
  }
  // The memory was another map's before.
  void clear_border(const View& view) const;
  // A cache line's begin in scratch memory of so many floats.
  float* scratch(std::size_t floats);
};

}  // namespace gluondense
