// SPDX-License-Identifier: Apache-2.0
// One thread's share of the work on one image.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "inference/memory_plan.h"
#include "inference/program.h"
#include "kernels/inference_kernels.h"
#include "threads.h"

namespace gluondense {

class InferenceWorker;

// How convolutions are computed, and their filters in the layout that this needs.
struct ConvAlgorithm {
  const char* name;  // in the files of tuning_file.h
  // Whether it is possible; and whether it is worthwhile as far as is known without a measurement.
  bool (*supports)(const ConvStep& step, const Program& program, const MemoryPlan& plan);
  bool (*pays)(const ConvStep& step, const Program& program, const MemoryPlan& plan);
  // The size of the packed filters, and a function that writes them. Null for an algorithm that
  // reads the filters of the program.
  std::size_t (*filter_floats)(const ConvStep& step, const MemoryPlan& plan);
  void (*pack_filters)(const ConvStep& step, const MemoryPlan& plan, const float* floats,
                       float* packed);
  // `filters` are the packed ones, or null.
  void (InferenceWorker::*run)(const ConvStep& step, const float* filters);
};

// The first algorithm that supports a convolution and is worthwhile.
const ConvAlgorithm& default_algorithm(const ConvStep& step, const Program& program,
                                       const MemoryPlan& plan);

// All that support it; each gives the same numbers but for rounding.
std::vector<const ConvAlgorithm*> supported_algorithms(const ConvStep& step, const Program& program,
                                                       const MemoryPlan& plan);

// A convolution's algorithm and its packed filters. Empty for other steps.
struct PreparedConv {
  const ConvAlgorithm* algorithm = nullptr;
  const float* filters = nullptr;
};

// The contiguous ranges of a map that an output pixel reads, of equal length: a row of taps where
// `channels` are all of a pixel, and a tap otherwise.
struct Segments {
  int count, length;
};

// Writes the elements in front of each range to `offsets`, unless that is null.
Segments find_segments(const ConvStep& step, const Placement& in, int channels,
                       std::ptrdiff_t* offsets);

// What the threads share.
struct RunContext {
  const Program& program;
  const MemoryPlan& plan;
  const std::vector<PreparedConv>& convs;  // by step
  const float* floats;
  const std::int8_t* bytes;
};

// Scratch memory of a batch of Winograd's tiles.
struct WinogradScratch {
  float* planes;  // (36, tiles, channels): the transformed input
  float* sums;    // (36, tiles, kPanelWidth): the products of a panel
  float* patch;   // (36, channels): an input tile at the edge of the image
  std::ptrdiff_t planes_stride, sums_stride;

  WinogradScratch(float* memory, int channels, int tiles)
      : planes(memory),
        sums(planes + floats_of(channels, tiles)),
        patch(sums + floats_of(kPanelWidth, tiles)),
        planes_stride(std::ptrdiff_t{tiles} * channels),
        sums_stride(std::ptrdiff_t{tiles} * kPanelWidth) {}

  static std::size_t floats(int channels, int tiles) {
    return floats_of(channels, tiles) + floats_of(kPanelWidth, tiles) + floats_of(channels, 1);
  }

 private:
  static std::size_t floats_of(int channels, int tiles) {
    return static_cast<std::size_t>(kWinogradPlanes) * tiles * channels;
  }
};

// Scratch memory of one thread for any step of a program. Workers do not allocate: an exception
// must not leave a thread.
std::size_t scratch_bytes(const Program& program, const MemoryPlan& plan);

class InferenceWorker {
 public:
  // `arena` has MemoryPlan::size_bytes for the image; `scratch` belongs to this thread alone.
  InferenceWorker(const RunContext& context, std::uint8_t* arena, std::uint8_t* scratch,
                  Barrier& barrier, int rank)
      : program_(context.program),
        plan_(context.plan),
        convs_(context.convs),
        floats_(context.floats),
        bytes_(context.bytes),
        arena_(arena),
        scratch_(scratch),
        barrier_(barrier),
        rank_(rank) {}

  // Runs all steps on image number `index` of the batch.
  void run(const float* image, int index, const std::vector<float*>& outputs);

  // The algorithms of convolutions, see algorithms.cc.
  void direct_conv(const ConvStep& s, const float* filters);
  void bf16_conv(const ConvStep& s, const float* filters);
  void grouped_conv(const ConvStep& s, const float* filters);
  void winograd_conv(const ConvStep& s, const float* filters);

