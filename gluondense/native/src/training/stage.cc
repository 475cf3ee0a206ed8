#include "training/stage.h"

#include <omp.h>
#include <sys/mman.h>

#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>

#include "training/part.h"

namespace gluondense {
namespace {

constexpr std::size_t kPage = 2 << 20;
// Of smaller maps a stage holds too little to be worth the time of computing it again.
constexpr int kFewPixels = 256;

// MXNet takes half of the processors unless it is told; this takes all that it may run on.
int threads() {
  static const int count = [] {
    const char* const wanted = std::getenv("OMP_NUM_THREADS");
    const int number = wanted ? std::atoi(wanted) : 0;
    return number > 0 ? number : omp_get_num_procs();
  }();
  return count;
}

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

template <typename Function>
void in_team(int size, const Shared& shared, Function function) {
  std::unique_ptr<Team> team;
#pragma omp parallel num_threads(size)
  {
#pragma omp single
    team.reset(new Team(omp_get_num_threads()));
    Part part(shared, *team, omp_get_thread_num());
    function(part);
  }
}

}  // namespace

void Buffer::Free::operator()(void* memory) const { std::free(memory); }

void* Buffer::bytes(std::size_t size) {
  if (size <= size_) return memory_.get();
  memory_.reset();
  size_ = 0;
  const std::size_t whole = (size + kSlack + kPage - 1) / kPage * kPage;
  memory_.reset(std::aligned_alloc(kPage, whole));
  if (!memory_) throw std::bad_alloc();
  madvise(memory_.get(), whole, MADV_HUGEPAGE);
  size_ = size;
  return memory_.get();
}

void Stage::forward(const StageShape& shape, const float* in, const StageArrays& arrays,
                    float* out) {
  done_ = false;
  shape_ = shape;
  shape_.recompute = shape.recompute && shape.height * shape.width > kFewPixels;
  kernels();  // an instruction set that is not there is told here
  const Sizes sizes(shape_);
  const Lent work;
  const int most = threads();
  const std::size_t middles = shape_.pixels() * sizes.middle_row;
  const std::size_t total = shape_.total(), narrow = shape_.layers * sizes.middle_row;
  saved_.mean.resize(total), saved_.inverse.resize(total);
  saved_.mean2.resize(narrow), saved_.inverse2.resize(narrow);
  const Shared shared = {
      shape_,
      sizes,
      arrays,
      saved_,
      saved_.maps.floats(shape_.pixels() * sizes.map_row),
      shape_.recompute ? work->middle.floats(middles)
                       : saved_.middles.floats(middles * shape_.layers),
      work->partial.doubles(most * sizes.partial),
      work->scratch.floats(most * sizes.scratch),
      work->packed.floats(2 * (sizes.pointwise + sizes.spatial)),
      nullptr,
      nullptr,
      nullptr,
      nullptr};
  in_team(most, shared, [&](Part& part) { part.forward(in, out); });
  done_ = true;
}

void Stage::backward(const float* out_gradient, const StageArrays& arrays, float* in_gradient,
                     const StageArrays& gradients) {
  if (!done_) throw std::logic_error("backward without a forward pass");
  const Sizes sizes(shape_);
  const Lent work;
  const int most = threads();
  const std::size_t pixels = shape_.pixels(), middles = pixels * sizes.middle_row;
  const Shared shared = {
      shape_,
      sizes,
      arrays,
      saved_,
      saved_.maps.floats(pixels * sizes.map_row),
      shape_.recompute ? work->middle.floats(middles)
                       : saved_.middles.floats(middles * shape_.layers),
      work->partial.doubles(most * sizes.partial),
      work->scratch.floats(most * sizes.scratch),
      work->packed.floats(2 * (sizes.pointwise + sizes.spatial)),
      work->gradient.floats(pixels * sizes.map_row),
      work->middle_gradient.floats(middles),
      work->last.floats(pixels * sizes.growth_row),
      work->sums.floats(most * sizes.sums + sizes.pointwise)};
  in_team(most, shared, [&](Part& part) { part.backward(out_gradient, in_gradient, gradients); });
}

}  // namespace gluondense
