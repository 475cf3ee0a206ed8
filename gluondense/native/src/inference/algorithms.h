// How convolutions are computed, and their filters in the layout that this needs.
#pragma once

#include <vector>

#include "inference/memory_plan.h"
#include "inference/program.h"

namespace gluondense {

class InferenceWorker;

struct ConvAlgorithm {
  // Whether it is possible and worthwhile.
  bool (*accepts)(const ConvStep& step, const Program& program, const MemoryPlan& plan);
  // Null for an algorithm that reads the filters of the program.
  std::vector<float> (*pack_filters)(const ConvStep& step, const float* floats);
  // `filters` are the packed ones, or null.
  void (InferenceWorker::*run)(const ConvStep& step, const float* filters);
};

// The first algorithm that accepts a convolution.
const ConvAlgorithm& choose_algorithm(const ConvStep& step, const Program& program,
                                      const MemoryPlan& plan);

// In pack_filters.cc. Each packs the program's filters, (panels, KH, KW, panel_in, kPanelWidth).
// Returns (panels, 36, panel_in, kPanelWidth).
std::vector<float> pack_winograd_filters(const ConvStep& step, const float* floats);
// Returns (panels, 3, group_channels, 3, kGroupedWidth).
std::vector<float> pack_grouped_filters(const ConvStep& step, const float* floats);
// Returns (panels, panel_in / 2 rounded up, kPanelWidth) pairs of bfloat16, two input channels.
std::vector<float> pack_bf16_filters(const ConvStep& step, const float* floats);

}  // namespace gluondense
