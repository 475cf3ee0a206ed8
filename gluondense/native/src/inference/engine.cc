#include "inference/engine.h"

#include <cstring>

#include "memory.h"
#include "threads.h"

namespace gluondense {
void Engine::prepare(const Images& images, const Weights& weights) {
  inference_kernels();  // an instruction set that is not there is told here
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
  use_huge_pages(weights.blob, program_.blob * sizeof(float));
  if (weights.bytes) use_huge_pages(weights.bytes, program_.bytes);
  for (const FiltersByStep* all : {&winograd_, &pairs_}) {
    for (const auto& filters : *all) {
      use_huge_pages(filters.data(), filters.size() * sizeof(float));
    }
  }
}

void Engine::run(const Images& images, const Weights& weights,
                 const std::vector<float*>& outputs) {
  prepare(images, weights);
  const int most = num_threads();
  const std::size_t image =
      static_cast<std::size_t>(images.channels) * images.height * images.width;
  // Whole images for each thread as far as they go round; all threads on each of the rest.
  const int alone = images.count / most * most;
  const std::size_t room = (plan_.bytes + kOverreadBytes + 63) / 64 * 64;
  const std::size_t scratch = scratch_bytes(program_, plan_);
  const std::size_t rooms = alone ? most : 1;
  const std::size_t needed = rooms * room + most * scratch;
  std::uint8_t* const begin = memory_.reserve<std::uint8_t>(needed);
  if (cleared_ < needed) {
    std::memset(begin, 0, needed);
    use_huge_pages(begin, needed);
    cleared_ = needed;
  }
  const Network network = {program_, plan_,        winograd_,    grouped_,
                           pairs_,   weights.blob, weights.bytes};
  parallel(most, [&](Barrier& barrier, int rank) {
    const int size = barrier.size();
    std::uint8_t* const mine = begin + rooms * room + rank * scratch;
    if (alone) {
      Barrier single;
      Runner runner(network, begin + room * rank, mine, single, 0);
      for (int i = rank; i < alone; i += size) runner.run(images.data + i * image, i, outputs);
    }
    if (alone < images.count) {
      barrier.wait();
      Runner runner(network, begin, mine, barrier, rank);
      for (int i = alone; i < images.count; ++i) runner.run(images.data + i * image, i, outputs);
    }
  });
}

}  // namespace gluondense
