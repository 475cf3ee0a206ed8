#include "training/stage_layout.h"

#include <algorithm>

namespace gluondense {
namespace {

template <class Scratch, class... Args>
std::size_t floats_of(Args... args) {
  ScratchAllocator counter(nullptr);
  Scratch(counter, args...);
  return counter.used();
}

}  // namespace

StageLayout::StageLayout(const DenseStageConfig& c)
    : map_stride(packed_stride<float>(c.total_channels())),
      bottleneck_stride(pad_to_panel(c.bottleneck)),
      growth_stride(pad_to_cache_line(c.growth_rate)),
      strip_width(round_up(c.width, kWinogradOutputTile) + kWinogradInputTile -
                  kWinogradOutputTile),
      map_sums(pad_to_cache_line(c.total_channels())),
      bottleneck_sums(bottleneck_stride) {
  constexpr std::size_t kLine = kCacheLineBytes / sizeof(double);
  // The sums of two threads share no cache line.
  thread_sums = round_up(2 * (map_sums + c.layers * bottleneck_sums), kLine) + kLine;
  const int total = c.total_channels(), conv3x3_channels = c.conv3x3_in_channels(c.layers);
  const std::size_t widest = pad_to_panel(std::max({total, c.bottleneck, c.out_channels}));
  conv1x1_panels = widest * pad_to_panel(std::max(c.bottleneck, c.out_channels));
  conv3x3_panels = c.layers ? static_cast<std::size_t>(kWinogradPlanes) *
                                  pad_to_panel(conv3x3_channels) * pad_to_panel(c.growth_rate)
                            : 0;
  d_filters = conv1x1_panels + conv3x3_panels;
  scratch = std::max({floats_of<RowsScratch>(map_stride),
                      floats_of<Conv1x1Scratch>(total, c.out_channels),
                      floats_of<Conv1x1GradScratch>(kConv1x1GradChannels, c.bottleneck),
                      floats_of<Conv1x1GradScratch>(total, c.out_channels),
                      floats_of<Conv3x3Scratch>(strip_width, conv3x3_channels),
                      floats_of<Conv3x3Scratch>(strip_width, c.growth_rate),
                      floats_of<Conv3x3GradScratch>(strip_width, growth_stride)}) +
            kOverreadBytes / sizeof(float);
}

}  // namespace gluondense
