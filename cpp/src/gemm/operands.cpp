// What comes in: from tensors to a descriptor (describe), and from the arguments of a call to what a kernel is told (problem).
#include "gemm/operands.hpp"

#include <cmath>
#include <utility>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "gemm/family.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

// ---- what kernels are told ----

/// A matrix as kernels see it.
struct Matrix {
  void* data;
  int64_t ld, batch_stride, step;  // step: from an element of a run to the next
};

/// `p` lies along [batch, rows, columns], or [rows, columns] where `rank` is 2.
Matrix matrix(const Rule& rule, const Placed& p) {
  const int batch = rule.rank - 3, across = 2 * rule.rank - 3 - rule.run;
  Matrix m{p.data, p.strides[across], batch < 0 ? 0 : p.strides[batch], p.strides[rule.run]};
  if (rule.extents[across] == 1)
    m.ld = (rule.extents[rule.run] + 63) / 64 * 64;  // never followed: any aligned value will do
  return m;
}

void check_scalar(const char* scalar, double value) {
  if (!std::isfinite(value)) throw InvalidProblem(text(scalar, ": a finite number required, got ", value));
}

/// Places by the member that they are of.
template <typename Descriptor, typename Arguments, std::size_t kSize>
struct Found {
  const Operand<Descriptor, Arguments> (&table)[kSize];
  const Operands& operands;
  const Places& places;

  Matrix matrix(TensorView Arguments::* member) const {
    const std::size_t i = index_of(table, member);
    const Rule& rule = operands.rows.begin()[i].rule;
    return rule.wanted() ? gemm::matrix(rule, places[i]) : Matrix{nullptr, 0, 0, 1};
  }
  const void* data(TensorView Arguments::* member) const { return places[index_of(table, member)].data; }
};

/// Sets what kernels see of a gate's B and bias; an interleaved one becomes two views: of every other column, every other bias.
void set_gate(Problem& p, Gate gate, bool b_row_major) {
  p.gate = gate;
  p.b_step = p.bias_step = 1;
  if (gate != Gate::interleaved) return;
  const auto beyond = [](const void* data, DType type, int64_t elements) {
    return data == nullptr ? nullptr : static_cast<const char*>(data) + elements * (bits(type) / 8);
  };
  p.b2 = beyond(p.b, p.operand, b_row_major ? 1 : p.ldb);
  if (b_row_major) {
    p.b_step = 2;
  } else {
    p.ldb *= 2;
  }
  p.ldb2 = p.ldb;
  p.batch_b2 = p.batch_b;
  p.bias2 = beyond(p.bias, p.bias_type, 1);
  p.bias_step = 2;
}

/// D^T = B^T A^T: rows become columns, so that kernels need to write row-major matrices only.
void transpose(Problem& p) {
  std::swap(p.m, p.n);
  std::swap(p.a, p.b);
  std::swap(p.lda, p.ldb);
  std::swap(p.batch_a, p.batch_b);
  std::swap(p.row_scale, p.column_scale);
  p.bias_over_m = p.bias != nullptr && !p.bias_over_m;
}

/// The host reads offsets, so it can refuse them.
void check_offsets(const GroupedGemmDescriptor& g, const std::int32_t* offsets) {
  const int64_t extent = g.over == GroupedOver::m ? g.m : g.k;
  int64_t before = 0;
  for (int64_t i = 0; i <= g.groups; ++i) {
    if (offsets[i] < before || offsets[i] > extent) {
      throw InvalidProblem(text("operand offsets: entry ", i, ": a value from ", before,
                                i == 0 ? "" : ", the entry before it,", " to ", extent, ", the extent ", name(g.over),
                                ", required, got ", offsets[i]));
    }
    before = offsets[i];
  }
}

// ---- what tensors tell ----

