// MXNet's side: one operator that runs a program, for mx.library.load.
#include <sys/auxv.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include "inference/engine.h"
#include "mxnet_operator.h"

using namespace mxnet::ext;

namespace {

using gluondense::Attributes;

template <class Function>
MXReturnValue guarded(Function function) {
  return gluondense::guarded("", function);
}

typedef std::shared_ptr<const gluondense::Program> SharedProgram;

// Parsed once: that takes a millisecond, and MXNet asks for the numbers of inputs and outputs with
// each prediction.
SharedProgram program_of(const Attributes& attributes) {
  constexpr std::size_t kMost = 64;  // of different ones in a process; then it begins anew
  static std::mutex& mutex = *new std::mutex;  // never destroyed: MXNet may ask until the very end
  static auto& known = *new std::unordered_map<std::string, SharedProgram>;
  const auto found = attributes.find("program");
  if (found == attributes.end()) throw std::invalid_argument("gluondense program: is missing");
  const std::lock_guard<std::mutex> lock(mutex);
  const auto before = known.find(found->second);
  if (before != known.end()) return before->second;
  auto program = std::make_shared<const gluondense::Program>(
      gluondense::Program::parse(found->second));
  if (known.size() == kMost) known.clear();
  known.emplace(found->second, program);
  return program;
}

MXReturnValue parse(const Attributes& attributes, int* inputs, int* outputs) {
  return guarded([&] {
    const auto program = program_of(attributes);
    *inputs = program->bytes ? 3 : 2;  // images, blob, bytes
    *outputs = program->outputs;
  });
}

MXReturnValue infer_type(const Attributes&, std::vector<int>* in, std::vector<int>* out) {
  for (std::size_t i = 0; i < in->size(); ++i) in->at(i) = i == 2 ? kInt8 : kFloat32;
  for (int& type : *out) type = kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(const Attributes& attributes,
                          std::vector<std::vector<unsigned int>>* in,
                          std::vector<std::vector<unsigned int>>* out) {
  return guarded([&] {
    const auto& images = in->at(0);
    if (images.size() != 4) throw std::invalid_argument("images must be (N, C, H, W)");
    const auto program = program_of(attributes);
    const auto plan = program->plan(images[1], images[2], images[3]);
    in->at(1) = {gluondense::checked_dim(program->blob)};
    if (program->bytes) in->at(2) = {gluondense::checked_dim(program->bytes)};
    for (std::size_t i = 0; i < out->size(); ++i) {
      out->at(i) = {images[0]};
      for (std::size_t n : program->output_shape(plan, i)) out->at(i).push_back(gluondense::checked_dim(n));
    }
  });
}

class Operator : public CustomStatefulOp {
 public:
  explicit Operator(gluondense::Program program) : engine_(std::move(program)) {}

  MXReturnValue Forward(std::vector<MXTensor>* inputs, std::vector<MXTensor>* outputs,
                        const OpResource&) override {
    return guarded([&] {
      MXTensor &images = inputs->at(0), &blob = inputs->at(1);
      std::vector<float*> out;
      for (MXTensor& tensor : *outputs) out.push_back(tensor.data<float>());
      gluondense::Weights weights = {blob.data<float>(), nullptr, blob.verID};
      if (inputs->size() > 2) weights.bytes = inputs->at(2).data<std::int8_t>();
      const auto size = [&](int axis) { return static_cast<int>(images.shape[axis]); };
      engine_.run({images.data<float>(), size(0), size(1), size(2), size(3)}, weights, out);
    });
  }

 private:
  gluondense::Engine engine_;
};

MXReturnValue create(const Attributes& attributes, const MXContext&,
                     const std::vector<std::vector<unsigned int>>&, const std::vector<int>,
                     CustomStatefulOp** op) {
  return guarded([&] {
    *op = new Operator(*program_of(attributes));
    (*op)->ignore_warn = true;
  });
}

// The program's start, in 16 random bytes of the kernel's: a fork has them, another exec has others.
std::string start_of_program() {
  const auto* const bytes = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  std::string text;
  for (int i = 0; bytes && i < 16; ++i) text += std::to_string(bytes[i]) + ".";
  return text;
}

bool is_first_load() {
  static const char* const kName = "GLUONDENSE_NATIVE_LOADED";
  const std::string start = start_of_program();
  const char* const last = std::getenv(kName);
  if (last && start == last) return false;
  setenv(kName, start.c_str(), 1);
  return true;
}

}  // namespace

REGISTER_OP(gluondense_program)
    .setParseAttrs(parse)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setCreateOpState(create, "cpu");

#define VISIBLE __attribute__((visibility("default")))

// Takes the place of lib_api.cc's. Every export brings a copy of this library, and MXNet refuses to
// register an operator for the third time: only the first load of a process registers them.
extern "C" int lib_api_opRegSize();
extern "C" VISIBLE int _opRegSize() { return is_first_load() ? lib_api_opRegSize() : 0; }

VISIBLE MXReturnValue initialize(int version) {
  if (version >= 10901) return MX_SUCCESS;
  MX_ERROR_MSG << "gluondense's operators need MXNet 1.9.1" << std::endl;
  return MX_FAIL;
}
