// SPDX-License-Identifier: Apache-2.0
#include "runtime/export_files.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

namespace gluondense {
namespace {

[[noreturn]] void throw_bad(const std::string& path, const std::string& reason) {
  throw std::invalid_argument(path + " " + reason);
}

// Reads a file into memory; returns its size.
std::size_t read_file(const std::string& path, AlignedBuffer* memory) {
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  const std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) throw_bad(path, std::string("cannot be read: ") + std::strerror(errno));
  const bool has_end = std::fseek(file.get(), 0, SEEK_END) == 0;
  const long size = has_end ? std::ftell(file.get()) : -1;
  if (size < 0) throw_bad(path, "is not a file");
  std::rewind(file.get());
  const auto count = static_cast<std::size_t>(size);
  check_memory(count);
  if (std::fread(memory->reserve<char>(count), 1, count, file.get()) != count) {
    throw_bad(path, "cannot be read");
  }
  return count;
}

// A graph in JSON, as gluondense writes it. Only names and attributes of operators are read.
class Graph {
 public:
  explicit Graph(const std::string& path) : path_(path) {
    AlignedBuffer memory;
    const std::size_t size = read_file(path, &memory);
    text_.assign(memory.reserve<char>(size), size);
  }

  // The text of the only program; other operators may only prepare its images or make
  // probabilities of its output.
  std::string program() const {
    static const std::set<std::string> kAround = {
        "null", "Cast", "transpose", "broadcast_mul", "broadcast_add", "softmax", "sigmoid"};
    int programs = 0;
    for (const std::string& op : values("op")) {
      programs += op == "gluondense_program";
      if (op != "gluondense_program" && !kAround.count(op)) {
        throw_bad(path_, "has the operator " + op + ", which needs MXNet");
      }
    }
    const std::vector<std::string> texts = values("program");
    if (programs != 1 || texts.size() != 1) {
      throw_bad(path_, "is not the graph of one program: export with a native target");
    }
    return texts.front();
  }

 private:
  std::string path_, text_;

  // The texts that are values of a key.
  std::vector<std::string> values(const char* key) const {
    const std::string quoted = std::string("\"") + key + "\"";
    std::vector<std::string> found;
    for (auto at = text_.find(quoted); at != text_.npos; at = text_.find(quoted, at)) {
      at = text_.find_first_not_of(" \t\r\n", at + quoted.size());
      if (at == text_.npos || text_[at] != ':') continue;  // a value of this name
      at = text_.find_first_not_of(" \t\r\n", at + 1);
      if (at == text_.npos || text_[at] != '"') throw_bad(path_, "is damaged; export it again");
      found.push_back(string_at(&at));
    }
    return found;
  }

  // The string whose first quotation mark is at `*at`, which moves behind the last one. Names of
  // operators and programs need no other escape than that of a new line.
  std::string string_at(std::size_t* at) const {
    std::string value;
    for (++*at; *at < text_.size() && text_[*at] != '"'; ++*at) {
      if (text_[*at] != '\\') {
        value += text_[*at];
      } else if (text_.compare((*at)++, 2, "\\n") == 0) {
        value += '\n';
      } else {
        throw_bad(path_, "is damaged; export it again");
      }
    }
    if (*at == text_.size()) throw_bad(path_, "is incomplete; export it again");
    ++*at;
    return value;
  }
};

struct StoredArray {
  int type = 0;  // of mshadow
  std::size_t count = 0;
  const std::uint8_t* data = nullptr;
};

// Arrays in MXNet's format (NDArray::Save), dense ones that MXNet 1.0 and later write.
class Arrays {
 public:
  Arrays(const std::string& path, const std::uint8_t* begin, std::size_t size)
      : path_(path), at_(begin), end_(begin + size) {
    constexpr std::uint64_t kMagic = 0x112;
    if (read<std::uint64_t>() != kMagic) throw_bad(path_, "holds no arrays of MXNet");
    read<std::uint64_t>();  // reserved
    std::vector<StoredArray> arrays;
    const auto count = read<std::uint64_t>();
    for (std::uint64_t i = 0; i < count; ++i) arrays.push_back(read_array());
    if (read<std::uint64_t>() != count) throw_bad(path_, "has arrays without names");
    for (const StoredArray& array : arrays) {
      const auto length = read<std::uint64_t>();
      const auto* const name = reinterpret_cast<const char*>(take(length));
      arrays_.emplace(std::string(name, length), array);
    }
  }

  template <class T>
  const T* find(const char* name, int type, std::size_t count) const {
    const auto found = arrays_.find(std::string("arg:") + name);
    if (found == arrays_.end() || found->second.type != type || found->second.count != count) {
      throw_bad(path_, std::string("has no array ") + name + " of the graph; export it again");
    }
    return reinterpret_cast<const T*>(found->second.data);
  }

 private:
  std::string path_;
  const std::uint8_t *at_, *end_;
  std::map<std::string, StoredArray> arrays_;

  const std::uint8_t* take(std::uint64_t size) {
    if (size > static_cast<std::uint64_t>(end_ - at_)) {
      throw_bad(path_, "is incomplete; export it again");
    }
    return std::exchange(at_, at_ + size);
  }

  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }

  StoredArray read_array() {
    constexpr std::uint32_t kVersion2 = 0xF993FAC9, kMaxDimensions = 32;
    static const std::uint64_t kSizes[] = {4, 8, 2, 1, 4, 1, 8};  // of mshadow's types
    const auto version = read<std::uint32_t>(), storage = read<std::uint32_t>();
    const auto dimensions = read<std::uint32_t>();
    if (version != kVersion2 || storage != 0 || dimensions > kMaxDimensions) {
      throw_bad(path_, "holds an array of an unknown format; export it again");
    }
    std::uint64_t count = 1;
    const std::uint64_t most = end_ - at_;
    for (std::uint32_t i = 0; i < dimensions; ++i) {
      const auto size = read<std::uint64_t>();
      if (size > most || (size && count > most / size)) {
        throw_bad(path_, "is incomplete; export it again");
      }
      count *= size;
    }
    take(8);  // the device
    StoredArray array;
    array.type = read<std::int32_t>();
    if (array.type < 0 || array.type >= static_cast<int>(std::size(kSizes))) {
      throw_bad(path_, "holds an array of an unknown type; export it again");
    }
    array.count = count;
    array.data = take(count * kSizes[array.type]);
    return array;
  }
};

}  // namespace

ExportedProgram read_export(const std::string& name) {
  constexpr int kFloat32 = 0, kInt8 = 5;  // mshadow's types
  ExportedProgram exported;
  exported.program = Program::parse(Graph(name + "-symbol.json").program());
  const Program& program = exported.program;
  const std::string path = name + "-0000.params";
  const std::size_t size = read_file(path, &exported.params);
  const Arrays arrays(path, exported.params.reserve<std::uint8_t>(size), size);
  exported.weights.floats = arrays.find<float>("gluondense_weights", kFloat32, program.float_count);
  if (program.byte_count) {
    exported.weights.bytes =
        arrays.find<std::int8_t>("gluondense_bytes", kInt8, program.byte_count);
  }
  return exported;
}

}  // namespace gluondense
