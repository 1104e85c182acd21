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

/// `p` lies along [batch, rows, columns], or [rows, columns] where `rank` is 2.
Matrix matrix(const Rule& rule, const Placed& p) {
  const int batch = rule.rank - 3, across = 2 * rule.rank - 3 - rule.run;
  Matrix m{p.data, p.strides[across], p.strides[rule.run], batch < 0 ? 0 : p.strides[batch], rule.type};
  // What is never followed may be any value: an aligned one.
  if (rule.extents[across] == 1) m.ld = (rule.extents[rule.run] + 63) / 64 * 64;
  if (rule.extents[rule.run] == 1) m.step = 1;
  return m;
}

/// Error bounds count one rounding of a factor: one that overflows float32, in which all but float64 is computed, or that has
/// fewer bits there, as what is not 0 and below 2^-149 has none, would break them.
void check_scalar(const char* scalar, double value, DType operand) {
  const bool wide = operand == DType::f64;
  const double rounded = wide ? value : static_cast<double>(static_cast<float>(value));
  if (std::isfinite(value) && std::abs(rounded - value) <= std::abs(value) * 0x1p-24) return;
  throw InvalidProblem(
      text(scalar, ": a finite number", wide ? "" : " that float32 holds to 24 bits", " required, got ", value));
}

/// Places by the member that they are of.
template <typename Descriptor, typename Arguments, std::size_t kSize>
struct Found {
  const Operand<Descriptor, Arguments> (&table)[kSize];
  const Operands& operands;
  const Places& places;

  Matrix matrix(TensorView Arguments::* member) const {
    return find(member, [](const Rule& rule, const Placed& p) { return gemm::matrix(rule, p); });
  }
  /// A vector along D's columns or, `over_rows`, along its rows: a matrix that is alike across. Groups have one each.
  Matrix vector(TensorView Arguments::* member, bool over_rows = false) const {
    return find(member, [over_rows](const Rule& rule, const Placed& p) {
      return over_rows ? Matrix{p.data, 1, 0, 0, rule.type}
                       : Matrix{p.data, 0, 1, rule.rank == 2 ? gemm::matrix(rule, p).ld : 0, rule.type};
    });
  }
  /// Packed weights have columns side by side, whatever that is in memory, and groups one after the other.
  Matrix factor_b(TensorView Arguments::* member, const WeightPacking& packing) const {
    if (!packing.format) return matrix(member);
    const std::size_t i = index_of(table, member);
    return find(member, [&](const Rule& rule, const Placed& p) {
      const std::uintptr_t past = reinterpret_cast<std::uintptr_t>(p.data) % weights::device_alignment;
      if (past != 0 && operands.device.type == DeviceType::cuda) {
        throw Misaligned(text("operand ", operands.rows.begin()[i].name, ": an address that is a multiple of ",
                              weights::device_alignment, " bytes required of packed weights, got ", p.data, ", ", past,
                              " past one; pass a copy"));
      }
      return Matrix{p.data, 0, 1, rule.rank == 2 ? p.strides[0] : 0, DType::u8};
    });
  }
  void* data(TensorView Arguments::* member) const { return places[index_of(table, member)].data; }

  /// Scales or zeros, A's along [batch, lines, groups], B's along [batch, groups, lines], of which there is what `of` says: a
  /// matrix of lines by groups. `has_batch`: whether the rule has that dimension.
  Matrix coding(TensorView Arguments::* member, std::optional<Granularity> of, bool of_a, bool has_batch) const {
    return find(member, [&](const Rule& rule, const Placed& p) {
      const int first = has_batch ? 1 : 0;
      Matrix m{p.data, 0, 0, has_batch ? p.strides[0] : 0, rule.type};
      if (of == Granularity::row || of == Granularity::column) m.ld = p.strides[first];
      if (of == Granularity::group || of == Granularity::block) {
        m.ld = p.strides[of_a ? first : first + 1];
        m.step = p.strides[of_a ? first + 1 : first];
      }
      return m;
    });
  }

 private:
  template <typename See>
  Matrix find(TensorView Arguments::* member, const See& see) const {
    const std::size_t i = index_of(table, member);
    const Rule& rule = operands.rows.begin()[i].rule;
    return rule.wanted() ? see(rule, places[i]) : Matrix{};
  }
};

