// SPDX-License-Identifier: Apache-2.0
#include "inference/tuning_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "kernels/inference_kernels.h"

// Of the library's sources; build.py defines it.
#ifndef GLUONDENSE_FINGERPRINT
#define GLUONDENSE_FINGERPRINT "none"
#endif

namespace gluondense {
namespace {

// FNV-1a, in hexadecimal digits.
std::string digest(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

// The first processor's model; empty where Linux does not describe it.
std::string processor() {
  static const std::set<std::string> kKeys = {
      "vendor_id",       "cpu family",       "model",       "model name", "stepping",
      "CPU implementer", "CPU architecture", "CPU variant", "CPU part",   "CPU revision"};
  std::ifstream file("/proc/cpuinfo");
  std::string model;
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const auto colon = line.find(':');
    if (colon == line.npos) continue;
    const std::string key = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    if (kKeys.count(key)) model += line.substr(colon + 1);
  }
  return model;
}

// As in Python's cache_folder("native"); empty without a home.
std::string cache_folder() {
  const auto variable = [](const char* name) {
    const char* const value = std::getenv(name);
    return std::string(value ? value : "");
  };
  std::string root = variable("MXNET_HOME"), home = variable("HOME");
  if (root.empty()) root = "~/.mxnet";
  if (root.front() == '~') {
    if (home.empty() || (root.size() > 1 && root[1] != '/')) return "";
    root.replace(0, 1, home);
  }
  return root + "/native";
}

// The system releases the lock of a process that ends.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder) {
    if (folder.empty()) return;
    std::error_code ignored;
    std::filesystem::create_directories(folder, ignored);
    file_ = open((folder + "/tuning.lock").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    // A process measures for a fraction of a second.
    constexpr int kAttempts = 100, kMicroseconds = 20000;
    for (int i = 0; i < kAttempts && file_ >= 0 && !is_held_; ++i) {
      is_held_ = flock(file_, LOCK_EX | LOCK_NB) == 0;
      if (!is_held_) usleep(kMicroseconds);
    }
  }
  ~FolderLock() {
    if (file_ >= 0) close(file_);
  }
  FolderLock(const FolderLock&) = delete;
  bool is_held() const { return is_held_; }

 private:
  int file_ = -1;
  bool is_held_ = false;
};

}  // namespace

TuningFile::TuningFile(const Program& program) : folder_(cache_folder()) {
  header_ = "gluondense tuning 1\nprocessor" + processor() + "\nisa " + inference_kernels().isa +
            "\nlibrary " GLUONDENSE_FINGERPRINT "\nprogram " + digest(program.text) + "\n";
  path_ = folder_ + "/tuning-" + digest(header_);
}

// The header; the size of the images; the algorithms; a digest of these lines.
std::optional<Tuning> TuningFile::read() const {
  std::ostringstream content;
  content << std::ifstream(path_, std::ios::binary).rdbuf();  // throws nothing, also for a folder
  const std::string text = content.str();
  if (text.compare(0, header_.size(), header_) != 0) return std::nullopt;
  const auto end = text.rfind("end ");
  if (end == text.npos || text.substr(end) != "end " + digest(text.substr(0, end)) + "\n") {
    return std::nullopt;
  }
  std::istringstream lines(text.substr(header_.size(), end - header_.size()));
  Tuning tuning;
  std::string names;
  if (!std::getline(lines, tuning.image) || !std::getline(lines, names)) return std::nullopt;
  std::istringstream words(names);
  tuning.algorithms.assign(std::istream_iterator<std::string>(words), {});
  return tuning;
}

bool TuningFile::write(const Tuning& tuning) const {
  std::string text = header_ + tuning.image + "\n";
  for (const std::string& name : tuning.algorithms) text += name + " ";
  text += "\n";
  text += "end " + digest(text) + "\n";
  const std::string path = path_ + ".new";
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (file && std::rename(path.c_str(), path_.c_str()) == 0) return true;
  std::remove(path.c_str());
  return false;
}

std::optional<Tuning> TuningFile::update(const std::function<Tuning()>& measure) const {
  const FolderLock lock(folder_);
  if (!lock.is_held()) return std::nullopt;
  auto tuning = read();
  if (tuning) return tuning;
  tuning = measure();
  if (!write(*tuning)) return std::nullopt;
  return tuning;
}

}  // namespace gluondense
