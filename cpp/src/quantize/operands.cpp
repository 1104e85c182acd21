// What comes in: from tensors to a descriptor (describe), and from the arguments of a call to what a kernel is told (problem).
#include "quantize/operands.hpp"

#include <algorithm>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "quantize/family.hpp"

namespace cutplan::quantize {

using std::int64_t;

namespace {

Matrix matrix_of(const Placed& p) { return {p.data, p.strides[0], p.strides[1]}; }

/// Strides by batch, row and column of scales: dimensions that a granularity has not are not stepped through.
template <typename T, typename G>
PerScale<T> per_scale(const G& g, const Placed& p) {
  PerScale<T> s{static_cast<T*>(p.data), 0, 0, 0};
  if (g.granularity == Granularity::tensor) return s;
  s.batch = p.strides[0];
  if (g.granularity == Granularity::column) {
    s.column = p.strides[1];
  } else {
    s.row = p.strides[1];
    if (g.granularity != Granularity::row) s.column = p.strides[2];
  }
  return s;
}

bool in_pieces(const Matrix& m, int64_t element, int64_t piece) {
  const auto all = static_cast<int64_t>(reinterpret_cast<std::uintptr_t>(m.data)) | m.batch * element | m.row * element;
  return all % piece == 0;
}

template <typename G>
Problem problem_of(const G& g, DType x_type, const Placed& x, const Placed& data) {
  Problem p{};
  p.batch = g.batch;
  p.rows = g.rows;
  p.columns = g.columns;
  p.x = matrix_of(x);
  p.data = matrix_of(data);
  p.type = g.dtype;
  p.symmetric = g.symmetric;
  p.whole = g.granularity == Granularity::tensor;
  const int64_t packed = g.dtype == DType::i4 ? 2 : 1, width = 128 / bits(x_type);
  if (p.whole) {
    // Where no gaps are between rows, and between matrices, all is one row.
    const auto joins = [&](int64_t extent, int64_t x_stride, int64_t data_stride, int64_t inner) {
      return extent <= 1 || (x_stride == inner && data_stride * packed == inner);
    };
    if (joins(p.rows, p.x.row, p.data.row, p.columns) && joins(p.batch, p.x.batch, p.data.batch, p.rows * p.columns)) {
      p.columns *= p.rows * p.batch;
      p.batch = p.rows = 1;
      p.x.batch = p.x.row = p.data.batch = p.data.row = 0;
    }
  }
  const int64_t rows = group_rows(g), columns = group_columns(g);
  p.scales_down = p.whole || g.granularity == Granularity::column ? 1 : ceil_div(g.rows, rows);
  p.scales_across = p.whole || g.granularity == Granularity::row ? 1 : ceil_div(g.columns, columns);
  p.group_rows = p.whole ? std::max<int64_t>(p.rows, 1) : rows;
  p.group_columns = p.whole ? std::max<int64_t>(p.columns, 1) : columns;
  p.by_columns = g.granularity == Granularity::column || (g.granularity == Granularity::group && g.axis == -2);
  p.shared = p.whole || g.granularity == Granularity::column;
  p.wide = in_pieces(p.x, bits(x_type) / 8, 16) && in_pieces(p.data, 1, width / packed) &&
           (p.by_columns || p.scales_across == 1 || p.group_columns % width == 0);
  return p;
}

}  // namespace

Problem Quantize::problem(const Q& g, const Selection<Kernel>&, const Operands&, const QA&, const Places& at) {
  constexpr const auto& table = quantize_operands;
  const auto place = [&](TensorView QA::* member) -> const Placed& { return at[index_of(table, member)]; };
  Problem p = problem_of(g, g.x, place(&QA::x), place(&QA::data));
  p.given = g.static_scale;
  p.scale = per_scale<float>(g, place(&QA::scale));
  p.zero = per_scale<std::int32_t>(g, place(&QA::zero));
  p.amax = per_scale<float>(g, place(&QA::amax));
  return p;
}

Problem Dequantize::problem(const D& g, const Selection<Kernel>&, const Operands&, const DA&, const Places& at) {
  constexpr const auto& table = dequantize_operands;
  const auto place = [&](TensorView DA::* member) -> const Placed& { return at[index_of(table, member)]; };
  Problem p = problem_of(g, g.out, place(&DA::out), place(&DA::data));
  p.given = true;
  p.scale = per_scale<float>(g, place(&DA::scale));
  p.zero = per_scale<std::int32_t>(g, place(&DA::zero));
  return p;
}

}  // namespace cutplan::quantize

namespace cutplan {

QuantizeDescriptor describe(const QuantizeArguments& args, const QuantizeDescriptor& options) {
  QuantizeDescriptor g = options;
  check_rank("x", args.x, 2, 3);
  const int last = args.x.rank - 1;
  g.batch = last == 2 ? args.x.shape[0] : 1;
  g.rows = args.x.shape[last - 1];
  g.columns = args.x.shape[last];
  g.x = args.x.dtype;
  g.amax = args.amax.present();
  return g;
}

DequantizeDescriptor describe(const DequantizeArguments& args, const DequantizeDescriptor& options) {
  DequantizeDescriptor g = options;
  check_rank("data", args.data, 2, 3);
  const int last = args.data.rank - 1;
  g.batch = last == 2 ? args.data.shape[0] : 1;
  g.rows = args.data.shape[last - 1];
  g.columns = args.data.shape[last] * (g.dtype == DType::i4 ? 2 : 1);
  if (args.out.present()) g.out = args.out.dtype;
  return g;
}

}  // namespace cutplan
