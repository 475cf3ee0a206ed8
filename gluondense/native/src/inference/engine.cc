// SPDX-License-Identifier: Apache-2.0
#include "inference/engine.h"

#include <cstring>

#include "inference/tuning.h"
#include "threads.h"

namespace gluondense {

void Engine::prepare(const ImageBatch& images, const Weights& weights) {
  inference_kernels();  // throws if GLUONDENSE_ISA is wrong
  const bool same_size = planned_.channels == images.channels && planned_.height == images.height &&
                         planned_.width == images.width;
  if (same_size && weights.floats == weights_.floats && weights.version == weights_.version) return;
  planned_ = {};  // until all is prepared: an exception must not leave half of it
  plan_ = plan_memory(program_, images.channels, images.height, images.width);
  convs_.assign(program_.steps.size(), {});
  for_each_conv([&](const ConvStep& step, PreparedConv* conv) {
    conv->algorithm = &default_algorithm(step, program_, plan_);
  });
  tune_algorithms({program_, plan_, convs_, weights.floats, weights.bytes}, images.channels,
                  images.height, images.width, &convs_);
  pack_filters(weights);
  planned_ = images;
  weights_ = weights;
  use_huge_pages(weights.floats, program_.float_count * sizeof(float));
  if (weights.bytes) use_huge_pages(weights.bytes, program_.byte_count);
}

// All packed filters are in one buffer, whose pages are huge ones.
void Engine::pack_filters(const Weights& weights) {
  const auto floats = [&](const ConvStep& step, const PreparedConv& conv) {
    const auto count = conv.algorithm->filter_floats;
    return count ? round_up<std::size_t>(count(step, plan_), kCacheLineBytes / sizeof(float)) : 0;
  };
  std::size_t total = 0;
  for_each_conv([&](const ConvStep& step, PreparedConv* conv) { total += floats(step, *conv); });
  float* packed = filters_.reserve<float>(total);
  for_each_conv([&](const ConvStep& step, PreparedConv* conv) {
    if (!conv->algorithm->pack_filters) return;
    conv->algorithm->pack_filters(step, plan_, weights.floats, packed);
    conv->filters = packed;
    packed += floats(step, *conv);
  });
}

std::uint8_t* Engine::reserve(std::size_t size) {
  auto* const arena = arena_.reserve<std::uint8_t>(size);
  if (cleared_ < size) {
    std::memset(arena, 0, size);
    use_huge_pages(arena, size);
    cleared_ = size;
  }
  return arena;
}

void Engine::run(const ImageBatch& images, const Weights& weights,
                 const std::vector<float*>& outputs) {
  prepare(images, weights);
  const int threads = num_threads();
  const std::size_t image_size =
      static_cast<std::size_t>(images.channels) * images.height * images.width;
  // Each thread takes whole images as long as there is one for every thread; the threads share each
  // of the rest.
  const int whole = images.batch / threads * threads;
  const std::size_t arenas = whole ? threads : 1;
  const std::size_t image_bytes =
      round_up<std::size_t>(plan_.size_bytes + kOverreadBytes, kCacheLineBytes);
  const std::size_t scratch = scratch_bytes(program_, plan_);
  // The plan has checked that one image fits into the memory of this machine.
  const std::size_t size = arenas * image_bytes + threads * scratch;
  check_memory(size);
  std::uint8_t* const arena = reserve(size);
  const RunContext context = {program_, plan_, convs_, weights.floats, weights.bytes};
  parallel(threads, [&](Barrier& barrier, int rank) {
    std::uint8_t* const own_scratch = arena + arenas * image_bytes + rank * scratch;
    const auto run = [&](InferenceWorker worker, int first, int last, int step) {
      for (int i = first; i < last; i += step) {
        worker.run(images.data + i * image_size, i, outputs);
      }
    };
    if (whole) {
      Barrier none;
      run({context, arena + image_bytes * rank, own_scratch, none, 0}, rank, whole, barrier.size());
    }
    if (whole < images.batch) {
      barrier.wait();
      run({context, arena, own_scratch, barrier, rank}, whole, images.batch, 1);
    }
  });
}

}  // namespace gluondense
