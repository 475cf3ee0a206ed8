// SPDX-License-Identifier: Apache-2.0
#include "inference/memory_plan.h"

#include <algorithm>

#include "memory.h"

namespace gluondense {
namespace {

// With the limits of channels and padding, no size overflows 64 bits.
constexpr double kMaxPixels = 1 << 28;

int output_size(int size, int kernel, int stride, int pad, bool is_ceil) {
  if (size < 1 || size + 2 * pad < kernel) throw_invalid("the image is too small for this network");
  return (size + 2 * pad - kernel + (is_ceil ? stride - 1 : 0)) / stride + 1;
}

// Pixels whose distance is a multiple of 1 KiB share few sets of the cache, where the channels of
// neighbours would evict each other.
int pixel_stride(int channels, int element_size) {
  constexpr int kConflict = 1024;
  return channels * element_size % kConflict == 0 ? channels + kCacheLineBytes / element_size
                                                  : channels;
}

struct Size {
  int height, width;
};

// The size of a step's output map.
class OutputSize {
 public:
  OutputSize(Size image, const MemoryPlan& plan) : image_(image), plan_(plan) {}

  Size operator()(const LoadStep&) const { return image_; }
  Size operator()(const ConvStep& s) const { return windows(s, s.window); }
  Size operator()(const DepthwiseStep& s) const { return windows(s, s.window); }
  Size operator()(const PoolStep& s) const { return windows(s, s.window, s.is_ceil); }
  Size operator()(const GlobalPoolStep&) const { return {1, 1}; }
  Size operator()(const ResampleStep& s) const {
    const Placement& in = plan_.placement(s.in);
    if (in.height % s.down != 0 || in.width % s.down != 0) {
      throw_invalid("the image's height or width is no multiple of what this network needs");
    }
    // In both directions less than kMaxPixels, so that neither side overflows.
    if (static_cast<double>(in.height) * in.width * s.up * s.up > kMaxPixels) {
      throw_invalid("the image is too large");
    }
    const Size whole = {in.height / s.down * s.up, in.width / s.down * s.up};
    if (!s.residual.valid()) return whole;
    const Placement& like = plan_.placement(s.residual);
    if (like.height > whole.height || like.width > whole.width) {
      throw_invalid("a map is cut to a larger size");
    }
    return {like.height, like.width};
  }
  Size operator()(const StepBase& s) const {
    const Placement& in = plan_.placement(s.in);
    return {in.height, in.width};
  }

 private:
  const Size image_;
  const MemoryPlan& plan_;