/// Whether a view's last two dimensions are read as row-major. Where both orders fit, `preferred` decides; so they do where
/// a view that `broadcasts` repeats one row or one column.
bool reads_row_major(const TensorView& t, bool preferred = true, bool broadcasts = false) {
  const int row = t.rank - 2, column = t.rank - 1;
  const auto repeats = [&](int dimension) { return t.shape[dimension] <= 1 || t.strides[dimension] == 0; };
  const auto runs_along = [&](int dimension) { return t.shape[dimension] <= 1 || t.strides[dimension] == 1; };
  const bool either = broadcasts && (repeats(row) || repeats(column));
  const bool by_rows = runs_along(column), by_columns = runs_along(row);
  return either || by_rows == by_columns ? preferred : by_rows;
}

/// The gate that these operands ask for. `n`, the columns of b, becomes those of D.
Gate gate_of(const TensorView& b2, const TensorView& bias, const TensorView& bias2, Gate asked, int64_t* n) {
  if (bias2.present() && !(bias.present() && b2.present()))
    throw MissingOperand("operand bias2: bias and b2 required beside it; pass these, or leave it out");
  if (asked != Gate::interleaved) return b2.present() ? Gate::separate : asked;
  if (b2.present())
    throw MissingOperand("operand b2: not with gate='interleaved', whose b holds both; leave one of them out");
  if (*n % 2 != 0)
    throw ShapeMismatch(text("operand b: an even number of columns required with gate='interleaved', got ", *n));
  *n /= 2;
  return asked;
}

/// Largest power of two of bytes, 16 at most, that divides the address and every stride that a kernel follows. Refuses an
/// address within an element.
int alignment_of(const char* operand, const TensorView& t, bool row_major) {
  check_address(operand, t);
  const int step = t.rank - (row_major ? 2 : 1);
  std::uint64_t all = reinterpret_cast<std::uintptr_t>(t.data) | 16;
  const auto bytes = static_cast<std::uint64_t>(bits(t.dtype) / 8);
  if (t.shape[step] > 1) all |= static_cast<std::uint64_t>(t.strides[step]) * bytes;
  if (t.rank == 3 && t.shape[0] > 1) all |= static_cast<std::uint64_t>(t.strides[0]) * bytes;
  return static_cast<int>(all & (~all + 1));
}

}  // namespace

Problem Gemm::problem(const GemmDescriptor& g, const Selection<Kernel>&, const Operands& operands, const GemmArguments& args,
                      const Places& places) {
  using A = GemmArguments;
  check_scalar("alpha", args.alpha);
  const double beta = args.beta.value_or(g.epilogue.c ? 1 : 0);
  check_scalar("beta", beta);
  if (beta != 0 && !g.epilogue.c)
    throw InvalidProblem(text("beta: must be 0 without operand c, got ", beta, "; pass c, which the epilogue must have"));
  const Found<GemmDescriptor, A, std::size(gemm::operands)> at{gemm::operands, operands, places};
  const Matrix a = at.matrix(&A::a), b = at.matrix(&A::b), b2 = at.matrix(&A::b2), c = at.matrix(&A::c),
               d = at.matrix(&A::d), residual = at.matrix(&A::residual), aux = at.matrix(&A::aux);
  Problem p{};
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.batch = g.batch;
  p.a = a.data;
  p.b = b.data;
  p.b2 = b2.data;
  p.c = beta != 0 ? c.data : nullptr;  // beta = 0 means that C is not read, whatever it holds
  p.bias = at.data(&A::bias);
  p.bias2 = at.data(&A::bias2);
  p.residual = residual.data;
  p.d = d.data;
  p.aux = aux.data;
  p.row_scale = static_cast<const float*>(at.data(&A::row_scale));
  p.column_scale = static_cast<const float*>(at.data(&A::column_scale));
  p.lda = a.ld;
  p.ldb = b.ld;
  p.ldb2 = b2.ld;
  p.ldc = c.ld;
  p.ldd = d.ld;
  p.ld_residual = residual.ld;
  p.ld_aux = aux.ld;
  p.batch_a = a.batch_stride;
  p.batch_b = b.batch_stride;
  p.batch_b2 = b2.batch_stride;
  p.batch_c = c.batch_stride;
  p.batch_d = d.batch_stride;
  p.batch_residual = residual.batch_stride;
  p.batch_aux = aux.batch_stride;
  p.c_step = c.step;
  p.residual_step = residual.step;
  p.aux_step = aux.step;
  p.alpha = args.alpha;
  p.beta = beta;
  p.operand = g.a;
  p.d_type = g.d;
  p.c_type = g.c;
  p.bias_type = g.bias;
  p.residual_type = g.residual;
  p.aux_type = g.aux;
  p.activation = g.epilogue.activation;
  p.auxiliary = g.epilogue.aux;
  p.bias_over_m = g.epilogue.bias == BiasOver::m;
  set_gate(p, g.epilogue.gate, b_is_row_major(g.layout));
  if (!d_is_row_major(g.layout)) transpose(p);
  return p;
}