/// What single and grouped products have in common.
template <typename Descriptor, typename Arguments, std::size_t kSize>
Problem start(const Found<Descriptor, Arguments, kSize>& at, const Descriptor& g, const Arguments& args) {
  using A = Arguments;
  check_scalar("alpha", args.alpha, g.a);
  if (g.d == DType::i32 && args.alpha != 1)
    throw InvalidProblem(text("alpha: 1 required with a d of int32, which holds sums alone, got ", args.alpha));
  Problem p{};
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.a = at.matrix(&A::a);
  p.weights = g.weights;
  if (g.weights.format) p.layout = weights::layout_of(g.weights, g.k);
  p.b = at.factor_b(&A::b, g.weights);
  p.b2 = at.factor_b(&A::b2, g.weights);
  p.d = at.matrix(&A::d);
  p.terms.alpha = args.alpha;
  p.terms.row_scale = at.vector(&A::row_scale, true);
  p.terms.column_scale = at.vector(&A::column_scale);
  p.terms.bias = at.vector(&A::bias, g.epilogue.bias == BiasOver::m);
  p.terms.bias2 = at.vector(&A::bias2);
  p.terms.activation = g.epilogue.activation;
  if (g.epilogue.out_scale) p.terms.out_scale = static_cast<const float*>(at.data(&A::out_scale));
  if (g.epilogue.amax) p.terms.amax = static_cast<float*>(at.data(&A::amax));
  return p;
}

/// Scales of one operand: a factor of D's rows or columns, or what changes along K.
void set_scale(const Matrix& scale, std::optional<Granularity> of, bool of_a, Matrix& factor, Coding& coding) {
  if (!of) return;
  if (is_factor_of_d(of)) {
    factor = {scale.data, of_a ? scale.ld : 0, of_a ? 0 : scale.ld, scale.batch_stride, scale.type};
  } else {
    coding.scale = scale;
    coding.shift = of == Granularity::block ? 7 : 0;
    static_assert(scale_group == 1 << 7);
  }
}

/// Sets what kernels see of a gate's B and bias; an interleaved one becomes two views: of every other column, every other bias.
void set_gate(Problem& p, Gate gate, bool b_row_major) {
  p.terms.gate = gate;
  if (gate != Gate::interleaved) return;
  const auto beyond = [](Matrix m, int64_t elements) {
    if (m.data != nullptr) m.data = static_cast<char*>(m.data) + elements * (bits(m.type) / 8);
    return m;
  };
  p.b2 = p.weights.format ? p.b : beyond(p.b, b_row_major ? 1 : p.b.ld);
  for (Matrix* b : {&p.b, &p.b2}) (b_row_major || p.weights.format ? b->step : b->ld) *= 2;
  p.terms.bias2 = beyond(p.terms.bias, 1);
  p.terms.bias.step = p.terms.bias2.step = 2;
  p.terms.column_scale2 = beyond(p.terms.column_scale, p.terms.column_scale.step);
  p.terms.column_scale.step = p.terms.column_scale2.step = 2 * p.terms.column_scale.step;
  p.of_b2 = p.of_b;  // of groups along k; blocks take in both products' columns
  if (p.of_b.scale.data == nullptr) return;
  if (p.of_b.shift == 0) {
    p.of_b2.scale = beyond(p.of_b.scale, p.of_b.scale.ld);
    p.of_b.scale.ld = p.of_b2.scale.ld = 2 * p.of_b.scale.ld;
  } else {
    p.of_b.shift = p.of_b2.shift = 6;
  }
}

/// The outputs after the first. Addresses are numbers here: that of a column 0 which is not there is no pointer to anything.
template <typename At>
void set_further_outputs(Problem& p, const GemmDescriptor& g, const At& at) {
  int64_t begin = g.out_columns[0];
  for (std::size_t i = 0; i < std::size(further_views) && g.out_columns[i + 1] != 0; begin += g.out_columns[++i]) {
    FurtherOutput& output = p.further[i];
    output = {begin, at.matrix(further_views[i])};
    output.d.data = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(output.d.data) -
                                            static_cast<std::uintptr_t>(begin * (bits(output.d.type) / 8)));
  }
}

