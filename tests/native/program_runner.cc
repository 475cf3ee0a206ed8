// Parses, plans and runs programs, each with images and arrays of exactly the sizes that it asks
// for. The file named by the first argument has for each program its length in bytes as a line of
// text, then its text. Prints a line for each: what became of it.
#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "inference/engine.h"

using namespace gluondense;

namespace {

constexpr int kBatch = 3, kHeight = 37, kWidth = 34;
// Limits of a program: time of the processor, and of the clock for one that waits for ever. After
// them SIGPROF or SIGALRM ends the process.
constexpr unsigned kCpuSeconds = 60, kSeconds = 1200;

// Numbers from -1 to 1. Every fourth of `wild` arrays' is one that damaged weights may have.
std::vector<float> random_floats(std::size_t count, bool wild, std::minstd_rand* random) {
  typedef std::numeric_limits<float> Limits;
  static const float kWild[] = {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(),
                                Limits::max(),       Limits::lowest(),   Limits::denorm_min()};
  std::vector<float> numbers(count);
  for (float& number : numbers) {
    const auto value = (*random)();
    number = wild && value % 4 == 0 ? kWild[value / 4 % 6] : value % 2001 / 1000.f - 1;
  }
  return numbers;
}

// The channels of the images that a program takes.
int image_channels(const Program& program) {
  for (const Step& step : program.steps) {
    if (const auto* const load = std::get_if<LoadStep>(&step)) return load->out.channels;
  }
  return 1;
}

void run(const std::string& text, bool wild, std::minstd_rand* random) {
  Engine engine(Program::parse(text));
  const Program& program = engine.program();
  const int channels = image_channels(program);
  const MemoryPlan plan = plan_memory(program, channels, kHeight, kWidth);
  std::vector<std::vector<float>> outputs;
  std::vector<float*> pointers;
  for (int i = 0; i < program.output_count; ++i) {
    std::size_t size = kBatch;
    for (std::size_t dim : output_shape(program, plan, i)) size *= dim;
    pointers.push_back(outputs.emplace_back(size).data());
  }
  const auto images =
      random_floats(std::size_t{kBatch} * channels * kHeight * kWidth, wild, random);
  const auto floats = random_floats(program.float_count, wild, random);
  std::vector<std::int8_t> bytes(program.byte_count);
  for (std::int8_t& byte : bytes) byte = static_cast<std::int8_t>((*random)() % 256);
  engine.run({images.data(), kBatch, channels, kHeight, kWidth}, {floats.data(), bytes.data(), 0},
             pointers);
}

}  // namespace

int main(int, char** arguments) {
  std::ifstream file(arguments[1], std::ios::binary);
  std::minstd_rand random(1);
  std::string length;
  for (int i = 0; std::getline(file, length); ++i) {
    std::string text(std::stoul(length), '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    const itimerval limit = {{0, 0}, {kCpuSeconds, 0}};
    setitimer(ITIMER_PROF, &limit, nullptr);
    alarm(kSeconds);
    try {
      run(text, i % 4 == 3, &random);
      std::puts("accepted");
    } catch (const std::invalid_argument& error) {
      std::puts(error.what());
    }
    std::fflush(stdout);
  }
}
