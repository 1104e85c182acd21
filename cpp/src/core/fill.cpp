#include "core/fill.hpp"

#include <cstring>

#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {
namespace {

using std::int64_t;

/// `count` runs of `bytes` adjacent bytes, `pitch` apart.
void fill_runs(char* data, int64_t bytes, int64_t pitch, int64_t count, [[maybe_unused]] const TensorView& view,
               [[maybe_unused]] Stream stream) {
#if CUTPLAN_WITH_CUDA
  if (view.device.type == DeviceType::cuda) {
    check_cuda(cudaMemset2DAsync(data, static_cast<std::size_t>(pitch), 0, static_cast<std::size_t>(bytes),
                                 static_cast<std::size_t>(count), static_cast<cudaStream_t>(stream)),
               "cudaMemset2DAsync");
    return;
  }
#endif
  for (int64_t i = 0; i < count; ++i) std::memset(data + i * pitch, 0, static_cast<std::size_t>(bytes));
}

/// Steps through dimensions 0 .. `outer`, the last of them in one go.
void fill(char* data, int outer, int64_t bytes, const TensorView& view, Stream stream) {
  if (outer < 0) return fill_runs(data, bytes, bytes, 1, view, stream);
  const int element = bits(view.dtype) / 8;
  const auto walk = [&](const auto& self, char* at, int i) -> void {
    const int64_t step = view.strides[i] * element;
    if (i == outer) return fill_runs(at, bytes, step, view.shape[i], view, stream);
    for (int64_t n = 0; n < view.shape[i]; ++n) self(self, at + n * step, i + 1);
  };
  walk(walk, data, 0);
}

}  // namespace

void fill_zero(const TensorView& view, Stream stream) {
  for (int i = 0; i < view.rank; ++i) {
    if (view.shape[i] == 0) return;
  }
  // Trailing dimensions that lie without gaps are one run.
  const int element = bits(view.dtype) / 8;
  int64_t run = 1;
  int outer = view.rank - 1;
  while (outer >= 0 && (view.shape[outer] == 1 || view.strides[outer] == run)) run *= view.shape[outer--];
  fill(static_cast<char*>(view.data), outer, run * element, view, stream);
}

}  // namespace cutplan
