// SPDX-License-Identifier: Apache-2.0
// The parameters of a dense stage, in the order of the operator's inputs.
#pragma once

#include <vector>

#include "training/dense_stage.h"

namespace gluondense {

struct Parameter {
  float** array;
  std::vector<unsigned int> shape;
  bool is_statistic;  // a running statistic, which the operator modifies
};

// Parameters in the order of an operator's inputs, as members of its arrays.
class Parameters {
 public:
  std::vector<Parameter>::const_iterator begin() const { return parameters_.begin(); }
  std::vector<Parameter>::const_iterator end() const { return parameters_.end(); }
  int size() const { return static_cast<int>(parameters_.size()); }

  void add(BatchNormArrays* bn, int channels) {
    for (float** array : {&bn->gamma, &bn->beta, &bn->running_mean, &bn->running_var}) {
      const bool is_statistic = array == &bn->running_mean || array == &bn->running_var;
      parameters_.push_back({array, {static_cast<unsigned int>(channels)}, is_statistic});
    }
  }
  void add(float** filters, int out_channels, int in_channels, int kernel) {
    const unsigned int n = out_channels, c = in_channels, k = kernel;
    parameters_.push_back({filters, {n, c, k, k}, false});
  }

 private:
  std::vector<Parameter> parameters_;
};

// Those of a dense stage.
class ParameterList : public Parameters {
 public:
  ParameterList(const DenseStageConfig& config, DenseStageArrays* arrays) {
    const bool two_way = config.kind == DenseStageConfig::kTwoWay;
    two_way ? add_two_way_layers(config, arrays) : add_layers(config, arrays);
    const int total = config.total_channels();
    if (config.tail == DenseStageConfig::kFeatures) return;
    if (!two_way) add(&arrays->tail_bn, total);
    if (config.tail == DenseStageConfig::kTransition) {
      add(&arrays->tail_conv, config.out_channels, total, 1);
    }
    if (two_way) add(&arrays->tail_bn, config.out_channels);
  }

 private:
  void add_layers(const DenseStageConfig& config, DenseStageArrays* arrays) {
    arrays->layers.resize(config.layers);
    for (int l = 0; l < config.layers; ++l) {
      auto& layer = arrays->layers[l];
      const int in_channels = config.layer_in_channels(l);
      if (config.bottleneck) {
        add(&layer.bn1, in_channels);
        add(&layer.conv1x1, config.bottleneck, in_channels, 1);
      }
      add(&layer.bn2, config.conv3x3_in_channels(l));
      add(&layer.conv3x3, config.growth_rate, config.conv3x3_in_channels(l), 3);
    }
  }

  void add_two_way_layers(const DenseStageConfig& config, DenseStageArrays* arrays) {
    const int width = config.branch_bottleneck(), first = config.first_branch_channels();
    const int second = config.second_branch_channels();
    arrays->two_way_layers.resize(config.layers);
    for (int l = 0; l < config.layers; ++l) {
      auto& layer = arrays->two_way_layers[l];
      add(&layer.conv1x1[0], width, config.layer_in_channels(l), 1);
      add(&layer.conv3x3[0], first, width, 3);
      add(&layer.conv1x1[1], width, config.layer_in_channels(l), 1);
      add(&layer.conv3x3[1], second, width, 3);
      add(&layer.conv3x3[2], second, second, 3);
    }
  }

  using Parameters::add;
  void add(ConvBnArrays* unit, int out_channels, int in_channels, int kernel) {
    add(&unit->conv, out_channels, in_channels, kernel);
    add(&unit->bn, out_channels);
  }
};

}  // namespace gluondense
