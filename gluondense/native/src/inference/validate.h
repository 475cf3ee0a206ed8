// Programs come from files, which may be damaged or made to do harm.
#pragma once

#include "inference/program.h"

namespace gluondense {

// Throws std::invalid_argument unless each step reads and writes what is there, and nothing else.
void validate(const Program& program);

}  // namespace gluondense
