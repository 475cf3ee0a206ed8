// SPDX-License-Identifier: Apache-2.0
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

// The words of a line.
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
        const std::optional<double> value = parse_number(number);
        if (!value || !std::isfinite(*value)) throw_invalid("'" + word + "' is not name=numbers");
        entry.numbers.push_back(*value);
      }
    }
  }

  // Each reads a word into a value, and leaves the value as it is where the word is missing.
  Words& read(const char* name, float& value) {
    if (const auto* const numbers = find(name, 1)) value = static_cast<float>(numbers->front());
    return *this;
  }
  Words& read(const char* name, int& value) { return read(name, {&value}); }
  Words& read(const char* name, bool& value) {
    int number = value;
    read(name, number);
    value = number != 0;
    return *this;
  }
  Words& read(const char* name, Offset& value) {
    if (const auto* const numbers = find(name, 1))
      value = whole(name, numbers->front(), kMaxOffset);
    return *this;
  }
  Words& read(const char* name, ChannelSlice& slice) {
    return read(name, {&slice.map, &slice.channel, &slice.channels});
  }
  Words& read(const char* name, int (&pair)[2]) { return read(name, {&pair[0], &pair[1]}); }

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

  Words& read(const char* name, std::initializer_list<int*> values) {
    const auto* const numbers = find(name, values.size());
    std::size_t i = 0;
    for (int* value : values) {
      if (numbers) *value = static_cast<int>(whole(name, (*numbers)[i++], kMaxCount));
    }
    return *this;
  }
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

void read_words(Words& words, LoadStep& s) {
  words.read("out", s.out).read("scale", s.scale).read("shift", s.shift);
}

void read_words(Words& words, ConvStep& s) {
  words.read("in", s.in).read("add", s.residual).read("out", s.out);
  words.read("kernel", s.window.kernel).read("stride", s.window.stride).read("pad", s.window.pad);
  words.read("blocks", s.panels).read("block_in", s.panel_in).read("block_out", s.panel_out);
  words.read("block_step", s.panel_in_stride).read("block_share", s.panels_per_input);
  words.read("block_groups", s.groups_per_panel).read("slope", s.negative_slope);
  words.read("add_last", s.add_last).read("gelu", s.is_gelu).read("eps", s.layer_norm_eps);
  words.read("weight", s.weight).read("bias", s.bias).read("scale", s.scale).read("shift", s.shift);
  words.read("flip", s.xor_mask).read("zero", s.zero_point).read("add_scale", s.residual_scale);
  words.read("out_scale", s.requant_scale).read("out_shift", s.requant_shift);
}

void read_words(Words& words, DepthwiseStep& s) {
  words.read("in", s.in).read("add", s.residual).read("out", s.out);
  words.read("kernel", s.window.kernel).read("stride", s.window.stride).read("pad", s.window.pad);
  words.read("slope", s.negative_slope).read("add_last", s.add_last);
  words.read("weight", s.weight).read("bias", s.bias);
}

void read_words(Words& words, LayerNormStep& s) {
  words.read("in", s.in).read("out", s.out).read("eps", s.eps);
  words.read("scale", s.scale).read("shift", s.shift);
}

void read_words(Words& words, GateStep& s) {
  words.read("in", s.in).read("gate", s.gate).read("out", s.out);
}

void read_words(Words& words, AffineStep& s) {
  words.read("in", s.in).read("out", s.out).read("slope", s.negative_slope);
  words.read("scale", s.scale).read("shift", s.shift);
  words.read("flip", s.xor_mask).read("zero", s.zero_point);
}

void read_words(Words& words, PoolStep& s) {
  words.read("in", s.in).read("out", s.out);
  words.read("kernel", s.window.kernel).read("stride", s.window.stride).read("pad", s.window.pad);
  words.read("max", s.is_max).read("whole", s.count_include_pad).read("ceil", s.is_ceil);
}

void read_words(Words& words, GlobalPoolStep& s) {
  words.read("in", s.in).read("out", s.out).read("max", s.is_max);
  words.read("scale", s.scale).read("shift", s.shift);
}

void read_words(Words& words, CopyStep& s) {
  words.read("in", s.in).read("add", s.residual).read("out", s.out);
  words.read("slope", s.negative_slope).read("silu", s.is_silu).read("gelu", s.is_gelu);
  words.read("hard_sigmoid", s.is_hard_sigmoid);
  words.read("scale", s.scale).read("shift", s.shift);
  words.read("add_scale", s.residual_scale).read("out_scale", s.requant_scale);
  words.read("out_shift", s.requant_shift);
}

void read_words(Words& words, ResampleStep& s) {
  words.read("in", s.in).read("out", s.out).read("up", s.up).read("down", s.down);
  words.read("like", s.residual);
}

void read_words(Words& words, CombineStep& s) {
  words.read("in", s.in).read("with", s.residual).read("out", s.out).read("gate", s.is_gate);
}

void read_words(Words& words, StoreStep& s) {
  words.read("in", s.in).read("output", s.output_index).read("flat", s.flatten);
  words.read("scale", s.scale).read("shift", s.shift);
}

template <class Kind>
Step parse_step(Words& words) {
  Kind step;
  read_words(words, step);
  return step;
}

const std::map<std::string, Step (*)(Words&)> kParsers = {
    {"load", parse_step<LoadStep>},
    {"conv", parse_step<ConvStep>},
    {"depthwise", parse_step<DepthwiseStep>},
    {"affine", parse_step<AffineStep>},
    {"layer_norm", parse_step<LayerNormStep>},
    {"pool", parse_step<PoolStep>},
    {"global", parse_step<GlobalPoolStep>},
    {"copy", parse_step<CopyStep>},
    {"gate", parse_step<GateStep>},
    {"resample", parse_step<ResampleStep>},
    {"combine", parse_step<CombineStep>},
    {"store", parse_step<StoreStep>},
};

}  // namespace

Program Program::parse(const std::string& text) {
  Program program;
  program.text = text;
  std::istringstream lines(text);
  for (std::string row; std::getline(lines, row);) {
    std::istringstream line(row);
    std::string kind;
    line >> kind;
    Words words(kind, line);
    if (kind == "gluondense") {
      int format = 0;
      words.read("format", format);
      if (format != 1) throw_invalid("another format; update the library");
      words.read("blob", program.float_count).read("bytes", program.byte_count);
      words.read("bf16", program.bf16);
    } else if (kind == "map") {
      FeatureMap& map = program.maps.emplace_back();
      words.read("channels", map.channels).read("border", map.pad);
      words.read("bytes", map.is_u8).read("edge", map.pad_values);
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
