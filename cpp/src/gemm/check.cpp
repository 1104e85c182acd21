#include "gemm/check.hpp"

#include <algorithm>
#include <utility>

#include "core/text.hpp"
#include "gemm/operands.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

/// D^T = B^T A^T: rows become columns, so that kernels need to write row-major matrices only.
void transpose(Problem& p) {
  std::swap(p.m, p.n);
  std::swap(p.a, p.b);
  std::swap(p.lda, p.ldb);
  std::swap(p.batch_a, p.batch_b);
  std::swap(p.row_scale, p.column_scale);
  p.bias_over_m = p.bias != nullptr && !p.bias_over_m;
}

}  // namespace

Problem check(const GemmDescriptor& g, Device device, int alignment, const GemmArguments& args) {
  const Epilogue& e = g.epilogue;
  const bool d_row = d_is_row_major(g.layout), over_m = e.bias == BiasOver::m;
  const int64_t halves = e.gate == Gate::interleaved ? 2 : 1;
  const Matrix a{"a", g.m, g.k, g.batch, a_is_row_major(g.layout), true, g.a};
  const Matrix b{"b", g.k, halves * g.n, g.batch, b_is_row_major(g.layout), true, g.b};
  const Matrix b2{"b2", g.k, g.n, g.batch, b.row_major, true, g.b};
  const bool aux_is_read = e.aux != Auxiliary::store;
  const Matrix c{"c", g.m, g.n, g.batch, d_row, true, g.c, 0, true};
  const Matrix residual{"residual", g.m, g.n, g.batch, d_row, true, g.residual, 0, true};
  const Matrix aux{"aux", g.m, g.n, g.batch, d_row, aux_is_read, g.aux, 0, aux_is_read};
  const Matrix d{"d", g.m, g.n, g.batch, d_row, false, g.d};
  const Vector bias{"bias", over_m ? g.m : halves * g.n, over_m, g.bias};
  const Vector bias2{"bias2", g.n, false, g.bias};
  const Vector row_scale{"row_scale", g.m, false, DType::f32};
  const Vector column_scale{"column_scale", g.n, false, DType::f32};

  check_scalar("alpha", args.alpha);
  check_scalar("beta", args.beta);
  const Placed pa = place(a, device, alignment, args.a);
  const Placed pb = place(b, device, alignment, args.b);
  const Placed pd = place(d, device, 1, args.d);
  Inputs inputs;
  inputs.add(a, pa);
  inputs.add(b, pb);
  // What is read where D is written, element by element, may be D itself.
  const auto add_unless_d = [&](const Matrix& x, const Placed& px) {
    if (!(px == pd && bits(x.dtype) == bits(g.d))) inputs.add(x, px);
  };

  Placed pb2, pc, presidual, paux, pbias, pbias2, prow, pcolumn;
  if (e.gate == Gate::separate) {
    pb2 = place(b2, device, alignment, args.b2);
    inputs.add(b2, pb2);
  } else {
    check_absent("b2", "gate='separate'", args.b2);
  }
  if (e.c) {
    pc = place(c, device, 1, args.c);
    add_unless_d(c, pc);
  } else {
    check_absent("c", "c=True", args.c);
    if (args.beta != 0)
      throw InvalidProblem(
          text("beta: must be 0 without operand c, got ", args.beta, "; select with Epilogue(c=True) and pass c"));
  }
  if (e.bias != BiasOver::none) {
    pbias = place(bias, device, args.bias);
    inputs.add(bias, pbias);
  } else {
    check_absent("bias", "bias=True", args.bias);
  }
  if (e.bias != BiasOver::none && e.gate == Gate::separate) {
    pbias2 = place(bias2, device, args.bias2);
    inputs.add(bias2, pbias2);
  } else {
    check_absent("bias2", "bias=True, gate='separate'", args.bias2);
  }
  if (e.residual) {
    presidual = place(residual, device, 1, args.residual);
    add_unless_d(residual, presidual);
  } else {
    check_absent("residual", "residual=True", args.residual);
  }
  if (e.row_scale) {
    prow = place(row_scale, device, args.row_scale);
    inputs.add(row_scale, prow);
  } else {
    check_absent("row_scale", "row_scale=True", args.row_scale);
  }
  if (e.column_scale) {
    pcolumn = place(column_scale, device, args.column_scale);
    inputs.add(column_scale, pcolumn);
  } else {
    check_absent("column_scale", "column_scale=True", args.column_scale);
  }
  if (e.aux != Auxiliary::none) {
    paux = place(aux, device, 1, args.aux);
    if (e.aux == Auxiliary::gradient) inputs.add(aux, paux);
  } else {
    check_absent("aux", "aux='store') or Epilogue(aux='gradient'", args.aux);
  }
  if (g.m > 0 && g.n > 0 && g.batch > 0) {
    check_writable("d", args.d);
    check_elements_apart("d", footprint(d, pd), args.d);
    inputs.check_apart(d, pd, "; only c and residual may be d itself");
    if (e.aux == Auxiliary::store) {
      inputs.add(d, pd);
      check_writable("aux", args.aux);
      check_elements_apart("aux", footprint(aux, paux), args.aux);
      inputs.check_apart(aux, paux, "; a stored aux needs memory of its own");
    }
  }

  Problem p{};
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.batch = g.batch;
  p.a = pa.data;
  p.b = pb.data;
  p.b2 = pb2.data;
  p.c = args.beta != 0 ? pc.data : nullptr;  // beta = 0 means that C is not read, whatever it holds
  p.bias = pbias.data;
  p.bias2 = pbias2.data;
  p.residual = presidual.data;
  p.d = const_cast<void*>(pd.data);
  p.aux = const_cast<void*>(paux.data);
  p.row_scale = static_cast<const float*>(prow.data);
  p.column_scale = static_cast<const float*>(pcolumn.data);
  p.lda = pa.ld;
  p.ldb = pb.ld;
  p.ldb2 = pb2.ld;
  p.ldc = pc.ld;
  p.ldd = pd.ld;
  p.ld_residual = presidual.ld;
  p.ld_aux = paux.ld;
  p.batch_a = pa.batch_stride;
  p.batch_b = pb.batch_stride;
  p.batch_b2 = pb2.batch_stride;
  p.batch_c = pc.batch_stride;
  p.batch_d = pd.batch_stride;
  p.batch_residual = presidual.batch_stride;
  p.batch_aux = paux.batch_stride;
  p.c_step = pc.step;
  p.residual_step = presidual.step;
  p.aux_step = paux.step;
  p.alpha = args.alpha;
  p.beta = args.beta;
  p.operand = g.a;
  p.d_type = g.d;
  p.c_type = g.c;
  p.bias_type = g.bias;
  p.residual_type = g.residual;
  p.aux_type = g.aux;
  p.activation = e.activation;
  p.auxiliary = e.aux;
  p.bias_over_m = over_m;
  set_gate(p, e.gate, b.row_major);
  if (!d_row) transpose(p);
  return p;
}

