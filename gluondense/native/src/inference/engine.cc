#include "inference/engine.h"

#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "kernels/team.h"

namespace gluondense {
namespace {

// MXNet takes half of the processors unless it is told; this takes all that it may run on.
int threads() {
  static const int count = [] {
    const char* const wanted = std::getenv("OMP_NUM_THREADS");
    const int number = wanted ? std::atoi(wanted) : 0;
    return number > 0 ? number : omp_get_num_procs();
  }();
  return count;
}

// Large pages for what is read over and over: with small ones, finding them takes up to a tenth of
// the time. What the kernel does not do is no harm.
void use_large_pages(const void* begin, std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 2 << 20;
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t first = (address + kPage - 1) / kPage * kPage;
  const std::uintptr_t last = (address + bytes) / kPage * kPage;
  if (first >= last) return;
  void* const pages = reinterpret_cast<void*>(first);
  madvise(pages, last - first, MADV_HUGEPAGE);
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, of Linux 6.1
  madvise(pages, last - first, kCollapse);
#else
  static_cast<void>(begin), static_cast<void>(bytes);
#endif
}

}  // namespace

void Engine::prepare(const Images& images, const Weights& weights) {
  kernels();  // an instruction set that is not there is told here
  const bool same_size = planned_.channels == images.channels &&
                         planned_.height == images.height && planned_.width == images.width;
  if (same_size && weights.blob == weights_.blob && weights.version == weights_.version) return;
  Plan plan = program_.plan(images.channels, images.height, images.width);
  FiltersByStep winograd = winograd_filters(program_, plan, weights.blob);
  FiltersByStep grouped = grouped_filters(program_, weights.blob);
  FiltersByStep pairs = pair_filters(program_, plan, weights.blob);
  plan_ = std::move(plan);
  winograd_ = std::move(winograd);
  grouped_ = std::move(grouped);
  pairs_ = std::move(pairs);
  planned_ = images;
  weights_ = weights;
  use_large_pages(weights.blob, program_.blob * sizeof(float));
  if (weights.bytes) use_large_pages(weights.bytes, program_.bytes);
  for (const FiltersByStep* all : {&winograd_, &pairs_}) {
    for (const auto& filters : *all) {
      use_large_pages(filters.data(), filters.size() * sizeof(float));
    }
  }
}

void Engine::run(const Images& images, const Weights& weights,
                 const std::vector<float*>& outputs) {
  prepare(images, weights);
  const int most = threads();
  const std::size_t image =
      static_cast<std::size_t>(images.channels) * images.height * images.width;
  // Whole images for each thread as far as they go round; all threads on each of the rest.
  const int alone = images.count / most * most;
  const std::size_t room = (plan_.bytes + kSlack + 63) / 64 * 64;
  const std::size_t scratch = scratch_bytes(program_, plan_);
  const std::size_t rooms = alone ? most : 1;
  const std::size_t needed = rooms * room + most * scratch + 64;
  if (memory_.size() < needed) {
    memory_.resize(needed);
    use_large_pages(memory_.data(), needed);
  }
  Byte* const begin = reinterpret_cast<Byte*>(
      (reinterpret_cast<std::uintptr_t>(memory_.data()) + 63) / 64 * 64);
  const Network network = {program_, plan_,        winograd_,    grouped_,
                           pairs_,   weights.blob, weights.bytes};
  std::unique_ptr<Team> team;
#pragma omp parallel num_threads(most)
  {
    const int rank = omp_get_thread_num(), size = omp_get_num_threads();
#pragma omp single
    team.reset(new Team(size));
    Byte* const mine = begin + rooms * room + rank * scratch;
    if (alone) {
      Team single(1);
      Runner runner(network, begin + room * rank, mine, single, 0);
      for (int i = rank; i < alone; i += size) runner.run(images.data + i * image, i, outputs);
    }
    if (alone < images.count) {
      team->meet();
      Runner runner(network, begin, mine, *team, rank);
      for (int i = alone; i < images.count; ++i) runner.run(images.data + i * image, i, outputs);
    }
  }
}

}  // namespace gluondense
