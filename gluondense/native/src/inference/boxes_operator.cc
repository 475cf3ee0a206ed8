// SPDX-License-Identifier: Apache-2.0
// MXNet's operator that decodes the predictions of a YOLOv3 and suppresses overlapping boxes.
//
// The result is that of GluonCV's YOLOOutputV3 and _contrib_box_nms. The latter starts all threads
// for each of the best boxes; here only what reaches the score threshold is computed at all.
#include <algorithm>
#include <cmath>

#include "mxnet_operator.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

constexpr const char* kMessagePrefix = "gluondense boxes: ";
constexpr int kNumbers = 5;  // x, y, width, height, objectness; the classes follow

// Positive numbers, separated by commas.
std::vector<float> list_attribute(const Attributes& attributes, const char* key) {
  const std::string text = attribute(attributes, key) + ",";
  std::vector<float> values;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = text.find(',', begin);
    const auto value =
        static_cast<float>(parse_number(text.substr(begin, end - begin)).value_or(0));
    if (!(value > 0) || std::isinf(value)) {
      throw std::invalid_argument(std::string(key) + " must be positive numbers");
    }
    values.push_back(value);
  }
  return values;
}

struct BoxesConfig {
  std::vector<float> strides;  // of each input
  std::vector<float> anchors;  // (scales, anchors of a scale, 2), in pixels
  float nms_threshold, score_threshold;
  int topk;      // boxes that enter the suppression
  int post_nms;  // rows of the outputs

  explicit BoxesConfig(const Attributes& attributes)
      : strides(list_attribute(attributes, "strides")),
        anchors(list_attribute(attributes, "anchors")),
        nms_threshold(float_attribute(attributes, "nms_threshold")),
        score_threshold(float_attribute(attributes, "score_threshold")),
        topk(count_attribute(attributes, "topk")),
        post_nms(count_attribute(attributes, "post_nms")) {
    if (anchors.size() % (2 * strides.size()) != 0) {
      throw std::invalid_argument("the anchors are not pairs, of as many for each stride");
    }
  }

  int anchors_of_scale() const { return static_cast<int>(anchors.size() / strides.size() / 2); }
  // Of predictions with so many channels.
  int classes(std::int64_t channels) const {
    const std::int64_t numbers = channels / anchors_of_scale();
    if (channels % anchors_of_scale() != 0 || numbers <= kNumbers) {
      throw std::invalid_argument("predictions have " + std::to_string(channels) + " channels");
    }
    return static_cast<int>(numbers) - kNumbers;
  }
};

// Predictions (anchors, 5 + classes, height, width) of one image at one scale.
struct Scale {
  const float* data;
  std::int64_t height, width;
  float stride;
  const float* anchors;

  float at(std::int64_t channel, std::int64_t cell) const {
    return data[channel * height * width + cell];
  }
};

struct Box {
  int label;
  float score;
  float corners[4];  // x1, y1, x2, y2

  float area() const {
    const float width = corners[2] - corners[0], height = corners[3] - corners[1];
    return width < 0 || height < 0 ? 0 : width * height;
  }
};

float sigmoid(float x) { return 1 / (1 + std::exp(-x)); }

Box decode(const Scale& scale, int anchor, int numbers, std::int64_t cell, int label, float score) {
  const std::int64_t first = std::int64_t{anchor} * numbers;
  const float x = (sigmoid(scale.at(first, cell)) + cell % scale.width) * scale.stride;
  const float y = (sigmoid(scale.at(first + 1, cell)) + cell / scale.width) * scale.stride;
  const float w = std::exp(scale.at(first + 2, cell)) * scale.anchors[2 * anchor] / 2;
  const float h = std::exp(scale.at(first + 3, cell)) * scale.anchors[2 * anchor + 1] / 2;
  return {label, score, {x - w, y - h, x + w, y + h}};
}

// Appends the boxes above the score threshold, by class, cell and anchor, which is MXNet's order.
void find_boxes(const BoxesConfig& config, const Scale& scale, int classes,
                std::vector<Box>* boxes) {
  struct Place {
    std::int64_t cell;
    int anchor;
    float objectness;
  };
  const int numbers = kNumbers + classes;
  // A score is at most the objectness, whose exponential is needed for few.
  const float t = config.score_threshold;
  const float least = t > 0 && t < 1 ? std::log(t / (1 - t)) - 0.01f : -INFINITY;
  std::vector<Place> places;
  for (std::int64_t cell = 0; cell < scale.height * scale.width; ++cell) {
    for (int anchor = 0; anchor < config.anchors_of_scale(); ++anchor) {
      const float x = scale.at(std::int64_t{anchor} * numbers + 4, cell);
      if (x >= least) places.push_back({cell, anchor, sigmoid(x)});
    }
  }
  for (int label = 0; label < classes; ++label) {
    for (const Place& place : places) {
      const std::int64_t channel = std::int64_t{place.anchor} * numbers + kNumbers + label;
      const float score = sigmoid(scale.at(channel, place.cell)) * place.objectness;
      if (score > config.score_threshold) {
        boxes->push_back(decode(scale, place.anchor, numbers, place.cell, label, score));
      }
    }
  }
}

