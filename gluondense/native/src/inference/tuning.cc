// SPDX-License-Identifier: Apache-2.0
#include "inference/tuning.h"

#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>

#include "inference/tuning_file.h"
#include "memory.h"

namespace gluondense {
namespace {

constexpr double kSeconds = 0.2;  // of one program's measurements; none begins later
constexpr int kRepeats = 3;       // the fastest counts
// Of equal shape. Their filters displace each other in the caches, as those of a network do; larger
// ones need no others for that.
constexpr std::size_t kMaxSteps = 4, kMaxFilterFloats = 1 << 20;
constexpr double kGain = 0.9;  // of the default's time: a smaller gain may be chance

// Of this thread, so that other processes on its core do not count.
double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// All that the time of a convolution depends on.
std::vector<int> shape_of(const ConvStep& s, const MemoryPlan& plan) {
  std::vector<int> shape = {s.panels,           s.panel_in,        s.panel_in_stride,
                            s.panels_per_input, s.panel_out,       s.groups_per_panel,
                            s.in.channels,      s.out.channels,    s.has_prologue(),
                            s.is_gelu,          s.residual.valid()};
  for (const int* size : {s.window.kernel, s.window.stride, s.window.pad}) {
    shape.insert(shape.end(), {size[0], size[1]});
  }
  for (const ChannelSlice& slice : {s.in, s.out}) {
    const Placement& p = plan.placement(slice);
    shape.insert(shape.end(), {p.height, p.width, p.pad, p.pixel_stride, p.element_size});
  }
  return shape;
}

// The time of an algorithm for convolutions of equal shape.
struct Candidate {
  const ConvAlgorithm* algorithm;
  std::vector<std::vector<float>> filters;  // by convolution
  std::vector<double> seconds;

  double sum() const {
    double sum = 0;
    for (double each : seconds) sum += each;
    return seconds.empty() ? std::numeric_limits<double>::infinity() : sum;
  }
};

// Some convolutions of equal shape, and the algorithms that support it, the default first.
struct Group {
  std::vector<const ConvStep*> steps;
  std::vector<Candidate> candidates;
};

class Measurement {
 public:
  Measurement(const RunContext& context, const std::vector<PreparedConv>& convs)
      : context_(context) {
    for (std::size_t i = 0; i < convs.size(); ++i) {
      const auto* const step = std::get_if<ConvStep>(&context.program.steps[i]);
      if (!step) continue;
      Group& group = groups_[shape_of(*step, context.plan)];
      if (group.steps.empty()) {
        group.candidates.push_back({convs[i].algorithm, {}, {}});
        for (const auto* other : supported_algorithms(*step, context.program, context.plan)) {
          if (other != convs[i].algorithm) group.candidates.push_back({other, {}, {}});
        }
        has_choice_ |= group.candidates.size() > 1;
      }
      if (group.steps.size() < max_steps(*step)) group.steps.push_back(step);
    }
  }

  bool has_choice() const { return has_choice_; }

  void run() {
    const std::size_t image =
        round_up<std::size_t>(context_.plan.size_bytes + kOverreadBytes, kCacheLineBytes);
    const std::size_t size = image + scratch_bytes(context_.program, context_.plan);
    AlignedBuffer memory;
    auto* const arena = memory.reserve<std::uint8_t>(size);
    std::memset(arena, 0, size);
    Barrier none;
    InferenceWorker worker(context_, arena, arena + image, none, 0);
    const double end = cpu_seconds() + kSeconds;
    for (auto& [shape, group] : groups_) {
      if (group.candidates.size() == 1) continue;
      for (int repeat = 0; repeat < kRepeats && cpu_seconds() < end; ++repeat) {
        for (Candidate& candidate : group.candidates) measure(group.steps, &candidate, &worker);
      }
      for (Candidate& candidate : group.candidates) candidate.filters.clear();
    }
  }

  const ConvAlgorithm* fastest(const ConvStep& step) const {
    const Group& group = groups_.at(shape_of(step, context_.plan));
    const Candidate* best = &group.candidates.front();
    const double limit = best->sum() * kGain;  // infinite without measurements, as all sums are
    for (const Candidate& candidate : group.candidates) {
      if (candidate.sum() < std::min(best->sum(), limit)) best = &candidate;
    }
    return best->algorithm;
  }

 private:
  const RunContext& context_;
  std::map<std::vector<int>, Group> groups_;
  bool has_choice_ = false;

  static std::size_t max_steps(const ConvStep& s) {
    const std::size_t floats = std::size_t{kPanelWidth} * s.panels * s.panel_in * s.window.taps();
    return std::clamp<std::size_t>(kMaxFilterFloats / floats, 1, kMaxSteps);
  }

  void measure(const std::vector<const ConvStep*>& steps, Candidate* candidate,
               InferenceWorker* worker) {
    const TileRegisters registers;
    const ConvAlgorithm& algorithm = *candidate->algorithm;
    candidate->filters.resize(steps.size());
    candidate->seconds.resize(steps.size(), std::numeric_limits<double>::infinity());
    for (std::size_t i = 0; i < steps.size(); ++i) {
      std::vector<float>& filters = candidate->filters[i];
      if (algorithm.pack_filters && filters.empty()) {
        filters.resize(algorithm.filter_floats(*steps[i], context_.plan));
        algorithm.pack_filters(*steps[i], context_.plan, context_.floats, filters.data());
      }
      const double start = cpu_seconds();
      (worker->*algorithm.run)(*steps[i], filters.data());
      candidate->seconds[i] = std::min(candidate->seconds[i], cpu_seconds() - start);
    }
  }
};

// Null if the convolution's shape has no such algorithm.
const ConvAlgorithm* find_algorithm(const std::string& name, const ConvStep& step,
                                    const RunContext& context) {
  for (const auto* algorithm : supported_algorithms(step, context.program, context.plan)) {
    if (name == algorithm->name) return algorithm;
  }
  return nullptr;
}

}  // namespace

void tune_algorithms(const RunContext& context, int channels, int height, int width,
                     std::vector<PreparedConv>* convs) {
  const char* const variable = std::getenv("GLUONDENSE_TUNE");
  if (variable && std::string(variable) == "0") return;
  Measurement measurement(context, *convs);
  if (!measurement.has_choice()) return;
  std::vector<std::size_t> indices;  // of convolutions
  for (std::size_t i = 0; i < convs->size(); ++i) {
    if (std::holds_alternative<ConvStep>(context.program.steps[i])) indices.push_back(i);
  }
  const auto step = [&](std::size_t i) -> const ConvStep& {
    return std::get<ConvStep>(context.program.steps[indices[i]]);
  };
  const std::string image = "image " + std::to_string(channels) + " " + std::to_string(height) +
                            " " + std::to_string(width);
  const TuningFile file(context.program);
  auto tuning = file.read();
  if (!tuning) {
    tuning = file.update([&] {
      measurement.run();
      Tuning measured = {image, {}};
      for (std::size_t i = 0; i < indices.size(); ++i) {
        measured.algorithms.push_back(measurement.fastest(step(i))->name);
      }
      return measured;
    });
  }
  if (!tuning || tuning->image != image || tuning->algorithms.size() != indices.size()) return;
  std::vector<PreparedConv> tuned = *convs;
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const auto* const algorithm = find_algorithm(tuning->algorithms[i], step(i), context);
    if (!algorithm) return;  // all or none
    tuned[indices[i]].algorithm = algorithm;
  }
  *convs = std::move(tuned);
}

}  // namespace gluondense
