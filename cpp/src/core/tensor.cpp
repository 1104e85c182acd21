#include "cutplan/tensor.hpp"

#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan {
namespace {

TensorView view_of(void* data, DType dtype, const Extents& shape, Device device) {
  if (shape.size() > max_rank)
    throw InvalidProblem(text("TensorView: at most ", max_rank, " dimensions required, got ", shape.size()));
  TensorView view;
  view.data = data;
  view.dtype = dtype;
  view.device = device;
  view.rank = static_cast<int>(shape.size());
  for (int i = 0; i < view.rank; ++i) {
    if (shape[i] < 0) throw InvalidProblem(text("TensorView: extents >= 0 required, got ", shape[i]));
    view.shape[i] = shape[i];
  }
  return view;
}

/// Strides of a contiguous tensor whose dimensions are `order` from the innermost to the outermost.
template <typename Order>
void pack(TensorView& view, const Order& order) {
  std::int64_t step = 1;
  for (int i = 0; i < view.rank; ++i) {
    const int dimension = order(i);
    view.strides[dimension] = step;
    // The strides of a tensor without elements are never followed, and are what they would be with extents of 1.
    if (view.shape[dimension] > 1) step *= view.shape[dimension];
  }
}

TensorView as_read_only(TensorView view) {
  view.read_only = true;
  return view;
}

}  // namespace

TensorView TensorView::row_major(void* data, DType dtype, const Extents& shape, Device device) {
  TensorView view = view_of(data, dtype, shape, device);
  pack(view, [&](int i) { return view.rank - 1 - i; });
  return view;
}

TensorView TensorView::column_major(void* data, DType dtype, const Extents& shape, Device device) {
  TensorView view = view_of(data, dtype, shape, device);
  const int last = view.rank - 1;
  pack(view, [&](int i) { return last >= 1 && i < 2 ? last - 1 + i : last - i; });
  return view;
}

TensorView TensorView::strided(void* data, DType dtype, const Extents& shape, const Extents& strides, Device device) {
  if (strides.size() != shape.size())
    throw InvalidProblem(text("TensorView: as many strides as extents required, got ", strides.size(), " strides for ",
                              shape.size(), " extents"));
  TensorView view = view_of(data, dtype, shape, device);
  for (int i = 0; i < view.rank; ++i) view.strides[i] = strides[i];
  return view;
}

TensorView TensorView::row_major(const void* data, DType dtype, const Extents& shape, Device device) {
  return as_read_only(row_major(const_cast<void*>(data), dtype, shape, device));
}

TensorView TensorView::column_major(const void* data, DType dtype, const Extents& shape, Device device) {
  return as_read_only(column_major(const_cast<void*>(data), dtype, shape, device));
}

TensorView TensorView::strided(const void* data, DType dtype, const Extents& shape, const Extents& strides, Device device) {
  return as_read_only(strided(const_cast<void*>(data), dtype, shape, strides, device));
}

TensorView TensorView::advanced(std::int64_t bytes) const noexcept {
  TensorView view = *this;
  view.data = static_cast<char*>(data) + bytes;
  return view;
}

}  // namespace cutplan