Problem GroupedGemm::problem(const GroupedGemmDescriptor& g, const Selection<Kernel>& selection, const Operands& operands,
                             const GroupedGemmArguments& args, const Places& places) {
  using A = GroupedGemmArguments;
  check_scalar("alpha", args.alpha);
  const Found<GroupedGemmDescriptor, A, std::size(grouped_operands)> at{grouped_operands, operands, places};
  const Matrix a = at.matrix(&A::a), b = at.matrix(&A::b), b2 = at.matrix(&A::b2), d = at.matrix(&A::d),
               bias = at.matrix(&A::bias), bias2 = at.matrix(&A::bias2), column_scale = at.matrix(&A::column_scale);
  if (bias2.data != nullptr && bias2.ld != bias.ld) {
    throw LayoutMismatch(text("operand bias2: the strides of bias required, ", bias.ld,
                              " elements from group to group, got ", bias2.ld, "; pass contiguous copies of both"));
  }
  const auto* offsets = static_cast<const std::int32_t*>(at.data(&A::offsets));
  if (selection.device.type == DeviceType::cpu) check_offsets(g, offsets);
  Problem p{};
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.batch = g.groups;
  p.a = a.data;
  p.b = b.data;
  p.b2 = b2.data;
  p.bias = bias.data;
  p.bias2 = bias2.data;
  p.d = d.data;
  p.row_scale = static_cast<const float*>(at.data(&A::row_scale));
  p.column_scale = static_cast<const float*>(column_scale.data);
  p.lda = a.ld;
  p.ldb = b.ld;
  p.ldb2 = b2.ld;
  p.ldd = d.ld;
  p.batch_b = b.batch_stride;
  p.batch_b2 = b2.batch_stride;
  p.batch_d = d.batch_stride;
  p.alpha = args.alpha;
  p.operand = g.a;
  p.d_type = p.c_type = p.residual_type = p.aux_type = g.d;
  p.bias_type = g.bias;
  p.activation = g.epilogue.activation;
  p.offsets = offsets;
  p.grouped_over = g.over;
  p.batch_bias = bias.ld;
  p.batch_column_scale = column_scale.ld;
  p.c_step = p.residual_step = p.aux_step = 1;
  set_gate(p, g.epilogue.gate, b_is_row_major(g.layout));
  return p;
}

}  // namespace cutplan::gemm

