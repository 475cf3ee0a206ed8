// Loads exports by the functions of gluondense.h, and runs those that are accepted. The arguments
// are the names of exports of images (3, 32, 32). Prints a line for each: what became of it.
#include <cstdio>
#include <vector>

#include "runtime/gluondense.h"

namespace {

const char* run(const char* name) {
  gluondense_network* const network = gluondense_load(name);
  if (!network) return gluondense_error();
  const std::vector<float> images(2 * 3 * 32 * 32, 0.5f);
  std::vector<std::vector<float>> outputs;
  std::vector<float*> pointers;
  bool failed = false;
  for (int i = 0; i < gluondense_outputs(network) && !failed; ++i) {
    std::size_t shape[3], size = 2;
    const int dimensions = gluondense_output_shape(network, i, 3, 32, 32, shape);
    for (int j = 0; j < dimensions; ++j) size *= shape[j];
    pointers.push_back(outputs.emplace_back(size).data());
    failed = dimensions < 0;
  }
  failed = failed || gluondense_run(network, images.data(), 2, 3, 32, 32, pointers.data()) < 0;
  gluondense_free(network);
  return failed ? gluondense_error() : "ran";
}

}  // namespace

int main(int count, char** names) {
  for (int i = 1; i < count; ++i) std::printf("%s\n", run(names[i]));
  return 0;
}
