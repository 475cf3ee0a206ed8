// SPDX-License-Identifier: Apache-2.0
// MXNet's operator that runs a program, and the library's entry points for mx.library.load.
#include <sys/auxv.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "inference/engine.h"
#include "mxnet_operator.h"

using namespace mxnet::ext;

namespace gluondense {
namespace {

typedef std::shared_ptr<const Program> SharedProgram;

// Parses each program once: it takes a millisecond, and MXNet asks for the numbers of inputs and
// outputs with each prediction.
SharedProgram find_program(const Attributes& attributes) {
  constexpr std::size_t kMaxPrograms = 64;     // then all are forgotten
  static std::mutex& mutex = *new std::mutex;  // never destroyed: MXNet may ask during its exit
  static auto& programs = *new std::unordered_map<std::string, SharedProgram>;
  const std::string& text = attribute(attributes, "program");
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = programs.find(text);
  if (found != programs.end()) return found->second;
  auto program = std::make_shared<const Program>(Program::parse(text));
  if (programs.size() == kMaxPrograms) programs.clear();
  programs.emplace(text, program);
  return program;
}

// Messages of programs begin with "gluondense program: " already.
template <class Function>
MXReturnValue guarded(Function function) {
  return gluondense::guarded("", function);
}

MXReturnValue parse_attributes(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded([&] {
    const auto program = find_program(attributes);
    *inputs = program->byte_count ? 3 : 2;  // images, floats, bytes
    *outputs = program->output_count;
  });
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (std::size_t i = 0; i < in->size(); ++i) in->at(i) = i == 2 ? kInt8 : kFloat32;
  for (int& type : *out) type = kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes, std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded([&] {
    const auto& images = in->at(0);
    if (images.size() != 4) throw_invalid("images must be (N, C, H, W)");
    const auto program = find_program(attributes);
    const auto plan = plan_memory(*program, images[1], images[2], images[3]);
    in->at(1) = {checked_dim(program->float_count)};
    if (program->byte_count) in->at(2) = {checked_dim(program->byte_count)};
    for (std::size_t i = 0; i < out->size(); ++i) {
      out->at(i) = {images[0]};
      for (std::size_t size : output_shape(*program, plan, static_cast<int>(i))) {
        out->at(i).push_back(checked_dim(size));
      }
    }
  });
}

void check_size(const MXTensor& tensor, std::size_t expected) {
  std::size_t size = 1;
  for (std::int64_t dim : tensor.shape) size *= dim;
  if (size != expected) {
    throw_invalid("an array has " + std::to_string(size) + " elements instead of " +
                  std::to_string(expected));
  }
}

class ProgramOperator : public CustomStatefulOp {
 public:
  static constexpr const char* kMessagePrefix = "";  // messages name the program already

  explicit ProgramOperator(const Attributes& attributes) : engine_(*find_program(attributes)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded([&] {
      MXTensor &images = inputs->at(0), &floats = inputs->at(1);
      const Program& program = engine_.program();
      check_size(floats, program.float_count);
      Weights weights = {floats.data<float>(), nullptr, floats.verID};
      if (program.byte_count) {
        check_size(inputs->at(2), program.byte_count);
        weights.bytes = inputs->at(2).data<std::int8_t>();
      }
      std::vector<float*> out;
      for (MXTensor& tensor : *outputs) out.push_back(tensor.data<float>());
      const auto dim = [&](int axis) { return static_cast<int>(images.shape.at(axis)); };
      engine_.run({images.data<float>(), dim(0), dim(1), dim(2), dim(3)}, weights, out);
    });
  }

 private:
  Engine engine_;
};

// An id of the process: the kernel's 16 random bytes, which a fork keeps and an exec changes.
std::string process_id() {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  std::string text;
  for (int i = 0; bytes && i < 16; ++i) text += std::to_string(bytes[i]) + ".";
  return text;
}

bool is_first_load() {
  static const char* const kName = "GLUONDENSE_NATIVE_LOADED";
  const std::string process = process_id();
  const char* const last = std::getenv(kName);
  if (last && process == last) return false;
  setenv(kName, process.c_str(), 1);
  return true;
}

}  // namespace
}  // namespace gluondense

REGISTER_OP(gluondense_program)
    .setParseAttrs(gluondense::parse_attributes)
    .setInferType(gluondense::infer_type)
    .setInferShape(gluondense::infer_shape)
    .setCreateOpState(gluondense::create<gluondense::ProgramOperator>, "cpu");

#define VISIBLE __attribute__((visibility("default")))

// Replaces lib_api.cc's function. Every export has a copy of this library, and MXNet refuses to
// register an operator a third time: only the first library that a process loads registers them.
extern "C" int lib_api_opRegSize();
extern "C" VISIBLE int _opRegSize() {
  return gluondense::is_first_load() ? lib_api_opRegSize() : 0;
}

VISIBLE MXReturnValue initialize(int version) {
  if (version >= 10901) return MX_SUCCESS;
  MX_ERROR_MSG << "gluondense's operators need MXNet 1.9.1" << std::endl;
  return MX_FAIL;
}
