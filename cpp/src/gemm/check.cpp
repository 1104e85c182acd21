#include "gemm/check.hpp"

#include <algorithm>
#include <cmath>

#include "core/operand.hpp"
#include "core/text.hpp"

namespace cutplan::gemm {
namespace {

using std::int64_t;

constexpr bool a_is_row_major(GemmLayout l) { return l == GemmLayout::rcr || l == GemmLayout::rrr; }
constexpr bool b_is_row_major(GemmLayout l) { return l == GemmLayout::rrr || l == GemmLayout::crr; }

/// What the descriptor asks of one matrix operand.
struct Expected {
  const char* operand;
  int64_t rows, cols, batch;
  bool row_major;
  bool shareable;  // may be given once for the whole batch
  DType dtype;
};

/// How the memory of one matrix operand lies.
struct Placed {
  const void* data = nullptr;
  int64_t ld = 0, batch_stride = 0;
};

[[noreturn, gnu::cold]] void refuse_shape(const Expected& e, const TensorView& t) {
  const bool batched = e.batch != 1;
  throw ShapeMismatch(text("operand ", e.operand, ": shape [", batched ? std::to_string(e.batch) + ", " : "", e.rows, ", ",
                           e.cols, "] required",
                           batched && e.shareable ? " (or without the batch dimension, to share it)" : "", ", got ",
                           extents(t.shape, t.rank), t.rank == 2 || t.rank == 3 ? "" : ": rank 2 or 3 required"));
}

[[noreturn, gnu::cold]] void refuse_layout(const Expected& e, const TensorView& t, const char* why) {
  throw LayoutMismatch(
      text("operand ", e.operand, ": ",
           e.row_major ? "row-major (last dimension contiguous)" : "column-major (first dimension contiguous)",
           " with strides >= 0 required by the plan's layout, got ", describe(t), ": ", why,
           "; select the layout that its strides have, or pass a contiguous copy"));
}

Placed place(const Expected& e, Device device, int alignment, const TensorView& t) {
  check_given(e.operand, t);
  check_element_type(e.operand, e.dtype, t);
  check_device(e.operand, device, t);
  int first = 0;
  Placed p;
  p.data = t.data;
  if (t.rank == 3) {
    first = 1;
    if (t.shape[0] != e.batch && !(e.shareable && t.shape[0] == 1)) refuse_shape(e, t);
    if (t.shape[0] > 1) p.batch_stride = t.strides[0];
  } else if (t.rank != 2 || (e.batch != 1 && !e.shareable)) {
    refuse_shape(e, t);
  }
  if (t.shape[first] != e.rows || t.shape[first + 1] != e.cols) refuse_shape(e, t);

  // `rows` are the contiguous runs: rows of a row-major matrix, columns of a column-major one.
  const int run = first + (e.row_major ? 1 : 0), step = first + (e.row_major ? 0 : 1);
  const int64_t run_length = t.shape[run], runs = t.shape[step];
  if (run_length == 0 || runs == 0 || e.batch == 0) return p;
  if (run_length > 1 && t.strides[run] != 1) refuse_layout(e, t, "the elements of a run are not adjacent");
  p.ld = t.strides[step];
  if (runs == 1) p.ld = (run_length + 63) / 64 * 64;  // never followed: any aligned value will do
  if (p.ld < 0 || p.batch_stride < 0) refuse_layout(e, t, "a stride is negative");
  if (p.data == nullptr) refuse_null(e.operand, t);
  if (alignment > 1) {
    const auto bytes = static_cast<std::uint64_t>(bits(e.dtype) / 8);
    const auto address = reinterpret_cast<std::uintptr_t>(p.data);
    const std::uint64_t all =
        address | static_cast<std::uint64_t>(p.ld) * bytes | static_cast<std::uint64_t>(p.batch_stride) * bytes;
    if (all & static_cast<std::uint64_t>(alignment - 1)) {
      throw Misaligned(text("operand ", e.operand, ": address, leading dimension and batch stride must be multiples of ",
                            alignment, " bytes for this plan's kernel, got address ", p.data, " (", address % 16,
                            " past a multiple of 16), leading dimension ", p.ld, " and batch stride ", p.batch_stride,
                            " elements of ", bytes, " bytes; select with alignment=", bytes,
                            " for a kernel that reads any alignment"));
    }
  }
  return p;
}

Footprint footprint(const Expected& e, const Placed& p) {
  const int64_t bytes = bits(e.dtype) / 8;
  Footprint f;
  f.begin = reinterpret_cast<std::uintptr_t>(p.data);
  f.run = (e.row_major ? e.cols : e.rows) * bytes;
  f.repeat(e.row_major ? e.rows : e.cols, p.ld * bytes);
  f.repeat(e.batch, p.batch_stride * bytes);
  return f;
}

void check_apart(const Expected& d, const Placed& d_place, const Expected& input, const Placed& input_place) {
  if (input.rows == 0 || input.cols == 0) return;
  check_apart(d.operand, footprint(d, d_place), input.operand, footprint(input, input_place), "; only c may be d itself");
}

void check_scalar(const char* scalar, double value) {
  if (!std::isfinite(value)) throw InvalidProblem(text(scalar, ": a finite number required, got ", value));
}

void check_absent(const char* operand, const char* field, const TensorView& t) {
  if (t.present()) {
    throw MissingOperand(
        text("operand ", operand, ": given, but the plan was selected without it; select with Epilogue(", field, "=True)"));
  }
}

}  // namespace

Problem check(const GemmDescriptor& g, Device device, int alignment, const GemmArguments& args) {
  const Expected a{"a", g.m, g.k, g.batch, a_is_row_major(g.layout), true, g.a};
  const Expected b{"b", g.k, g.n, g.batch, b_is_row_major(g.layout), true, g.b};
  const Expected c{"c", g.m, g.n, g.batch, true, true, g.c};
  const Expected d{"d", g.m, g.n, g.batch, true, false, g.d};
  const Expected bias{"bias", 1, g.n, 1, true, true, g.bias};

  check_scalar("alpha", args.alpha);
  check_scalar("beta", args.beta);
  const Placed pa = place(a, device, alignment, args.a);
  const Placed pb = place(b, device, alignment, args.b);
  const Placed pd = place(d, device, 1, args.d);
  Placed pc, pbias;
  if (g.epilogue.c) {
    pc = place(c, device, 1, args.c);
  } else {
    check_absent("c", "c", args.c);
    if (args.beta != 0)
      throw InvalidProblem(
          text("beta: must be 0 without operand c, got ", args.beta, "; select with Epilogue(c=True) and pass c"));
  }
  if (g.epilogue.bias) {
    const TensorView& t = args.bias;
    check_given("bias", t);
    check_element_type("bias", g.bias, t);
    check_device("bias", device, t);
    if (t.rank != 1 || t.shape[0] != g.n) {
      throw ShapeMismatch(text("operand bias: shape [", g.n, "] required, got ", extents(t.shape, t.rank)));
    }
    if (g.n > 1 && t.strides[0] != 1)
      throw LayoutMismatch(text("operand bias: contiguous required, got stride ", t.strides[0], "; pass a contiguous copy"));
    pbias.data = t.data;
  } else {
    check_absent("bias", "bias", args.bias);
  }
  if (g.m > 0 && g.n > 0 && g.batch > 0) {
    check_writable("d", args.d);
    check_elements_apart("d", footprint(d, pd), args.d);
    check_apart(d, pd, a, pa);
    check_apart(d, pd, b, pb);
    if (g.epilogue.bias) check_apart(d, pd, bias, pbias);
    const bool in_place =
        pc.data == pd.data && pc.ld == pd.ld && pc.batch_stride == pd.batch_stride && bits(g.c) == bits(g.d);
    if (g.epilogue.c && !in_place) check_apart(d, pd, c, pc);
  }

  Problem p;
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.batch = g.batch;
  p.a = pa.data;
  p.b = pb.data;
  p.c = args.beta != 0 ? pc.data : nullptr;  // beta = 0 means that C is not read, whatever it holds
  p.d = const_cast<void*>(pd.data);
  p.bias = pbias.data;
  p.lda = pa.ld;
  p.ldb = pb.ld;
  p.ldc = pc.ld;
  p.ldd = pd.ld;
  p.batch_a = pa.batch_stride;
  p.batch_b = pb.batch_stride;
  p.batch_c = pc.batch_stride;
  p.batch_d = pd.batch_stride;
  p.alpha = args.alpha;
  p.beta = args.beta;
  p.operand = g.a;
  p.d_type = g.d;
  p.c_type = g.c;
  p.bias_type = g.bias;
  p.activation = g.epilogue.activation;
  return p;
}

void check(const GemmDescriptor& g) {
  const struct {
    const char* name;
    int64_t value;
  } extents[] = {{"m", g.m}, {"n", g.n}, {"k", g.k}, {"batch", g.batch}};
  for (const auto& e : extents) {
    if (e.value < 0) throw InvalidProblem(text(e.name, ": an extent >= 0 required, got ", e.value));
    if (e.value > (int64_t{1} << 40)) throw InvalidProblem(text(e.name, ": an extent <= 2^40 required, got ", e.value));
  }
  if (g.alignment < 0 || (g.alignment & (g.alignment - 1))) {
    throw InvalidProblem(text("alignment: a power of two of bytes (or 0 for the extents' own) required, got ", g.alignment));
  }
  if (g.a == DType::none) throw InvalidProblem("a: an element type required, got none");
}

GemmDescriptor resolve(GemmDescriptor g) {
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = g.a;
  if (g.c == DType::none) g.c = g.d;
  if (g.bias == DType::none) g.bias = g.d;
  const int element = std::max(1, bits(g.a) / 8);
  if (g.alignment == 0) {
    const int64_t a_run = a_is_row_major(g.layout) ? g.k : g.m, b_run = b_is_row_major(g.layout) ? g.n : g.k;
    g.alignment = 16;
    while (g.alignment > element && ((a_run | b_run) * element) % g.alignment != 0) g.alignment /= 2;
  }
  if (g.alignment < element)
    throw InvalidProblem(
        text("alignment: at least ", element, " bytes, one ", name(g.a), " element, required, got ", g.alignment));
  return g;
}

}  // namespace cutplan::gemm

