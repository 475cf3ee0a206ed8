// The text of a program: a step or map a line, as words `name=number,...`.
#include <cmath>
#include <map>
#include <sstream>
#include <stdexcept>

#include "inference/program.h"
#include "numbers.h"

namespace gluondense {

void throw_invalid(const std::string& message) {
  throw std::invalid_argument("gluondense program: " + message);
}

namespace {

// The words of a line. Each reader returns the given default where the word is missing.
class Words {
 public:
  Words(std::string kind, std::istringstream& line) : kind_(std::move(kind)) {
    std::string word;
    while (line >> word) {
      const auto equals = word.find('=');
      if (equals == std::string::npos) throw_invalid("'" + word + "' is not name=numbers");
      Word& entry = words_[word.substr(0, equals)];
      if (!entry.numbers.empty()) throw_invalid("'" + word + "' repeats a word");
      std::istringstream numbers(word.substr(equals + 1));
      for (std::string number; std::getline(numbers, number, ',');) {
        char* end = nullptr;
        entry.numbers.push_back(parse_double(number.c_str(), &end));
        if (number.empty() || *end || !std::isfinite(entry.numbers.back())) {
          throw_invalid("'" + word + "' is not name=numbers");
        }
      }
    }
  }

  float real(const char* name, float otherwise) {
    const auto* const numbers = find(name, 1);
    return numbers ? static_cast<float>(numbers->front()) : otherwise;
  }
  int count(const char* name, int otherwise) {
    const auto* const numbers = find(name, 1);
    return numbers ? static_cast<int>(whole(name, numbers->front(), kMaxCount)) : otherwise;
  }
  bool flag(const char* name, bool otherwise) { return count(name, otherwise) != 0; }
  Offset offset(const char* name, Offset otherwise = -1) {
    const auto* const numbers = find(name, 1);
    return numbers ? whole(name, numbers->front(), kMaxOffset) : otherwise;
  }
  void counts(const char* name, std::initializer_list<int*> values) {
    const auto* const numbers = find(name, values.size());
    if (!numbers) return;
    std::size_t i = 0;
    for (int* value : values) *value = static_cast<int>(whole(name, (*numbers)[i++], kMaxCount));
  }
  ChannelSlice slice(const char* name) {
    ChannelSlice slice;
    counts(name, {&slice.map, &slice.channel, &slice.channels});
    return slice;
  }
  Window window() {
    Window window;
    counts("kernel", {&window.kernel[0], &window.kernel[1]});
    counts("stride", {&window.stride[0], &window.stride[1]});
    counts("pad", {&window.pad[0], &window.pad[1]});
    return window;
  }

  // Throws if the line has a word that nothing has read.
  void check_all_read() const {
    for (const auto& [name, word] : words_) {
      if (!word.read) throw_invalid("'" + kind_ + "' has no word '" + name + "'");
    }
  }

 private:
  static constexpr double kMaxCount = 1 << 24, kMaxOffset = 1e12;
  struct Word {
    std::vector<double> numbers;
    bool read = false;
  };
  const std::string kind_;
  std::map<std::string, Word> words_;

  const std::vector<double>* find(const char* name, std::size_t size) {
    const auto found = words_.find(name);
    if (found == words_.end()) return nullptr;
    found->second.read = true;
    const auto& numbers = found->second.numbers;
    if (numbers.size() < size) throw_invalid(std::string(name) + " has too few numbers");
    if (numbers.size() > size) throw_invalid(std::string(name) + " has too many numbers");
    return &numbers;
  }
  static std::ptrdiff_t whole(const char* name, double value, double most) {
    if (value < 0 || value > most || value != std::floor(value)) {
      throw_invalid(std::string(name) + " has a number that is negative, broken or too large");
    }
    return static_cast<std::ptrdiff_t>(value);
  }
};

Step parse_load(Words& words) {
  LoadStep s;
  s.out = words.slice("out");
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  return s;
}

Step parse_conv(Words& words) {
  ConvStep s;
  s.in = words.slice("in");
  s.residual = words.slice("add");
  s.out = words.slice("out");
  s.window = words.window();
  s.panels = words.count("blocks", 0);
  s.panel_in = words.count("block_in", 0);
  s.panel_in_stride = words.count("block_step", 0);
  s.panels_per_input = words.count("block_share", 1);
  s.panel_out = words.count("block_out", 0);
  s.groups_per_panel = words.count("block_groups", 1);
  s.negative_slope = words.real("slope", 1);
  s.weight = words.offset("weight");
  s.bias = words.offset("bias");
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  s.xor_mask = words.offset("flip");
  s.zero_point = words.offset("zero");
  s.residual_scale = words.offset("add_scale");
  s.requant_scale = words.offset("out_scale");
  s.requant_shift = words.offset("out_shift");
  return s;
}

Step parse_affine(Words& words) {
  AffineStep s;
  s.in = words.slice("in");
  s.out = words.slice("out");
  s.negative_slope = words.real("slope", 1);
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  s.xor_mask = words.offset("flip");
  s.zero_point = words.offset("zero");
  return s;
}

Step parse_pool(Words& words) {
  PoolStep s;
  s.in = words.slice("in");
  s.out = words.slice("out");
  s.window = words.window();
  s.is_max = words.flag("max", false);
  s.count_include_pad = words.flag("whole", true);
  return s;
}

Step parse_global_pool(Words& words) {
  GlobalPoolStep s;
  s.in = words.slice("in");
  s.out = words.slice("out");
  s.is_max = words.flag("max", false);
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  return s;
}

Step parse_copy(Words& words) {
  CopyStep s;
  s.in = words.slice("in");
  s.residual = words.slice("add");
  s.out = words.slice("out");
  s.negative_slope = words.real("slope", 1);
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  s.residual_scale = words.offset("add_scale");
  s.requant_scale = words.offset("out_scale");
  s.requant_shift = words.offset("out_shift");
  return s;
}

Step parse_store(Words& words) {
  StoreStep s;
  s.in = words.slice("in");
  s.output_index = words.count("output", -1);
  s.flatten = words.flag("flat", true);
  s.scale = words.offset("scale");
  s.shift = words.offset("shift");
  return s;
}

const std::map<std::string, Step (*)(Words&)> kParsers = {
    {"load", parse_load},          {"conv", parse_conv}, {"affine", parse_affine},
    {"pool", parse_pool},          {"copy", parse_copy}, {"store", parse_store},
    {"global", parse_global_pool},
};

}  // namespace

Program Program::parse(const std::string& text) {
  Program program;
  std::istringstream lines(text);
  for (std::string row; std::getline(lines, row);) {
    std::istringstream line(row);
    std::string kind;
    line >> kind;
    Words words(kind, line);
    if (kind == "gluondense") {
      if (words.count("format", 0) != 1) throw_invalid("another format; update the library");
      program.float_count = words.offset("blob", 0);
      program.byte_count = words.offset("bytes", 0);
      program.allow_bf16 = words.flag("bf16", false);
    } else if (kind == "map") {
      FeatureMap map;
      map.channels = words.count("channels", 0);
      map.pad = words.count("border", 0);
      map.is_u8 = words.flag("bytes", false);
      map.pad_values = words.offset("edge");
      program.maps.push_back(map);
    } else if (const auto parser = kParsers.find(kind); parser != kParsers.end()) {
      program.steps.push_back(parser->second(words));
      program.output_count += std::holds_alternative<StoreStep>(program.steps.back());
    } else {
      throw_invalid("no step '" + kind + "'");
    }
    words.check_all_read();
  }
  validate(program);
  return program;
}

}  // namespace gluondense