/// D^T = B^T A^T: rows become columns, so that kernels need to write row-major matrices only.
void transpose(Problem& p) {
  std::swap(p.m, p.n);
  std::swap(p.a, p.b);
  std::swap(p.of_a, p.of_b);
  std::swap(p.terms.row_scale, p.terms.column_scale);
  for (Matrix* vector : {&p.terms.row_scale, &p.terms.column_scale, &p.terms.bias}) std::swap(vector->ld, vector->step);
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

/// How a tensor of scales or zeros goes with an operand of `rank` dimensions, of which `lines` are A's rows or B's columns. None
/// but a granularity of that operand is ever told: a shape that fits none, the rules refuse.
std::optional<Granularity> granularity_of(const TensorView& t, int rank, bool of_a, int64_t lines, int64_t k) {
  if (!t.present()) return std::nullopt;
  int64_t count = 1;
  for (int i = 0; i < t.rank; ++i) count *= t.shape[i];
  const Granularity whole_lines = of_a ? Granularity::row : Granularity::column;
  // One number for one line and one group is all that there is of either kind; so it is of the kind that kernels serve best.
  if (t.rank <= 1 && count == 1) return Granularity::tensor;
  if (t.rank < 2 || t.rank == rank - 1) return whole_lines;
  const int64_t across = t.shape[of_a ? t.rank - 2 : t.rank - 1], groups = t.shape[of_a ? t.rank - 1 : t.rank - 2];
  const bool blocks =
      !of_a && across != lines && across == ceil_div(lines, scale_group) && groups == ceil_div(k, scale_group);
  return blocks ? Granularity::block : Granularity::group;
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
  const Found<GemmDescriptor, A, std::size(gemm::operands)> at{gemm::operands, operands, places};
  Problem p = start(at, g, args);
  Terms& t = p.terms;
  p.batch = g.batch;
  set_further_outputs(p, g, at);
  t.beta = args.beta.value_or(g.epilogue.c ? 1 : 0);
  check_scalar("beta", t.beta, g.a);
  if (t.beta != 0 && !g.epilogue.c)
    throw InvalidProblem(text("beta: must be 0 without operand c, got ", t.beta, "; pass c, which the epilogue must have"));
  if (t.beta != 0) t.c = at.matrix(&A::c);  // beta = 0 means that C is not read, whatever it holds
  t.residual = at.matrix(&A::residual);
  t.aux = at.matrix(&A::aux);
  t.auxiliary = g.epilogue.aux;
  set_scale(at.coding(&A::a_scale, g.a_scale, true, g.a_scale != Granularity::tensor), g.a_scale, true, t.row_scale, p.of_a);
  set_scale(at.coding(&A::b_scale, g.b_scale, false, g.b_scale != Granularity::tensor), g.b_scale, false, t.column_scale,
            p.of_b);
  set_scale(at.coding(&A::b2_scale, g.b_scale, false, g.b_scale != Granularity::tensor), g.b_scale, false, t.column_scale2,
            p.of_b2);
  p.of_a.zero = at.coding(&A::a_zero, g.a_zero, true, g.a_zero != Granularity::tensor);
  p.of_b.zero = at.coding(&A::b_zero, g.b_zero, false, g.b_zero != Granularity::tensor);
  set_gate(p, g.epilogue.gate, b_is_row_major(g.layout));
  if (!d_is_row_major(g.layout)) transpose(p);
  return p;
}

Problem GroupedGemm::problem(const GroupedGemmDescriptor& g, const Selection<Kernel>& selection, const Operands& operands,
                             const GroupedGemmArguments& args, const Places& places) {
  const Found<GroupedGemmDescriptor, GroupedGemmArguments, std::size(grouped_operands)> at{grouped_operands, operands,
                                                                                           places};
  Problem p = start(at, g, args);
  p.batch = g.groups;
  p.groups = {static_cast<const std::int32_t*>(at.data(&GroupedGemmArguments::offsets)), g.over};
  if (selection.device.type == DeviceType::cpu) check_offsets(g, p.groups.offsets);
  using A = GroupedGemmArguments;
  set_scale(at.coding(&A::a_scale, g.a_scale, true, false), g.a_scale, true, p.terms.row_scale, p.of_a);
  set_scale(at.coding(&A::b_scale, g.b_scale, false, true), g.b_scale, false, p.terms.column_scale, p.of_b);
  set_scale(at.coding(&A::b2_scale, g.b_scale, false, true), g.b_scale, false, p.terms.column_scale2, p.of_b2);
  set_gate(p, g.epilogue.gate, b_is_row_major(g.layout));
  return p;
}

}  // namespace cutplan::gemm

