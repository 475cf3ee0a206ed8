// One thread's part of the work on a stage.
#pragma once

#include <algorithm>
#include <utility>

#include "kernels/inference_kernels.h"
#include "kernels/training_kernels.h"
#include "memory.h"
#include "threads.h"
#include "training/stage.h"

namespace gluondense {

constexpr int kLanes = 16;       // rows of maps are whole cache lines
constexpr int kMostPixels = 16;  // of a tile, in any instruction set
constexpr int kChunk = 56;       // pixels whose outer products are summed in registers
constexpr int kSection = 256;    // channels, likewise: their sums stay in the second cache
constexpr int kSpatialChunk = 56, kSpatialSection = 32;  // the same, of Winograd's tiles

inline int lanes(int channels) { return round_up(channels, kLanes); }
inline int blocks_of(int channels) { return div_up(channels, kPanelWidth); }
inline int packed_row(int channels) { return packed_stride<float>(channels); }

// A block of a pixel's channels is on its way while something else is computed.
inline void fetch(const float* channels) {
  for (int c = 0; c < kPanelWidth; c += kLanes) __builtin_prefetch(channels + c);
}

// How the memory that all threads share is cut up.
struct Sizes {
  explicit Sizes(const StageShape& shape);
  int map_row, middle_row, growth_row;      // floats of a pixel
  std::size_t moments, moments2;            // doubles: of all maps, of the layers' middles
  std::size_t partial;                      // doubles of a thread
  std::size_t scratch;                      // floats of a thread
  std::size_t pointwise, spatial;           // floats of a layer's filters as they are read
  std::size_t sums;                         // floats of a thread: gradients of both
};

struct Shared {
  const StageShape& shape;
  const Sizes& sizes;
  const StageArrays& arrays;
  Saved& saved;
  float *maps, *middles;
  double* partial;
  float *scratch, *packed;
  float *gradient, *middle_gradient, *last, *sums;  // of backward
};

// Channels of pixels, normalized and rectified where there is a scale.
struct Source {
  const float* data;  // of the first image's first pixel
  int row, channels;
  const float *scale, *shift;
};

class Part {
 public:
  Part(const Shared& shared, Barrier& barrier, int rank);
  void forward(const float* in, float* out);
  void backward(const float* out_gradient, float* in_gradient, const StageArrays& gradients);

 private:
  const Shared& s_;
  const StageShape& shape_;
  const Sizes& sizes_;
  Barrier& barrier_;
  const int rank_;
  float* const scratch_;
  std::vector<float> scale_, shift_, slope_, offset_;
  std::vector<double> constant_, linear_;  // corrections of the gradient, by channel of the maps
  std::vector<float> mean_, inverse_;
  std::vector<double> var_;

  std::pair<long, long> share(long count) const {
    return partition(count, rank_, barrier_.size());
  }
  float* map(long pixel) const { return s_.maps + pixel * sizes_.map_row; }
  float* middles(int layer) const {
    return s_.middles + (shape_.recompute ? 0 : layer * shape_.pixels() * sizes_.middle_row);
  }
  float* pointwise(int parity) const { return s_.packed + parity * sizes_.pointwise; }
  float* spatial(int parity) const {
    return s_.packed + 2 * sizes_.pointwise + parity * sizes_.spatial;
  }
  // Two sums of each channel: of all maps, or of a layer's middle.
  double* moments(int thread) const { return s_.partial + thread * sizes_.partial; }
  double* moments2(int thread, int layer) const {
    return moments(thread) + sizes_.moments + layer * sizes_.moments2;
  }
  float* pointwise_sums(int thread) const { return s_.sums + thread * sizes_.sums; }
  float* spatial_sums(int thread) const { return pointwise_sums(thread) + sizes_.pointwise; }
  // A 1x1 convolution's filters for backward, behind the sums of all threads.
  float* panels_back() const { return pointwise_sums(barrier_.size()); }

  // part_memory.cc: between MXNet's planes and pixels, and filters as they are read.
  void load_rows(const float* planes, int channels, long first, int count, int plane, float* rows,
                 int row) const;
  void store_rows(const float* rows, int row, int channels, long first, int count, int plane,
                  float* planes) const;
  void pack_pointwise(const float* weight, int depth, int channels, float* out) const;
  void pack_pointwise_back(const float* weight, int depth, int channels, float* out) const;
  void pack_spatial(const float* weight, int depth, int channels, bool back, float* out) const;
  void reduce_pointwise(int depth, int channels, float* weight) const;
  void reduce_spatial(int depth, int channels, float* weight) const;

  // part_forward.cc
  void finish_moments(int layer, int from, int count, float* mean, float* inverse, double* var);
  void set_line(const Norm& norm, const float* mean, const float* inverse, int channels);
  void update(const Norm& norm, const float* mean, const double* var, int channels) const;
  void pack_layer(int layer) const;
  void expand(int layer, bool count);
  void grow(int layer, const Source& source);
  void end(float* out);

  // part_units.cc
  const float* pack_pixels(const Source& source, long first, int count, int row, float* to) const;
  void multiply(const float* in, int in_row, int depth, const float* panels, int pixels,
                int channels, float* out, int out_row) const;
  void fill_strip(const Source& source, long line, int first, int depth, int row, float* to) const;
  void multiply_planes(const float* planes, int tiles, int depth, const float* filters,
                       float* sums) const;

  // part_backward.cc and, of a layer's convolutions, part_layers_back.cc
  void begin_back(const float* out_gradient);
  void correct_last(int layer);
  void grow_back(int layer, const Source& source, const float* mean, bool into_maps);
  void filters_back(const Source& source);
  void expand_back(int layer);
  void finish_norm(int layer, const Norm& norm, const Norm& gradient, int channels,
                   const float* inverse, double* constant, double* linear) const;
};

}  // namespace gluondense