 private:
  const Program& program_;
  const MemoryPlan& plan_;
  const std::vector<PreparedConv>& convs_;
  const float* const floats_;
  const std::int8_t* const bytes_;
  std::uint8_t* const arena_;
  std::uint8_t* const scratch_;
  Barrier& barrier_;
  const int rank_;
  // Of the current run and step.
  const float* image_ = nullptr;
  std::ptrdiff_t image_index_ = 0;
  const std::vector<float*>* outputs_ = nullptr;
  const PreparedConv* conv_ = nullptr;

  // T is the type of the step's input (of a load's output): float, Bf16 or std::uint8_t.
  template <class T>
  void run_step(const LoadStep& s);
  template <class T>
  void run_step(const StoreStep& s);
  // With the algorithm that was chosen for the step.
  template <class T>
  void run_step(const ConvStep& s) {
    (this->*conv_->algorithm->run)(s, conv_->filters);
  }
  // Pixel by pixel.
  template <class T>
  void run_step(const AffineStep& s);
  template <class In, class Out>
  void affine(const AffineStep& s);
  // depthwise_conv.cc
  template <class T>
  void run_step(const DepthwiseStep& s) {
    depthwise_conv(s);
  }
  void depthwise_conv(const DepthwiseStep& s);
  template <class T>
  void run_step(const LayerNormStep& s);
  template <class T>
  void run_step(const CopyStep& s);
  template <class T>
  void run_step(const GateStep& s);
  // neck.cc
  template <class T>
  void run_step(const ResampleStep& s);
  template <class T>
  void run_step(const CombineStep& s);
  // Window by window; the global pooling, in one thread.
  template <class T>
  void run_step(const PoolStep& s);
  template <class T>
  void run_step(const GlobalPoolStep& s);

  // conv.cc. The products are of type T; in bfloat16, the filters are `bf16_filters`.
  template <class In, class T, class Out>
  void conv(const ConvStep& s, const Bf16* bf16_filters);
  template <class In, class T, class Out>
  void conv_tile(const ConvStep& s, const Bf16* bf16_filters, int y, int x, int pitch, int pixels,
                 int panel, int end);
  template <class In, class T, class Tile>
  const T* pack_tile(const ConvStep& s, int y, int x, std::ptrdiff_t* offsets, Tile* tile);
  template <class In, class T>
  void pack_pixel(const ConvStep& s, const In* pixel, const std::ptrdiff_t* offsets,
                  const Segments& segments, T* dst, float* normalized);
  template <class In>
  const In* window_ptr(const ConvStep& s, int y, int x) const;

  // grouped_conv.cc
  template <class T>
  void grouped_conv(const ConvStep& s, const T* filters, void (*kernel)(const GroupedConvTile<T>&));

  // winograd_conv.cc
  void winograd_tile_batch(const ConvStep& s, const float* filters, std::int64_t first, int tiles);
  template <class T>
  void winograd_input_transform(const ConvStep& s, int y, int x, T* patch, float* planes,
                                std::ptrdiff_t plane_stride);
  template <class T>
  void winograd_output_transform(const ConvStep& s, int panel, int y, int x, const float* sums,
                                 std::ptrdiff_t plane_stride) const;

  const Placement& placement(const ChannelSlice& slice) const { return plan_.placement(slice); }
  template <class T>
  T* map_ptr(const ChannelSlice& slice) const {
    return reinterpret_cast<T*>(arena_ + placement(slice).offset);
  }
  template <class T>
  T* pixel_ptr(const ChannelSlice& slice, int y, int x) const {
    return map_ptr<T>(slice) + placement(slice).index(y, x) + slice.channel;
  }
  const std::uint8_t* u8_ptr(Offset offset) const {
    return reinterpret_cast<const std::uint8_t*>(bytes_) + offset;
  }
  // This thread's range of `count` equal work items.
  std::pair<std::int64_t, std::int64_t> partition(std::int64_t count) const {
    return gluondense::partition(count, rank_, barrier_.size());
  }
  // Writes a map's padding, in memory that another map has used before.
  void fill_padding(const ChannelSlice& slice) const;
};

}  // namespace gluondense