namespace cutplan {

GemmDescriptor describe(const GemmArguments& args, const Epilogue& epilogue, const WeightPacking& weights,
                        const OutColumns& out_columns) {
  using namespace gemm;
  check_rank("a", args.a, 2, 3);
  const bool is_packed = weights.format.has_value();
  check_rank("b", args.b, is_packed ? 1 : 2, is_packed ? 1 : 3);
  std::pair<const char*, const TensorView*> outputs[most_outputs] = {{"d", &args.d}};
  for (std::size_t i = 0; i < std::size(further_views); ++i) outputs[i + 1] = {further_names[i], &(args.*further_views[i])};
  GemmDescriptor g;
  g.out_columns = out_columns;
  const char* missing = nullptr;
  for (const auto& [operand, t] : outputs) {
    if (!t->present()) {
      missing = missing == nullptr ? operand : missing;
      continue;
    }
    check_rank(operand, *t, 2, 3);
    if (missing != nullptr)
      throw MissingOperand(
          text("operand ", missing, ": required before operand ", operand, "; pass outputs in their order"));
  }
  if (args.d2.present() && !has_several_outputs(g)) {
    for (std::size_t i = 0; i < std::size(outputs) && outputs[i].second->present(); ++i) {
      const auto& [operand, t] = outputs[i];
      g.out_columns[i] = t->shape[t->rank - 1];
      if (g.out_columns[i] == 0)
        throw ShapeMismatch(
            text("operand ", operand, ": at least one column required of several outputs, got none; leave it out"));
    }
  }
  g.m = args.a.shape[args.a.rank - 2];
  g.k = args.a.shape[args.a.rank - 1];
  g.n = is_packed ? weights.n : args.b.shape[args.b.rank - 1];
  g.weights = weights;
  const auto batch_of = [](const TensorView& t) { return t.present() && t.rank == 3 ? t.shape[0] : 1; };
  // A product of two shared matrices can have a batch only by what is done to it.
  for (const TensorView* t : {&args.a, &args.b, &args.d}) {
    if (g.batch == 1) g.batch = batch_of(*t);
  }
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.c = args.c.dtype;
  g.bias = args.bias.dtype;
  g.residual = args.residual.dtype;
  g.aux = args.aux.dtype;
  for (std::size_t i = 0; i < std::size(further_views); ++i) g.*further_types[i] = (args.*further_views[i]).dtype;
  // Where both orders fit, that which kernels with a gate read.
  const bool a_row = reads_row_major(args.a),
             b_row = !is_packed && reads_row_major(args.b, epilogue.gate != Gate::interleaved);
  for (const auto& [operand, t] : outputs) {
    if (has_several_outputs(g) && t->present() && !reads_row_major(*t)) {
      throw Unsupported(
          text("operand ", operand,
               ": row-major required of several outputs, got a column-major one; pass one that is contiguous"));
    }
  }
  // Where both orders fit D, what has to be ordered as D is decides.
  bool d_row = true;
  const char* column_major = nullptr;
  for (const auto& [operand, t] :
       {std::pair("aux", &args.aux), {"residual", &args.residual}, {"c", &args.c}, {"d", &args.d}}) {
    const bool is_written = t == &args.d || (t == &args.aux && epilogue.aux == Auxiliary::store);
    if (t->present() && t->rank >= 2) d_row = reads_row_major(*t, d_row, !is_written);
    column_major = d_row ? nullptr : column_major == nullptr ? operand : column_major;
  }
  g.layout = layout_of(a_row, b_row, d_row);
  g.alignment = alignment_of("a", args.a, a_row);
  if (is_packed) {
    if (args.b2.present()) check_rank("b2", args.b2, 1, 1);
  } else {
    g.alignment = std::min(g.alignment, alignment_of("b", args.b, b_row));
  }
  if (args.b2.present() && !is_packed) {
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
  if (e.aux == Auxiliary::none && args.aux.present())
    throw MissingOperand("operand aux: aux_mode required beside it, which says what it is for: pass 'store' or 'gradient'");
  e.out_scale = args.out_scale.present();
  e.amax = args.amax.present();
  g.a_scale = granularity_of(args.a_scale, args.a.rank, true, g.m, g.k);
  g.b_scale = granularity_of(args.b_scale, args.b.rank, false, g.n, g.k);
  g.a_zero = granularity_of(args.a_zero, args.a.rank, true, g.m, g.k);
  g.b_zero = granularity_of(args.b_zero, args.b.rank, false, g.n, g.k);
  e.gate = gate_of(args.b2, args.bias, args.bias2, epilogue.gate, &g.n);
  g.d = args.d.present() ? args.d.dtype : default_result(g);
  if (e.gate != Gate::none && !d_row) {
    throw Unsupported(text("operand ", column_major, ": row-major required with gate '", name(e.gate),
                           "', got a column-major one; pass one that is contiguous"));
  }
  if (has_several_outputs(g) && !d_row) {
    throw Unsupported(
        text("operand ", column_major,
             ": row-major required with several outputs, got a column-major one; pass one that is contiguous"));
  }
  return g;
}

GroupedGemmDescriptor describe(const GroupedGemmArguments& args, const Epilogue& epilogue, const WeightPacking& weights) {
  using namespace gemm;
  const bool is_packed = weights.format.has_value();
  check_rank("a", args.a, 2, 2);
  check_rank("b", args.b, 2, is_packed ? 2 : 3);
  GroupedGemmDescriptor g;
  g.over = is_packed || args.b.rank == 3 ? GroupedOver::m : GroupedOver::k;
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
  g.n = is_packed ? weights.n : args.b.shape[args.b.rank - 1];
  g.weights = weights;
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.bias = args.bias.dtype;
  // Where both orders fit, that which kernels with groups, and with a gate, read.
  const bool a_row = reads_row_major(args.a, over_m),
             b_row = !is_packed && reads_row_major(args.b, epilogue.gate != Gate::interleaved);
  if (over_m && !a_row) throw Unsupported("operand a: row-major required; pass a contiguous copy");
  if (!over_m && a_row) {
    throw Unsupported(
        "operand a: column-major required with a 2-D b, whose groups are over k: pass x.T of a row-major x; for groups of "
        "rows b is [groups, k, n]");
  }
  if (!over_m && !b_row) throw Unsupported("operand b: row-major required where it is 2-D; pass a contiguous copy");
  g.layout = layout_of(a_row, b_row, true);
  g.alignment = alignment_of("a", args.a, a_row);
  if (!is_packed) g.alignment = std::min(g.alignment, alignment_of("b", args.b, b_row));
  if (is_packed && args.b2.present()) check_rank("b2", args.b2, 2, 2);
  if (args.b2.present() && !is_packed) {
    check_rank("b2", args.b2, 3, 3);
    g.alignment = std::min(g.alignment, alignment_of("b2", args.b2, b_row));
  }
  Epilogue& e = g.epilogue;
  e.bias = args.bias.present() ? BiasOver::n : BiasOver::none;
  e.row_scale = args.row_scale.present();
  e.column_scale = args.column_scale.present();
  e.activation = epilogue.activation;
  e.out_scale = args.out_scale.present();
  e.amax = args.amax.present();
  g.a_scale = granularity_of(args.a_scale, args.a.rank, true, g.m, g.k);
  if (args.b_scale.present()) {  // the first dimension of all is the groups'
    const bool numbers = args.b_scale.rank == 1;
    g.b_scale = numbers ? Granularity::tensor : granularity_of(args.b_scale, args.b.rank, false, g.n, g.k);
  }
  e.gate = gate_of(args.b2, args.bias, args.bias2, epilogue.gate, &g.n);
  g.d = args.d.present() ? args.d.dtype : default_result(g);
  return g;
}

}  // namespace cutplan