namespace cutplan {

GemmDescriptor describe(const GemmArguments& args, const Epilogue& epilogue) {
  using namespace gemm;
  check_rank("a", args.a, 2, 3);
  check_rank("b", args.b, 2, 3);
  if (args.d.present()) check_rank("d", args.d, 2, 3);
  GemmDescriptor g;
  g.m = args.a.shape[args.a.rank - 2];
  g.k = args.a.shape[args.a.rank - 1];
  g.n = args.b.shape[args.b.rank - 1];
  const auto batch_of = [](const TensorView& t) { return t.present() && t.rank == 3 ? t.shape[0] : 1; };
  // A product of two shared matrices can have a batch only by what is done to it.
  for (const TensorView* t : {&args.a, &args.b, &args.d}) {
    if (g.batch == 1) g.batch = batch_of(*t);
  }
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.d = args.d.present() ? args.d.dtype : g.a;
  g.c = args.c.dtype;
  g.bias = args.bias.dtype;
  g.residual = args.residual.dtype;
  g.aux = args.aux.dtype;
  const bool a_row = reads_row_major(args.a), b_row = reads_row_major(args.b);
  // Where both orders fit D, what has to be ordered as D is decides.
  bool d_row = true;
  for (const TensorView* t : {&args.aux, &args.residual, &args.c, &args.d}) {
    const bool is_written = t == &args.d || (t == &args.aux && epilogue.aux == Auxiliary::store);
    if (t->present() && t->rank >= 2) d_row = reads_row_major(*t, d_row, !is_written);
  }
  g.layout = layout_of(a_row, b_row, d_row);
  g.alignment = std::min(alignment_of("a", args.a, a_row), alignment_of("b", args.b, b_row));
  if (args.b2.present()) {
    check_rank("b2", args.b2, 2, 3);
    g.alignment = std::min(g.alignment, alignment_of("b2", args.b2, b_row));
  }
  Epilogue& e = g.epilogue;
  if (args.bias.present()) e.bias = args.bias.rank == 2 ? BiasOver::m : BiasOver::n;
  e.c = args.c.present();
  e.residual = args.residual.present();
  e.row_scale = args.row_scale.present();
  e.column_scale = args.column_scale.present();
  e.activation = epilogue.activation;
  e.aux = epilogue.aux;
  if (e.aux == Auxiliary::none) check_absent("aux", "Epilogue(aux='store') or Epilogue(aux='gradient')", args.aux);
  e.gate = gate_of(args.b2, args.bias, args.bias2, epilogue.gate, &g.n);
  if (e.gate != Gate::none && !d_row)
    throw Unsupported(text("gate: a row-major result required with '", name(e.gate), "', got a column-major one"));
  return g;
}

GroupedGemmDescriptor describe(const GroupedGemmArguments& args, const Epilogue& epilogue) {
  using namespace gemm;
  check_rank("a", args.a, 2, 2);
  check_rank("b", args.b, 2, 3);
  GroupedGemmDescriptor g;
  g.over = args.b.rank == 3 ? GroupedOver::m : GroupedOver::k;
  const bool over_m = g.over == GroupedOver::m;
  if (over_m) {
    g.groups = args.b.shape[0];
  } else if (args.d.present()) {
    check_rank("d", args.d, 3, 3);
    g.groups = args.d.shape[0];
  } else {
    check_rank("offsets", args.offsets, 1, 1);
    g.groups = args.offsets.shape[0] - 1;
  }
  g.m = args.a.shape[0];
  g.k = args.a.shape[1];
  g.n = args.b.shape[args.b.rank - 1];
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.d = args.d.present() ? args.d.dtype : g.a;
  g.bias = args.bias.dtype;
  // Where both orders fit, that which kernels with groups read.
  const bool a_row = reads_row_major(args.a, over_m), b_row = reads_row_major(args.b);
  if (over_m && !a_row) throw Unsupported("operand a: row-major required; pass a contiguous copy");
  if (!over_m && a_row) {
    throw Unsupported(
        "operand a: column-major required with a 2-D b, whose groups are over k: pass x.T of a row-major x; for groups of "
        "rows b is [groups, k, n]");
  }
  if (!over_m && !b_row) throw Unsupported("operand b: row-major required where it is 2-D; pass a contiguous copy");
  g.layout = layout_of(a_row, b_row, true);
  g.alignment = std::min(alignment_of("a", args.a, a_row), alignment_of("b", args.b, b_row));
  if (args.b2.present()) {
    check_rank("b2", args.b2, 3, 3);
    g.alignment = std::min(g.alignment, alignment_of("b2", args.b2, b_row));
  }
  Epilogue& e = g.epilogue;
  e.bias = args.bias.present() ? BiasOver::n : BiasOver::none;
  e.row_scale = args.row_scale.present();
  e.column_scale = args.column_scale.present();
  e.activation = epilogue.activation;
  e.gate = gate_of(args.b2, args.bias, args.bias2, epilogue.gate, &g.n);
  return g;
}

}  // namespace cutplan