float overlap(const Box& a, const Box& b) {
  const float width = std::min(a.corners[2], b.corners[2]) - std::max(a.corners[0], b.corners[0]);
  const float height = std::min(a.corners[3], b.corners[3]) - std::max(a.corners[1], b.corners[1]);
  const float common = std::max(width, 0.0f) * std::max(height, 0.0f);
  return common / (a.area() + b.area() - common);
}

// Sorts the boxes by score, and keeps the best `topk` without those that overlap a better one of
// their class.
void suppress(const BoxesConfig& config, std::vector<Box>* boxes) {
  std::stable_sort(boxes->begin(), boxes->end(),
                   [](const Box& a, const Box& b) { return a.score > b.score; });
  if (boxes->size() > static_cast<std::size_t>(config.topk)) boxes->resize(config.topk);
  std::vector<Box> kept;
  for (const Box& box : *boxes) {
    const bool overlaps = std::any_of(kept.begin(), kept.end(), [&](const Box& better) {
      return better.label == box.label && overlap(better, box) > config.nms_threshold;
    });
    if (!overlaps) kept.push_back(box);
  }
  *boxes = std::move(kept);
}

template <class Function>
MXReturnValue guarded(Function function) {
  return gluondense::guarded(kMessagePrefix, function);
}

MXReturnValue parse_boxes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded([&] {
    *inputs = static_cast<int>(BoxesConfig(attributes).strides.size());
    *outputs = 3;
  });
}

MXReturnValue infer_boxes_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (int& type : *in) type = kFloat32;
  for (int& type : *out) type = kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_boxes_shape(const Attributes& attributes,
                                std::vector<std::vector<unsigned int>>* in,
                                std::vector<std::vector<unsigned int>>* out) {
  return guarded([&] {
    const BoxesConfig config(attributes);
    if (in->size() != config.strides.size()) {
      throw std::invalid_argument("there are " + std::to_string(in->size()) + " predictions and " +
                                  std::to_string(config.strides.size()) + " strides");
    }
    std::size_t rows = 0;
    for (const auto& shape : *in) {
      if (shape.size() != 4) throw std::invalid_argument("predictions must be (N, C, H, W)");
      if (shape[0] != in->at(0)[0] || shape[1] != in->at(0)[1]) {
        throw std::invalid_argument("the scales' predictions differ in N or C");
      }
      rows += std::size_t{checked_dim(std::size_t{shape[2]} * shape[3])} *
              config.anchors_of_scale() * config.classes(shape[1]);
    }
    rows = std::min<std::size_t>(rows, config.post_nms);
    for (int i = 0; i < 3; ++i) {
      out->at(i) = {in->at(0)[0], checked_dim(rows), i == 2 ? 4u : 1u};
    }
  });
}

// Stateful like the other operators: MXNet's graphs for Gluon demand a gradient of the others.
class BoxesOperator : public CustomStatefulOp {
 public:
  static constexpr const char* kMessagePrefix = gluondense::kMessagePrefix;

  explicit BoxesOperator(const Attributes& attributes) : config_(attributes) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded([&] {
      const std::int64_t rows = outputs->at(0).shape.at(1);
      float* const labels = outputs->at(0).data<float>();
      float* const scores = outputs->at(1).data<float>();
      float* const corners = outputs->at(2).data<float>();
      const std::int64_t images = inputs->at(0).shape.at(0);
      std::fill_n(labels, images * rows, -1.0f);
      std::fill_n(scores, images * rows, -1.0f);
      std::fill_n(corners, images * rows * 4, -1.0f);
      for (std::int64_t image = 0; image < images; ++image) {
        const std::vector<Box> boxes = boxes_of(inputs, image);
        const std::int64_t count = std::min<std::int64_t>(rows, boxes.size());
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t row = image * rows + i;
          labels[row] = static_cast<float>(boxes[i].label);
          scores[row] = boxes[i].score;
          std::copy_n(boxes[i].corners, 4, corners + row * 4);
        }
      }
    });
  }

 private:
  std::vector<Box> boxes_of(std::vector<MXTensor>* inputs, std::int64_t image) const {
    std::vector<Box> boxes;
    for (std::size_t i = 0; i < inputs->size(); ++i) {
      MXTensor& tensor = inputs->at(i);
      const std::int64_t channels = tensor.shape.at(1);
      const std::int64_t height = tensor.shape.at(2), width = tensor.shape.at(3);
      const Scale scale = {tensor.data<float>() + image * channels * height * width, height, width,
                           config_.strides[i],
                           config_.anchors.data() + i * 2 * config_.anchors_of_scale()};
      find_boxes(config_, scale, config_.classes(channels), &boxes);
    }
    suppress(config_, &boxes);
    return boxes;
  }

  const BoxesConfig config_;
};

}  // namespace
}  // namespace gluondense

REGISTER_OP(gluondense_boxes)
    .setParseAttrs(gluondense::parse_boxes)
    .setInferType(gluondense::infer_boxes_type)
    .setInferShape(gluondense::infer_boxes_shape)
    .setCreateOpState(gluondense::create<gluondense::BoxesOperator>, "cpu");
