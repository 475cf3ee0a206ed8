// SPDX-License-Identifier: Apache-2.0
// The two files of an export that describe its network: MXNet's graph and parameters.
#pragma once

#include <string>

#include "inference/engine.h"
#include "inference/program.h"
#include "memory.h"

namespace gluondense {

struct ExportedProgram {
  Program program;
  AlignedBuffer params;  // the whole file
  Weights weights;       // inside it
};

// Reads NAME-symbol.json and NAME-0000.params. Throws std::invalid_argument with the name of the
// file if it is damaged, or if its graph is another than that of one program.
ExportedProgram read_export(const std::string& name);

}  // namespace gluondense
