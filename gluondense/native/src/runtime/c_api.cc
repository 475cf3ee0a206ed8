// SPDX-License-Identifier: Apache-2.0
// The functions of gluondense.h.
#include <algorithm>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "inference/engine.h"
#include "runtime/export_files.h"
#include "runtime/gluondense.h"

struct gluondense_network {
  gluondense::AlignedBuffer params;
  gluondense::Weights weights;
  gluondense::Engine engine;
};

namespace {

std::string& last_error() {
  static thread_local std::string message;
  return message;
}

// Calls a function; returns `failed` if it throws.
template <class Result, class Function>
Result guarded(Result failed, Function function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    last_error() = "there is not enough memory";
  } catch (const std::exception& error) {
    last_error() = error.what();
  }
  return failed;
}

}  // namespace

gluondense_network* gluondense_load(const char* name) {
  return guarded<gluondense_network*>(nullptr, [&] {
    gluondense::ExportedProgram exported = gluondense::read_export(name);
    return new gluondense_network{std::move(exported.params), exported.weights,
                                  gluondense::Engine(std::move(exported.program))};
  });
}

void gluondense_free(gluondense_network* network) { delete network; }

int gluondense_outputs(const gluondense_network* network) {
  return network->engine.program().output_count;
}

int gluondense_output_shape(const gluondense_network* network, int output, int channels, int height,
                            int width, size_t shape[3]) {
  return guarded(-1, [&] {
    const gluondense::Program& program = network->engine.program();
    if (output < 0 || output >= program.output_count) {
      gluondense::throw_invalid("there is no output " + std::to_string(output));
    }
    const auto plan = gluondense::plan_memory(program, channels, height, width);
    const auto found = gluondense::output_shape(program, plan, output);
    std::copy(found.begin(), found.end(), shape);
    return static_cast<int>(found.size());
  });
}

int gluondense_run(gluondense_network* network, const float* images, int count, int channels,
                   int height, int width, float* const* outputs) {
  return guarded(-1, [&] {
    if (count < 0) gluondense::throw_invalid("the number of images is negative");
    const int number = network->engine.program().output_count;
    const std::vector<float*> pointers(outputs, outputs + number);
    network->engine.run({images, count, channels, height, width}, network->weights, pointers);
    return 0;
  });
}

const char* gluondense_error() { return last_error().c_str(); }
