// Calls gluondense_program's Forward with arrays of other sizes than its program's. MXNet's shape
// inference refuses them before; here nothing does.
#include <mxnet/lib_api.h>

#include <cstdio>
#include <string>
#include <vector>

using namespace mxnet::ext;

namespace {

const char kProgram[] =
    "gluondense format=1 blob=64 bytes=8\n"
    "map channels=1\n"
    "load out=0,0,1\n"
    "store in=0,0,1 output=0\n";

CustomStatefulOp* create_operator() {
  auto& operators = *Registry<CustomOp>::get();
  for (int i = 0; i < operators.size(); ++i) {
    CustomOp& op = operators.get(i);
    CustomStatefulOp* created = nullptr;
    if (std::string(op.name) != "gluondense_program") continue;
    op.mapToVector();
    op.create_op_fp.at(0)({{"program", kProgram}}, MXContext::CPU(0), {}, {}, &created);
    return created;
  }
  return nullptr;
}

bool forward_succeeds(std::int64_t float_count, std::int64_t byte_count) {
  static CustomStatefulOp* const op = create_operator();
  static float image[6] = {1, 2, 3, 4, 5, 6}, floats[64], output[6];
  static std::int8_t bytes[8];
  const MXContext cpu = MXContext::CPU(0);
  std::vector<MXTensor> inputs = {{image, {1, 1, 2, 3}, kFloat32, 0, cpu},
                                  {floats, {float_count}, kFloat32, 0, cpu},
                                  {bytes, {byte_count}, kInt8, 0, cpu}};
  std::vector<MXTensor> outputs = {{output, {1, 6}, kFloat32, 0, cpu}};
  const OpResource none(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                        nullptr);
  return op->Forward(&inputs, &outputs, none) == MX_SUCCESS && output[5] == 6;
}

}  // namespace

int main() {
  const bool passed = forward_succeeds(64, 8) && !forward_succeeds(63, 8) &&
                      !forward_succeeds(64, 7) && !forward_succeeds(65, 8);
  std::puts(passed ? "passed" : "failed");
  return !passed;
}
