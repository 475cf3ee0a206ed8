#include "engine.h"

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "team.h"

namespace gluondense {
namespace {

// MXNet takes half of the processors unless it is told; this takes all that it may run on.
int threads() {
  static const int count = std::getenv("OMP_NUM_THREADS")
                               ? std::max(1, std::atoi(std::getenv("OMP_NUM_THREADS")))
                               : omp_get_num_procs();
  return count;
}

}  // namespace

void Engine::prepare(int channels, int height, int width, const float* blob, std::size_t version) {
  const bool same_size =
      planned_[0] == channels && planned_[1] == height && planned_[2] == width;
  if (same_size && blob == blob_ && version == version_) return;
  plan_ = program_.plan(channels, height, width);
  winograd_ = winograd_filters(program_, plan_, blob);
  planned_[0] = channels, planned_[1] = height, planned_[2] = width;
  blob_ = blob, version_ = version;
}

void Engine::run(const float* in, int images, int channels, int height, int width,
                 const float* blob, std::size_t version, const std::vector<float*>& outputs) {
  prepare(channels, height, width, blob, version);
  const int most = threads();
  const std::size_t image_floats = static_cast<std::size_t>(channels) * height * width;
  // Whole images for each thread as far as they go round; all threads on each of the rest.
  const int alone = images / most * most;
  // Lines of 16 floats, plus what a vector may read over the end.
  const std::size_t room = (plan_.floats + 64 + 15) / 16 * 16;
  const std::size_t needed = room * (alone ? most : 1) + 16;
  if (memory_.size() < needed) memory_.resize(needed);
  float* const begin = reinterpret_cast<float*>(
      (reinterpret_cast<std::uintptr_t>(memory_.data()) + 63) / 64 * 64);
  std::unique_ptr<Team> team;
#pragma omp parallel num_threads(most)
  {
    const int rank = omp_get_thread_num(), size = omp_get_num_threads();
#pragma omp single
    team.reset(new Team(size));
    if (alone) {
      Team single(1);
      Runner runner(program_, plan_, blob, winograd_, begin + room * rank, single, 0);
      for (int i = rank; i < alone; i += size) runner.run(in + i * image_floats, i, outputs);
    }
    if (alone < images) {
      team->meet();
      Runner runner(program_, plan_, blob, winograd_, begin, *team, rank);
      for (int i = alone; i < images; ++i) runner.run(in + i * image_floats, i, outputs);
    }
  }
}

}  // namespace gluondense
