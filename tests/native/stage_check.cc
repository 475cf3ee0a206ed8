// SPDX-License-Identifier: Apache-2.0
// Trains dense stages of all kinds and tails, dual-path and residual stages and stems for one step,
// for sanitizers. All arrays have exactly their elements. The gradients are checked for values that
// are not finite, or not written.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "training/dense_stage.h"
#include "training/dual_path/dual_path_parameters.h"
#include "training/dual_path/dual_path_stage.h"
#include "training/residual/residual_parameters.h"
#include "training/residual/residual_stage.h"
#include "training/stage_parameters.h"
#include "training/stem.h"

namespace gluondense {
namespace {

constexpr auto kPre = DenseStageConfig::kPreActivation, kTwoWay = DenseStageConfig::kTwoWay;
constexpr auto kFeatures = DenseStageConfig::kFeatures, kBnRelu = DenseStageConfig::kBnRelu;
constexpr auto kTransition = DenseStageConfig::kTransition;

// Batch, channels, height, width; kind, layers, growth rate, bottleneck; tail, its channels, pool;
// channels that bypass the layers.
const DenseStageConfig kCases[] = {
    {2, 16, 9, 7, kPre, 2, 8, 32, kFeatures, 0, false},
    {1, 5, 17, 18, kPre, 3, 12, 48, kBnRelu, 0, false},
    {3, 33, 18, 17, kPre, 2, 48, 20, kTransition, 40, true},
    {2, 7, 8, 8, kPre, 0, 0, 0, kTransition, 9, true},
    {2, 12, 6, 11, kPre, 2, 12, 0, kTransition, 24, false},
    {2, 16, 9, 7, kTwoWay, 2, 8, 16, kFeatures, 0, false},
    {3, 5, 19, 18, kTwoWay, 3, 13, 12, kTransition, 44, true},
    {2, 32, 17, 16, kTwoWay, 2, 32, 128, kTransition, 96, false},
    {1, 3, 1, 1, kTwoWay, 1, 2, 2, kTransition, 1, false},
    {2, 16, 9, 7, kPre, 2, 8, 32, kTransition, 40, true, 5},
    {3, 9, 8, 11, kPre, 2, 8, 32, kFeatures, 0, false, 3},
};

// Batch, channels, height, width; blocks, stride; bottleneck, groups; residual, increment.
const DualPathConfig kDualPathCases[] = {
    {2, 16, 9, 7, 2, 1, 32, 8, 16, 8},    {3, 5, 18, 17, 3, 2, 24, 8, 20, 5},
    {1, 33, 17, 16, 2, 2, 48, 4, 33, 12}, {2, 7, 8, 8, 1, 1, 64, 2, 9, 3},
    {1, 3, 1, 1, 1, 2, 1, 1, 1, 1},       {1, 40, 40, 60, 2, 1, 128, 32, 64, 16},
};

// Batch, channels, height, width; stride; expanded, bypass; blocks, bottleneck, groups; output.
const ResidualStageConfig kResidualCases[] = {
    {2, 16, 9, 7, 1, 32, 16, 2, 24, 8, 40},      {3, 20, 18, 17, 2, 33, 8, 1, 20, 4, 17},
    {1, 96, 17, 16, 2, 70, 35, 3, 96, 2, 64},    {1, 2, 1, 1, 2, 2, 1, 1, 2, 2, 1},
    {1, 64, 40, 60, 1, 128, 64, 1, 64, 32, 128},
};

std::mt19937 random_bits(1);

std::vector<float> random_floats(std::size_t count, float low, float high) {
  std::uniform_real_distribution<float> distribution(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(random_bits);
  return values;
}

std::size_t size_of(const std::vector<unsigned int>& shape) {
  std::size_t size = 1;
  for (unsigned int dim : shape) size *= dim;
  return size;
}

// Arrays for all parameters, filled by `fill`.
template <class Fill>
std::vector<std::vector<float>> allocate(const Parameters& parameters, Fill fill) {
  std::vector<std::vector<float>> memory;
  for (const Parameter& parameter : parameters) {
    memory.push_back(fill(size_of(parameter.shape)));
    *parameter.array = memory.back().data();
  }
  return memory;
}

bool all_finite(const std::vector<float>& values) {
  for (float value : values) {
    if (!std::isfinite(value)) return false;
  }
  return true;
}

// Forward and backward with an input and an output of so many elements.
template <class Stage, class List, class Arrays, class Config>
bool trains(const Config& config, std::size_t inputs, std::size_t outputs) {
  Arrays arrays, gradients;
  const auto parameters = allocate(List(config, &arrays),
                                   [](std::size_t size) { return random_floats(size, 0.1f, 1); });
  const auto derivatives = allocate(List(config, &gradients),
                                    [](std::size_t size) { return std::vector<float>(size, NAN); });
  const std::vector<float> x = random_floats(inputs, 0, 1), dy = random_floats(outputs, -1, 1);
  std::vector<float> y(outputs, NAN), dx(inputs, NAN);
  Stage stage;
  stage.forward(config, x.data(), arrays, y.data());
  stage.backward(dy.data(), arrays, dx.data(), gradients);
  bool finite = all_finite(y) && all_finite(dx);
  std::size_t i = 0;
  for (const Parameter& parameter : List(config, &gradients)) {
    const std::vector<float>& values = parameter.is_statistic ? parameters[i] : derivatives[i];
    finite = finite && all_finite(values);
    ++i;
  }
  return finite;
}

bool trains(const DenseStageConfig& config) {
  return trains<DenseStage, ParameterList, DenseStageArrays>(
      config, config.pixels() * config.image_in_channels(),
      config.out_pixels() * config.image_out_channels());
}

bool trains(const DualPathConfig& config) {
  return trains<DualPathStage, DualPathParameters, DualPathArrays>(
      config, config.pixels() * config.in_channels, config.out_pixels() * config.out_channels());
}

bool trains(const ResidualStageConfig& config) {
  return trains<ResidualStage, ResidualStageParameters, ResidualStageArrays>(
      config, config.pixels() * config.in_channels, config.out_pixels() * config.out_channels);
}

// Batch, channels, height and width of the images; output channels.
const StemConfig kStems[] = {
    {2, 3, 32, 32, 64}, {1, 1, 1, 1, 1}, {3, 3, 37, 51, 20}, {2, 5, 2, 70, 33}, {1, 3, 66, 3, 96},
};

bool trains(const StemConfig& config) {
  const std::size_t channels = config.out_channels;
  const std::size_t taps = std::size_t{49} * config.in_channels * channels;
  const std::size_t sizes[] = {taps, channels, channels, channels, channels};
  std::vector<std::vector<float>> memory, derivatives;
  for (std::size_t size : sizes) {
    memory.push_back(random_floats(size, 0.1f, 1));
    derivatives.emplace_back(size, NAN);
  }
  const auto bind = [](std::vector<std::vector<float>>& of) -> ConvBnArrays {
    return {of[0].data(), {of[1].data(), of[2].data(), of[3].data(), of[4].data()}};
  };
  const std::size_t outputs = config.out_pixels() * channels;
  const std::size_t inputs =
      std::size_t{1} * config.batch * config.in_channels * config.height * config.width;
  const std::vector<float> x = random_floats(inputs, 0, 1), dy = random_floats(outputs, -1, 1);
  std::vector<float> y(outputs, NAN);
  Stem stem;
  stem.forward(config, x.data(), bind(memory), y.data());
  stem.backward(dy.data(), x.data(), bind(memory), bind(derivatives));
  bool finite = all_finite(y);
  for (int i = 0; i < 3; ++i) finite = finite && all_finite(derivatives[i]);
  return finite && all_finite(memory[3]) && all_finite(memory[4]);
}

template <class Configs, class Set>
int failures(const char* name, const Configs& configs, Set set) {
  int count = 0, number = 0;
  for (auto config : configs) {
    for (int setting = 0; setting < 4; ++setting) {
      set(&config, setting & 1);
      config.bf16 = setting & 2;
      const bool trained = trains(config);
      if (!trained) std::printf("%s %d, setting %d: not finite\n", name, number, setting);
      count += !trained;
    }
    ++number;
  }
  return count;
}

}  // namespace
}  // namespace gluondense

int main() {
  using namespace gluondense;
  return failures("stage", kCases,
                  [](DenseStageConfig* config, bool on) { config->recompute_bottleneck = on; }) +
         failures("dual-path stage", kDualPathCases,
                  [](DualPathConfig* config, bool on) { config->recompute_bottlenecks = on; }) +
         failures("residual stage", kResidualCases,
                  [](ResidualStageConfig* config, bool on) {
                    config->recompute_bottlenecks = on, config->slope = 0.1f;
                  }) +
         failures("stem", kStems, [](StemConfig* config, bool on) {
           config->recompute = on, config->slope = 0.1f * on;
         });
}
