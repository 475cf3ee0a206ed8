// SPDX-License-Identifier: Apache-2.0
// The file of the cache folder with the algorithms that were measured for a program.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "inference/program.h"

namespace gluondense {

struct Tuning {
  std::string image;                    // the size of the images that were measured
  std::vector<std::string> algorithms;  // by convolution
};

class TuningFile {
 public:
  explicit TuningFile(const Program& program);

  // Nothing unless there is a whole file of this processor, instruction set, library and program.
  std::optional<Tuning> read() const;

  // Calls `measure` while no other process does, and writes what it returns: beside the file, which
  // is then replaced. Returns what another process has written meanwhile, or nothing if the folder
  // cannot be written.
  std::optional<Tuning> update(const std::function<Tuning()>& measure) const;

 private:
  std::string folder_, path_, header_;

  bool write(const Tuning& tuning) const;
};

}  // namespace gluondense
