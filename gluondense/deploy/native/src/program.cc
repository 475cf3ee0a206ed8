#include "program.h"

#include <algorithm>
#include <sstream>
#include <stdexcept>

namespace gluondense {
namespace {

[[noreturn]] void fail(const std::string& message) {
  throw std::invalid_argument("gluondense program: " + message);
}

const std::map<std::string, Step::Kind> kKinds = {
    {"load", Step::kLoad},   {"conv", Step::kConv},         {"affine", Step::kAffine},
    {"pool", Step::kPool},   {"global", Step::kGlobalPool}, {"copy", Step::kCopy},
    {"store", Step::kStore},
};

// `name=1,2,3` words of a line.
class Words {
 public:
  explicit Words(std::istringstream& line) {
    std::string word;
    while (line >> word) {
      const auto equals = word.find('=');
      if (equals == std::string::npos) fail("'" + word + "' is not name=numbers");
      std::istringstream numbers(word.substr(equals + 1));
      std::vector<double>& values = values_[word.substr(0, equals)];
      for (std::string number; std::getline(numbers, number, ',');) {
        values.push_back(std::stod(number));
      }
    }
  }
  double number(const std::string& name, double otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : found->second.at(0);
  }
  void pair(const std::string& name, int* two) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return;
    two[0] = static_cast<int>(found->second.at(0));
    two[1] = static_cast<int>(found->second.at(1));
  }
  View view(const std::string& name) const {
    const auto found = values_.find(name);
    if (found == values_.end()) return {};
    const auto& v = found->second;
    return {static_cast<int>(v.at(0)), static_cast<int>(v.at(1)), static_cast<int>(v.at(2))};
  }

 private:
  std::map<std::string, std::vector<double>> values_;
};

void check(const Program& program, const View& view) {
  if (!view.there()) return;
  if (view.map >= static_cast<int>(program.maps.size()) || view.channel < 0 || view.channels < 1 ||
      view.channel + view.channels > program.maps[view.map].channels) {
    fail("a step reads or writes channels that no map has");
  }
}

Step step(Step::Kind kind, const Words& words) {
  Step s;
  s.kind = kind;
  s.in = words.view("in");
  s.out = words.view("out");
  s.add = words.view("add");
  words.pair("kernel", s.kernel);
  words.pair("stride", s.stride);
  words.pair("pad", s.pad);
  s.blocks = words.number("blocks", 0);
  s.block_in = words.number("block_in", 0);
  s.block_step = words.number("block_step", 0);
  s.block_share = words.number("block_share", 1);
  s.block_out = words.number("block_out", 0);
  s.max = words.number("max", 0);
  s.whole = words.number("whole", 1);
  s.slope = words.number("slope", 1);
  s.weight = words.number("weight", -1);
  s.bias = words.number("bias", -1);
  s.scale = words.number("scale", -1);
  s.shift = words.number("shift", -1);
  s.flip = words.number("flip", -1);
  s.zero = words.number("zero", -1);
  s.add_scale = words.number("add_scale", -1);
  s.out_scale = words.number("out_scale", -1);
  s.out_shift = words.number("out_shift", -1);
  s.output = words.number("output", -1);
  s.flat = words.number("flat", 1);
  return s;
}

int out_size(int size, int kernel, int stride, int pad) {
  if (size + 2 * pad < kernel) fail("the image is too small for this network");
  return (size + 2 * pad - kernel) / stride + 1;
}

}  // namespace

Program Program::parse(const std::string& text) {
  Program program;
  std::istringstream lines(text);
  for (std::string row; std::getline(lines, row);) {
    std::istringstream line(row);
    std::string kind;
    line >> kind;
    const Words words(line);
    if (kind == "gluondense") {
      if (words.number("format", 0) != 1) fail("another format; update the library");
      program.blob = words.number("blob", 0);
      program.bytes = words.number("bytes", 0);
    } else if (kind == "map") {
      program.maps.push_back({static_cast<int>(words.number("channels", 0)),
                              static_cast<int>(words.number("border", 0)),
                              words.number("bytes", 0) != 0,
                              static_cast<std::ptrdiff_t>(words.number("edge", -1))});
    } else if (kKinds.count(kind)) {
      program.steps.push_back(step(kKinds.at(kind), words));
      const Step& last = program.steps.back();
      for (const View& view : {last.in, last.out, last.add}) check(program, view);
      program.outputs = std::max(program.outputs, last.output + 1);
    } else {
      fail("no step '" + kind + "'");
    }
  }
  if (program.outputs == 0) fail("nothing is put out");
  return program;
}

Plan Program::plan(int channels, int height, int width) const {
  Plan plan;
  plan.places.resize(maps.size());
  std::vector<int> born(maps.size(), -1), dies(maps.size(), -1);
  for (int i = 0; i < static_cast<int>(steps.size()); ++i) {
    const Step& s = steps[i];
    for (const View& view : {s.in, s.out, s.add}) {
      if (view.there()) dies[view.map] = i;
    }
    if (!s.out.there()) continue;
    int h = height, w = width;
    if (s.kind == Step::kLoad) {
      if (s.out.channels != channels) fail("the image has other channels than the network takes");
    } else {
      h = plan.places[s.in.map].height;
      w = plan.places[s.in.map].width;
    }
    if (s.kind == Step::kConv || s.kind == Step::kPool) {
      h = out_size(h, s.kernel[0], s.stride[0], s.pad[0]);
      w = out_size(w, s.kernel[1], s.stride[1], s.pad[1]);
    } else if (s.kind == Step::kGlobalPool) {
      h = w = 1;
    }
    Place& place = plan.places[s.out.map];
    if (born[s.out.map] < 0) {
      born[s.out.map] = i;
      const Map& map = maps[s.out.map];
      place = {h, w, map.border, map.channels, map.bytes ? 1 : 4, 0};
    } else if (place.height != h || place.width != w) {
      fail("maps of different sizes stand side by side");
    }
    if (s.add.there() && (plan.places[s.add.map].height != h || plan.places[s.add.map].width != w)) {
      fail("maps of different sizes are added");
    }
  }
  // Each map goes to the first gap among those that live at its time.
  constexpr std::size_t kAlign = 64;
  std::vector<int> placed;
  for (int map = 0; map < static_cast<int>(maps.size()); ++map) {
    if (born[map] < 0) continue;
    std::vector<std::pair<std::size_t, std::size_t>> taken;
    for (int other : placed) {
      if (born[other] <= dies[map] && born[map] <= dies[other]) {
        const Place& p = plan.places[other];
        taken.emplace_back(p.offset, p.offset + p.bytes());
      }
    }
    std::sort(taken.begin(), taken.end());
    std::size_t offset = 0;
    for (const auto& range : taken) {
      if (offset + plan.places[map].bytes() <= range.first) break;
      offset = std::max(offset, (range.second + kAlign - 1) / kAlign * kAlign);
    }
    plan.places[map].offset = offset;
    plan.bytes = std::max(plan.bytes, offset + plan.places[map].bytes());
    placed.push_back(map);
  }
  return plan;
}

std::vector<std::size_t> Program::output_shape(const Plan& plan, int output) const {
  for (const Step& s : steps) {
    if (s.output != output) continue;
    const Place& place = plan.places[s.in.map];
    const auto c = static_cast<std::size_t>(s.in.channels);
    if (s.flat) return {c * place.height * place.width};
    return {c, static_cast<std::size_t>(place.height), static_cast<std::size_t>(place.width)};
  }
  fail("an output is missing");
}

}  // namespace gluondense