void check(const GemmDescriptor& g) {
  check_extent("m", g.m);
  check_extent("n", g.n);
  check_extent("k", g.k);
  check_extent("batch", g.batch);
  check_alignment(g.alignment);
  if (g.a == DType::none) throw InvalidProblem("a: an element type required, got none");
  const Epilogue& e = g.epilogue;
  if (e.aux == Auxiliary::gradient && e.activation == Activation::none)
    throw InvalidProblem("aux: an activation required with 'gradient', whose derivative it is, got activation 'none'");
  check_epilogue(g.a, e);
  if (e.gate != Gate::none && !d_is_row_major(g.layout)) {
    throw Unsupported(text("gate: a row-major d required with '", name(e.gate), "', got layout ", name(g.layout), "; ",
                           name(layout_of(a_is_row_major(g.layout), b_is_row_major(g.layout), true)), " works"));
  }
}

void check_epilogue(DType operand, const Epilogue& e) {
  if (e.gate != Gate::none) {
    const char* beside = e.c                        ? "c"
                         : e.aux != Auxiliary::none ? "aux"
                         : e.column_scale           ? "column_scale"
                         : e.bias == BiasOver::m    ? "a bias over m"
                                                    : nullptr;
    if (beside != nullptr) {
      throw Unsupported(text("gate: '", name(e.gate), "' goes with bias over n, row_scale, residual and an activation, got ",
                             beside, " beside it; leave it out, or compute the two products by plans without a gate"));
    }
  }
  if (operand == DType::f64 && (e.row_scale || e.column_scale)) {
    throw Unsupported(text(e.row_scale ? "row_scale" : "column_scale",
                           ": float32 factors go with operands of up to 32 bits, got float64 operands; use alpha, or scale ",
                           e.row_scale ? "a" : "b"));
  }
}

GemmDescriptor resolve(GemmDescriptor g) {
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = g.a;
  for (DType* type : {&g.c, &g.bias, &g.residual, &g.aux}) {
    if (*type == DType::none) *type = g.d;
  }
  const int64_t b_cols = g.epilogue.gate == Gate::interleaved ? 2 * g.n : g.n;
  g.alignment = resolve_alignment(g.alignment, std::min(bits(g.a), bits(g.b)), a_is_row_major(g.layout) ? g.k : g.m,
                                  b_is_row_major(g.layout) ? b_cols : g.k);
  return g;
}

GemmDescriptor canonical(GemmDescriptor g) {
  if (d_is_row_major(g.layout)) return g;
  g.layout = layout_of(!b_is_row_major(g.layout), !a_is_row_major(g.layout), true);
  std::swap(g.m, g.n);
  std::swap(g.a, g.b);
  Epilogue& e = g.epilogue;
  std::swap(e.row_scale, e.column_scale);
  if (e.bias != BiasOver::none) e.bias = e.bias == BiasOver::n ? BiasOver::m : BiasOver::n;
  return g;
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
  if (e.aux == Auxiliary::none) check_absent("aux", "aux='store') or Epilogue(aux='gradient'", args.aux);
  e.gate = gate_of(args.b2, epilogue.gate, &g.n);
  return g;
}

}  // namespace cutplan