namespace cutplan {
namespace {

using gemm::Problem;

/// Row-major unless only the column order fits.
bool reads_row_major(const TensorView& t) {
  const int rows = t.rank - 2, cols = t.rank - 1;
  if (t.shape[cols] <= 1 || t.strides[cols] == 1) return true;
  return !(t.shape[rows] <= 1 || t.strides[rows] == 1);
}

/// Largest power of two of bytes, 16 at most, that divides the address and every stride that a kernel follows.
int alignment_of(const TensorView& t, bool row_major) {
  const int step = t.rank - (row_major ? 2 : 1);
  std::uint64_t all = reinterpret_cast<std::uintptr_t>(t.data) | 16;
  const auto bytes = static_cast<std::uint64_t>(bits(t.dtype) / 8);
  if (t.shape[step] > 1) all |= static_cast<std::uint64_t>(t.strides[step]) * bytes;
  if (t.rank == 3 && t.shape[0] > 1) all |= static_cast<std::uint64_t>(t.strides[0]) * bytes;
  return static_cast<int>(all & (~all + 1));
}

}  // namespace

GemmDescriptor describe(const GemmArguments& args, Activation activation) {
  const struct {
    const char* name;
    const TensorView& view;
  } matrices[] = {{"a", args.a}, {"b", args.b}};
  for (const auto& x : matrices) {
    if (!x.view.present()) throw MissingOperand(text("operand ", x.name, ": not given"));
    if (x.view.rank != 2 && x.view.rank != 3) {
      throw ShapeMismatch(text("operand ", x.name, ": rank 2 or 3 required, got ", extents(x.view.shape, x.view.rank)));
    }
  }
  GemmDescriptor g;
  g.m = args.a.shape[args.a.rank - 2];
  g.k = args.a.shape[args.a.rank - 1];
  g.n = args.b.shape[args.b.rank - 1];
  g.batch = std::max(args.a.rank == 3 ? args.a.shape[0] : 1, args.b.rank == 3 ? args.b.shape[0] : 1);
  if ((args.a.rank == 3 && args.a.shape[0] == 0) || (args.b.rank == 3 && args.b.shape[0] == 0)) g.batch = 0;
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.d = args.d.present() ? args.d.dtype : g.a;
  g.c = args.c.dtype;
  g.bias = args.bias.dtype;
  const bool a_row = reads_row_major(args.a), b_row = reads_row_major(args.b);
  g.layout = a_row ? (b_row ? GemmLayout::rrr : GemmLayout::rcr) : (b_row ? GemmLayout::crr : GemmLayout::ccr);
  g.alignment = std::min(alignment_of(args.a, a_row), alignment_of(args.b, b_row));
  g.epilogue.bias = args.bias.present();
  g.epilogue.c = args.c.present();
  g.epilogue.activation = activation;
  return g;
}

}  // namespace cutplan
