#include "training/stage.h"

#include <mutex>
#include <stdexcept>

#include "training/part.h"

namespace gluondense {
namespace {

// Of smaller maps a stage holds too little to be worth the time of computing it again.
constexpr int kFewPixels = 256;

// Passes of several contexts run at the same time, each with a workspace; the next ones reuse them.
class Lent {
 public:
  Lent() {
    const std::lock_guard<std::mutex> lock(mutex());
    if (free().empty()) {
      workspace_ = std::make_unique<Workspace>();
    } else {
      workspace_ = std::move(free().back());
      free().pop_back();
    }
  }
  ~Lent() {
    const std::lock_guard<std::mutex> lock(mutex());
    free().push_back(std::move(workspace_));
  }
  Lent(const Lent&) = delete;
  Workspace* operator->() const { return workspace_.get(); }

 private:
  std::unique_ptr<Workspace> workspace_;
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }
  static std::vector<std::unique_ptr<Workspace>>& free() {
    static std::vector<std::unique_ptr<Workspace>> all;
    return all;
  }
};

}  // namespace

void Stage::forward(const StageShape& shape, const float* in, const StageArrays& arrays,
                    float* out) {
  done_ = false;
  shape_ = shape;
  shape_.recompute = shape.recompute && shape.height * shape.width > kFewPixels;
  inference_kernels();  // an instruction set that is not there is told here
  const Sizes sizes(shape_);
  const Lent work;
  const int most = num_threads();
  const std::size_t middles = shape_.pixels() * sizes.middle_row;
  const std::size_t total = shape_.total(), narrow = shape_.layers * sizes.middle_row;
  saved_.mean.resize(total), saved_.inverse.resize(total);
  saved_.mean2.resize(narrow), saved_.inverse2.resize(narrow);
  const Shared shared = {
      shape_,
      sizes,
      arrays,
      saved_,
      saved_.maps.reserve<float>(shape_.pixels() * sizes.map_row),
      shape_.recompute ? work->middle.reserve<float>(middles)
                       : saved_.middles.reserve<float>(middles * shape_.layers),
      work->partial.reserve<double>(most * sizes.partial),
      work->scratch.reserve<float>(most * sizes.scratch),
      work->packed.reserve<float>(2 * (sizes.pointwise + sizes.spatial)),
      nullptr,
      nullptr,
      nullptr,
      nullptr};
  parallel(most, [&](Barrier& barrier, int rank) { Part(shared, barrier, rank).forward(in, out); });
  done_ = true;
}

void Stage::backward(const float* out_gradient, const StageArrays& arrays, float* in_gradient,
                     const StageArrays& gradients) {
  if (!done_) throw std::logic_error("backward without a forward pass");
  const Sizes sizes(shape_);
  const Lent work;
  const int most = num_threads();
  const std::size_t pixels = shape_.pixels(), middles = pixels * sizes.middle_row;
  const Shared shared = {
      shape_,
      sizes,
      arrays,
      saved_,
      saved_.maps.reserve<float>(pixels * sizes.map_row),
      shape_.recompute ? work->middle.reserve<float>(middles)
                       : saved_.middles.reserve<float>(middles * shape_.layers),
      work->partial.reserve<double>(most * sizes.partial),
      work->scratch.reserve<float>(most * sizes.scratch),
      work->packed.reserve<float>(2 * (sizes.pointwise + sizes.spatial)),
      work->gradient.reserve<float>(pixels * sizes.map_row),
      work->middle_gradient.reserve<float>(middles),
      work->last.reserve<float>(pixels * sizes.growth_row),
      work->sums.reserve<float>(most * sizes.sums + sizes.pointwise)};
  parallel(most, [&](Barrier& barrier, int rank) {
    Part(shared, barrier, rank).backward(out_gradient, in_gradient, gradients);
  });
}

}  // namespace gluondense