  Size windows(const StepBase& s, const Window& w, bool is_ceil = false) const {
    const Placement& in = plan_.placement(s.in);
    return {output_size(in.height, w.kernel[0], w.stride[0], w.pad[0], is_ceil),
            output_size(in.width, w.kernel[1], w.stride[1], w.pad[1], is_ceil)};
  }
};

struct Access {
  ChannelSlice slice;
  bool write;
};

// Whether one access must be over before the other begins. Slices of one map do not overlap, apart
// from its padding, which all steps that write to it fill with the same values.
bool conflict(const Access& a, const Access& b, const MemoryPlan& plan) {
  if (!a.write && !b.write) return false;
  if (a.slice.map == b.slice.map) {
    return a.slice.channel < b.slice.channel + b.slice.channels &&
           b.slice.channel < a.slice.channel + a.slice.channels;
  }
  const Placement &p = plan.placement(a.slice), &q = plan.placement(b.slice);
  return p.offset < q.offset + q.size_bytes() && q.offset < p.offset + p.size_bytes();
}

// The threads share the pixels of each step. A barrier is needed before a step that accesses what a
// step since the last barrier has accessed: the two convolutions of a dual-path block and the
// copies behind them need one, not one each.
std::vector<bool> place_barriers(const std::vector<Step>& steps, const MemoryPlan& plan) {
  std::vector<bool> barriers;
  std::vector<Access> since;
  for (const Step& step : steps) {
    const StepBase& s = base(step);
    std::vector<Access> accesses;
    for (const ChannelSlice& slice : s.inputs()) {
      if (slice.valid()) accesses.push_back({slice, false});
    }
    if (s.out.valid()) accesses.push_back({s.out, true});
    const bool needed = std::any_of(accesses.begin(), accesses.end(), [&](const Access& a) {
      return std::any_of(since.begin(), since.end(),
                         [&](const Access& b) { return conflict(a, b, plan); });
    });
    barriers.push_back(needed);
    if (needed) since.clear();
    since.insert(since.end(), accesses.begin(), accesses.end());
  }
  return barriers;
}

// The steps of a map's first write and last access; first is -1 for a map that nothing writes.
struct Lifetime {
  int first = -1, last = -1;
};

// Places each map into the first gap between those that are alive at the same time.
void assign_offsets(const std::vector<Lifetime>& lifetimes, MemoryPlan* plan) {
  std::vector<std::size_t> placed;
  for (std::size_t map = 0; map < lifetimes.size(); ++map) {
    const Lifetime& life = lifetimes[map];
    if (life.first < 0) continue;
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (std::size_t other : placed) {
      if (lifetimes[other].first <= life.last && life.first <= lifetimes[other].last) {
        const Placement& p = plan->placements[other];
        taken.emplace_back(p.offset, p.offset + p.size_bytes());
      }
    }
    std::sort(taken.begin(), taken.end());
    Placement& placement = plan->placements[map];
    const std::size_t size = placement.size_bytes();
    for (const auto& range : taken) {
      if (placement.offset + size <= range.first) break;
      placement.offset =
          std::max(placement.offset, round_up<std::size_t>(range.second, kCacheLineBytes));
    }
    plan->size_bytes = std::max(plan->size_bytes, placement.offset + size);
    placed.push_back(map);
  }
}

}  // namespace

MemoryPlan plan_memory(const Program& program, int channels, int height, int width) {
  const std::vector<bool> is_bf16 = find_bf16_maps(program);
  MemoryPlan plan;
  plan.placements.resize(program.maps.size());
  std::vector<Lifetime> lifetimes(program.maps.size());
  for (int i = 0; i < static_cast<int>(program.steps.size()); ++i) {
    const StepBase& s = base(program.steps[i]);
    for (const ChannelSlice& slice : s.inputs()) {
      if (slice.valid()) lifetimes[slice.map].last = i;
    }
    if (s.out.valid()) lifetimes[s.out.map].last = i;
    if (!s.out.valid()) continue;
    if (std::holds_alternative<LoadStep>(program.steps[i]) && s.out.channels != channels) {
      throw_invalid("the image has other channels than the network takes");
    }
    const Size size = std::visit(OutputSize({height, width}, plan), program.steps[i]);
    if (static_cast<double>(size.height) * size.width > kMaxPixels) {
      throw_invalid("the image is too large");
    }
    Placement& out = plan.placements[s.out.map];
    if (lifetimes[s.out.map].first < 0) {
      lifetimes[s.out.map].first = i;
      const FeatureMap& map = program.maps[s.out.map];
      const int element_size = map.is_u8 ? 1 : is_bf16[s.out.map] ? 2 : 4;
      out = {size.height,
             size.width,
             map.pad,
             element_size,
             pixel_stride(map.channels, element_size),
             0};
    } else if (out.height != size.height || out.width != size.width) {
      throw_invalid("maps of different sizes are concatenated");
    }
    if (s.residual.valid() && (plan.placement(s.residual).height != size.height ||
                               plan.placement(s.residual).width != size.width)) {
      throw_invalid("maps of different sizes are added");
    }
    if (s.gate.valid()) {
      const Placement& gate = plan.placement(s.gate);
      if (gate.height != 1 || gate.width != 1) throw_invalid("a gate has more than one pixel");
    }
  }
  assign_offsets(lifetimes, &plan);
  check_memory(plan.size_bytes);
  plan.barrier_before = place_barriers(program.steps, plan);
  return plan;
}

std::vector<std::size_t> output_shape(const Program& program, const MemoryPlan& plan, int output) {
  for (const Step& step : program.steps) {
    const auto* const s = std::get_if<StoreStep>(&step);
    if (!s || s->output_index != output) continue;
    const Placement& in = plan.placement(s->in);
    const std::size_t c = s->in.channels, h = in.height, w = in.width;
    if (s->flatten) return {c * h * w};
    return {c, h, w};
  }
  throw_invalid("an output is missing");
}

}  // namespace gluondense
