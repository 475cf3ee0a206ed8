#include "inference/program.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>
#include <stdexcept>

#include "inference/validate.h"
#include "numbers.h"

namespace gluondense {

void fail(const std::string& message) {
  throw std::invalid_argument("gluondense program: " + message);
}

namespace {

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
        char* end = nullptr;
        values.push_back(parse_double(number.c_str(), &end));
        if (number.empty() || *end || !std::isfinite(values.back())) {
          fail("'" + word + "' is not name=numbers");
        }
      }
    }
  }
  double real(const std::string& name, double otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : at(name, 0);
  }
  std::ptrdiff_t offset(const std::string& name, std::ptrdiff_t otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : whole(name, 0, 1e12);
  }
  int number(const std::string& name, int otherwise) const {
    const auto found = values_.find(name);
    return found == values_.end() ? otherwise : static_cast<int>(whole(name, 0, kMost));
  }
  void pair(const std::string& name, int* two) const {
    if (!values_.count(name)) return;
    for (int i : {0, 1}) two[i] = static_cast<int>(whole(name, i, kMost));
  }
  View view(const std::string& name) const {
    if (!values_.count(name)) return {};
    const auto number = [&](int i) { return static_cast<int>(whole(name, i, kMost)); };
    return {number(0), number(1), number(2)};
  }

 private:
  static constexpr double kMost = 1 << 24;
  std::map<std::string, std::vector<double>> values_;

  double at(const std::string& name, std::size_t i) const {
    const auto& values = values_.at(name);
    if (i >= values.size()) fail(name + " has too few numbers");
    return values[i];
  }
  std::ptrdiff_t whole(const std::string& name, std::size_t i, double most) const {
    const double value = at(name, i);
    if (value < 0 || value > most || value != std::floor(value)) {
      fail(name + " has a number that is negative, broken or too large");
    }
    return static_cast<std::ptrdiff_t>(value);
  }
};

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
  s.block_groups = words.number("block_groups", 1);
  s.max = words.number("max", 0) != 0;
  s.whole = words.number("whole", 1) != 0;
  s.slope = static_cast<float>(words.real("slope", 1));
  s.weight = words.offset("weight", -1);
  s.bias = words.offset("bias", -1);
  s.scale = words.offset("scale", -1);
  s.shift = words.offset("shift", -1);
  s.flip = words.offset("flip", -1);
  s.zero = words.offset("zero", -1);
  s.add_scale = words.offset("add_scale", -1);
  s.out_scale = words.offset("out_scale", -1);
  s.out_shift = words.offset("out_shift", -1);
  s.output = words.number("output", -1);
  s.flat = words.number("flat", 1) != 0;
  return s;
}

// Pixels of a map; with the channels' limit no size overflows.
constexpr double kMostPixels = 1 << 28;

int out_size(int size, int kernel, int stride, int pad) {
  if (size + 2 * pad < kernel) fail("the image is too small for this network");
  return (size + 2 * pad - kernel) / stride + 1;
}

// Pixels that lie many lines of the cache apart, and a power of two, share few places in it: then
// the channels of neighbours push each other out.
int pixel_step(int channels, int element) {
  constexpr int kLine = 64, kFew = 1024;
  return channels * element % kFew == 0 ? channels + kLine / element : channels;
}

struct Access {
  View view;
  bool write;
};

// Whether one must be over before the other begins. Parts of one map lie side by side, but for its
// border, which all that write it fill with the same.
bool conflict(const Access& a, const Access& b, const std::vector<Place>& places) {
  if (!a.write && !b.write) return false;
  if (a.view.map == b.view.map) {
    return a.view.channel < b.view.channel + b.view.channels &&
           b.view.channel < a.view.channel + a.view.channels;
  }
  const Place &p = places[a.view.map], &q = places[b.view.map];
  return p.offset < q.offset + q.bytes() && q.offset < p.offset + p.bytes();
}

// Threads share each step's pixels out among them; they wait for each other where a step touches
// what one since the last meeting has touched. The two convolutions of a dual-path block and the
// copies behind them need one meeting, not one each.
std::vector<bool> meetings(const std::vector<Step>& steps, const std::vector<Place>& places) {
  std::vector<bool> meets;
  std::vector<Access> since;
  for (const Step& s : steps) {
    std::vector<Access> now;
    for (const View& view : {s.in, s.add}) {
      if (view.there()) now.push_back({view, false});
    }
    if (s.out.there()) now.push_back({s.out, true});
    const bool meet = std::any_of(now.begin(), now.end(), [&](const Access& a) {
      return std::any_of(since.begin(), since.end(),
                         [&](const Access& b) { return conflict(a, b, places); });
    });
    meets.push_back(meet);
    if (meet) since.clear();
    since.insert(since.end(), now.begin(), now.end());
  }
  return meets;
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
      program.blob = words.offset("blob", 0);
      program.bytes = words.offset("bytes", 0);
      program.bf16 = words.number("bf16", 0) != 0;
    } else if (kind == "map") {
      program.maps.push_back({words.number("channels", 0), words.number("border", 0),
                              words.number("bytes", 0) != 0, words.offset("edge", -1)});
    } else if (kKinds.count(kind)) {
      program.steps.push_back(step(kKinds.at(kind), words));
    } else {
      fail("no step '" + kind + "'");
    }
  }
  program.outputs = static_cast<int>(
      std::count_if(program.steps.begin(), program.steps.end(),
                    [](const Step& s) { return s.kind == Step::kStore; }));
  validate(program);
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
    if (static_cast<double>(h) * w > kMostPixels) fail("the image is too large");
    Place& place = plan.places[s.out.map];
    if (born[s.out.map] < 0) {
      born[s.out.map] = i;
      const Map& map = maps[s.out.map];
      const int element = map.bytes ? 1 : 4;
      place = {h, w, map.border, element, pixel_step(map.channels, element), 0};
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
  plan.meets = meetings(steps, plan.places);
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
