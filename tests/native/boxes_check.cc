// Calls gluondense_boxes as MXNet does, with random predictions of many shapes, also infinite ones
// and NaN, and with damaged attributes. Outputs have exactly the sizes of its shape inference.
#include <mxnet/lib_api.h>

#include <algorithm>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

using namespace mxnet::ext;

namespace {

typedef std::unordered_map<std::string, std::string> Attributes;
typedef std::vector<std::vector<unsigned int>> Shapes;

CustomOp& boxes() {
  static CustomOp& op = []() -> CustomOp& {
    auto& operators = *Registry<CustomOp>::get();
    int i = 0;
    while (std::string(operators.get(i).name) != "gluondense_boxes") ++i;
    operators.get(i).mapToVector();
    return operators.get(i);
  }();
  return op;
}

std::size_t count(const std::vector<unsigned int>& shape) {
  std::size_t product = 1;
  for (unsigned int size : shape) product *= size;
  return product;
}

MXTensor tensor(std::vector<float>* data, const std::vector<unsigned int>& shape) {
  return {data->data(), {shape.begin(), shape.end()}, kFloat32, 0, MXContext::CPU(0)};
}

// Whether the operator accepts the attributes and shapes. All labels must then be -1 or a class.
bool runs(const Attributes& attributes, Shapes in, std::minstd_rand* random) {
  int inputs = 0, outputs = 0;
  CustomOp& op = boxes();
  if (op.parse_attrs(attributes, &inputs, &outputs) != MX_SUCCESS) return false;
  Shapes out(outputs);
  if (op.infer_shape(attributes, &in, &out) != MX_SUCCESS) return false;
  CustomStatefulOp* created = nullptr;
  const bool is_made =
      op.create_op_fp.at(0)(attributes, MXContext::CPU(0), {}, {}, &created) == MX_SUCCESS;
  const std::unique_ptr<CustomStatefulOp> owner(created);
  if (!is_made) return false;

  typedef std::numeric_limits<float> Limits;
  static const float kWild[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(),
                                Limits::max(),       Limits::lowest(),   0};
  std::vector<std::vector<float>> predictions, results;
  std::vector<MXTensor> read, written;
  for (const auto& shape : in) {
    auto& data = predictions.emplace_back(count(shape));
    for (float& x : data) {
      const auto value = (*random)();
      x = value % 8 ? static_cast<float>(value / 8 % 2001) / 250 - 4 : kWild[value / 8 % 6];
    }
    read.push_back(tensor(&data, shape));
  }
  for (const auto& shape : out) {
    written.push_back(tensor(&results.emplace_back(count(shape)), shape));
  }
  const OpResource none(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                        nullptr);
  if (owner->Forward(&read, &written, none) != MX_SUCCESS) return false;
  return std::all_of(results[0].begin(), results[0].end(),
                     [](float label) { return label >= -1 && label < 4; });
}

Shapes shapes(unsigned int images, unsigned int channels, int scales, std::minstd_rand* random) {
  Shapes result;
  for (int i = 0; i < scales; ++i) {
    result.push_back({images, channels, 1 + (*random)() % 6, 1 + (*random)() % 6});
  }
  return result;
}

bool fail(const char* what, int number) {
  std::printf("%s %d\n", what, number);
  return false;
}

bool check() {
  std::minstd_rand random(1);
  const Attributes attributes = {{"strides", "8,16,32"},
                                 {"anchors", "10,13,16,30,33,23,30,61,62,45,59,119"},
                                 {"nms_threshold", "0.45"},
                                 {"score_threshold", "0.01"},
                                 {"topk", "40"},
                                 {"post_nms", "10"}};
  for (int i = 0; i < 200; ++i) {  // 2 anchors a scale, 1 to 4 classes
    Attributes some = attributes;
    some["topk"] = std::to_string(i % 50), some["post_nms"] = std::to_string(random() % 200);
    some["score_threshold"] = i % 3 ? "0.01" : "0";
    if (!runs(some, shapes(1 + i % 3, 2 * (6 + i % 4), 3, &random), &random)) {
      return fail("refused", i);
    }
  }
  int number = 0;
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, std::string>>{{"strides", ""},
                                                        {"strides", "8,16"},
                                                        {"strides", "8,-1,32"},
                                                        {"strides", "8,nan,32"},
                                                        {"anchors", "10"},
                                                        {"anchors", "10,inf,16"},
                                                        {"nms_threshold", "x"},
                                                        {"topk", "-1"},
                                                        {"post_nms", "1e10"}}) {
    Attributes damaged = attributes;
    damaged[key] = value;
    if (runs(damaged, shapes(1, 12, 3, &random), &random)) {
      return fail("accepted attribute", number);
    }
    ++number;
  }
  for (const Shapes& wrong : {shapes(1, 12, 2, &random), shapes(1, 10, 3, &random),
                              shapes(1, 13, 3, &random), Shapes{{1, 12, 4}, {1, 12, 4}, {1, 12}},
                              Shapes{{1, 12, 2, 2}, {2, 12, 2, 2}, {1, 12, 2, 2}}}) {
    if (runs(attributes, wrong, &random)) return fail("accepted shape", number);
    ++number;
  }
  return true;
}

}  // namespace

int main() { return check() ? 0 : 1; }
