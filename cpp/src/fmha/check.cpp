#include "fmha/check.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/operand.hpp"
#include "core/text.hpp"
#include "fmha/score.hpp"

namespace cutplan::fmha {
namespace {

using std::int64_t;

constexpr int64_t largest_dim = 256;

/// What scores are computed in.
const char* arithmetic(DType operand) { return operand == DType::f64 ? "float64" : "float32"; }

/// Whether a scalar is finite in the arithmetic of these operands.
bool is_number(double x, DType operand) {
  return std::isfinite(x) && (operand == DType::f64 || std::abs(x) <= std::numeric_limits<float>::max());
}

/// Where the dimensions of Q, K, V, O and their gradients are; batch is -1 where sequences are packed.
struct Axes {
  int rank, batch, head, row, dim;

  explicit Axes(const FmhaDescriptor& g) {
    const int first = g.packed ? 0 : 1;
    const bool heads_first = g.layout == FmhaLayout::bhsd;
    rank = first + 3;
    batch = first - 1;
    head = first + (heads_first ? 0 : 1);
    row = first + (heads_first ? 1 : 0);
    dim = first + 2;
  }
};

/// What the descriptor asks of one operand that has rows: Q, K, V, O or a gradient of theirs.
struct Rows {
  const char* operand;
  int64_t heads, rows, dim;
  DType dtype;
};

/// How the memory of an operand with rows lies.
struct Placed {
  void* data = nullptr;
  Strides strides{0, 0, 0};
};

[[noreturn, gnu::cold]] void refuse_rows_shape(const FmhaDescriptor& g, const Rows& e, const TensorView& t) {
  const Axes axes(g);
  int64_t shape[4];
  if (axes.batch >= 0) shape[axes.batch] = g.batch;
  shape[axes.head] = e.heads;
  shape[axes.row] = e.rows;
  shape[axes.dim] = e.dim;
  const char* order = g.packed ? (g.layout == FmhaLayout::bhsd ? "heads, rows of all sequences, head dimension"
                                                               : "rows of all sequences, heads, head dimension")
                               : (g.layout == FmhaLayout::bhsd ? "batch, heads, rows, head dimension"
                                                               : "batch, rows, heads, head dimension");
  throw ShapeMismatch(text("operand ", e.operand, ": shape ", extents(shape, axes.rank), " (", order,
                           ") required by the descriptor, got ", extents(t.shape, t.rank)));
}

[[noreturn, gnu::cold]] void refuse_gaps(const char* operand, const TensorView& t) {
  throw LayoutMismatch(text("operand ", operand, ": a contiguous last dimension required, got stride ",
                            t.strides[t.rank - 1], " (", describe(t), "); pass one that is contiguous"));
}

[[noreturn, gnu::cold]] void refuse_shape(const char* operand, const std::string& required, const TensorView& t) {
  throw ShapeMismatch(text("operand ", operand, ": shape ", required, " required, got ", extents(t.shape, t.rank)));
}

[[noreturn, gnu::cold]] void refuse_negative(const char* operand, const TensorView& t) {
  throw LayoutMismatch(
      text("operand ", operand, ": strides >= 0 required, got ", describe(t), "; pass one that is contiguous"));
}

[[noreturn, gnu::cold]] void refuse_strided(const char* operand, const TensorView& t) {
  throw LayoutMismatch(
      text("operand ", operand, ": contiguous required, got ", describe(t), "; pass one that is contiguous"));
}

[[noreturn, gnu::cold]] void refuse_side_type(const char* operand, DType type, const TensorView& t) {
  throw DTypeMismatch(text("operand ", operand, ": dtype float32", type == DType::f32 ? "" : " or ",
                           type == DType::f32 ? "" : name(type), " required beside ", name(type), " operands, got ",
                           name(t.dtype), "; cutplan never casts: convert it"));
}

/// A float mask is most often one that is added. Converted to bool it would hide what it shows.
[[noreturn, gnu::cold]] void refuse_mask_type(const char* operand, const TensorView& t) {
  const bool is_float = t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f32 || t.dtype == DType::f64;
  throw DTypeMismatch(text("operand ", operand, ": dtype bool required (true: the key takes part), got ", name(t.dtype),
                           is_float
                               ? "; an additive mask (0 and -inf) goes to bias=, as it is; one of ones and zeros has to be "
                                 "converted to bool"
                               : "; cutplan never casts: convert it"));
}

[[noreturn, gnu::cold]] void refuse_given(const char* operand, const char* option) {
  throw MissingOperand(text("operand ", operand, ": given, but the plan was selected without it; select with ", option));
}

/// Operands of one call as they are checked: each is measured once, and outputs are held against all others at the end.
class Call {
 public:
  Call(const FmhaDescriptor& descriptor, Device device) : g_(descriptor), axes_(descriptor), device_(device) {}

  Placed rows(const Rows& e, const TensorView& t, bool written) {
    check_operand(e.operand, e.dtype, t);
    if (t.rank != axes_.rank || (axes_.batch >= 0 && t.shape[axes_.batch] != g_.batch) || t.shape[axes_.head] != e.heads ||
        t.shape[axes_.row] != e.rows || t.shape[axes_.dim] != e.dim) {
      refuse_rows_shape(g_, e, t);
    }
    Placed p;
    p.data = t.data;
    if (e.heads == 0 || e.rows == 0 || (axes_.batch >= 0 && g_.batch == 0)) return p;
    if (e.dim > 1 && t.strides[axes_.dim] != 1) refuse_gaps(e.operand, t);
    if (axes_.batch >= 0 && g_.batch > 1) p.strides.batch = t.strides[axes_.batch];
    if (e.heads > 1) p.strides.head = t.strides[axes_.head];
    if (e.rows > 1) p.strides.row = t.strides[axes_.row];
    if (p.strides.batch < 0 || p.strides.head < 0 || p.strides.row < 0) refuse_negative(e.operand, t);
    if (p.data == nullptr) refuse_null(e.operand, t);
    const int64_t bytes = bits(e.dtype) / 8;
    units_ |= reinterpret_cast<std::uintptr_t>(p.data) |
              static_cast<std::uint64_t>((e.dim | p.strides.batch | p.strides.head | p.strides.row) * bytes);
    Footprint f = footprint(t, e.dim * bytes);
    if (axes_.batch >= 0) f.repeat(g_.batch, p.strides.batch * bytes);
    f.repeat(e.heads, p.strides.head * bytes);
    f.repeat(e.rows, p.strides.row * bytes);
    touch(e.operand, f, t, written);
    return p;
  }

  /// LSE: rows are adjacent. Strides of batch and head come back through `batch` and `head`.
  float* lse(const TensorView& t, bool written, int64_t& batch, int64_t& head) {
    check_side("lse", DType::f32, t);
    const int first = g_.packed ? 0 : 1;
    if (t.rank != first + 2 || (first == 1 && t.shape[0] != g_.batch) || t.shape[first] != g_.heads ||
        t.shape[first + 1] != g_.seq_q) {
      const int64_t shape[] = {g_.batch, g_.heads, g_.seq_q};
      refuse_shape("lse", extents(shape + 1 - first, first + 2), t);
    }
    batch = head = 0;
    auto* data = static_cast<float*>(t.data);
    if (g_.heads == 0 || g_.seq_q == 0 || (first == 1 && g_.batch == 0)) return data;
    if (g_.seq_q > 1 && t.strides[first + 1] != 1) refuse_gaps("lse", t);
    if (first == 1 && g_.batch > 1) batch = t.strides[0];
    if (g_.heads > 1) head = t.strides[first];
    if (batch < 0 || head < 0) refuse_negative("lse", t);
    if (data == nullptr) refuse_null("lse", t);
    Footprint f = footprint(t, g_.seq_q * 4);
    if (first == 1) f.repeat(g_.batch, batch * 4);
    f.repeat(g_.heads, head * 4);
    touch("lse", f, t, written);
    return data;
  }

  /// Bias, mask and the bias's gradient: any shape that broadcasts to [B, H, Sq, Sk].
  void* broadcast(const char* operand, DType dtype, const TensorView& t, bool written, Broadcast& strides) {
    if (dtype == DType::boolean) {
      if (t.present() && t.dtype != dtype) refuse_mask_type(operand, t);
      check_side(operand, dtype, t);
    } else {
      check_operand(operand, dtype, t);
    }
    const int64_t full[] = {g_.batch, g_.heads, g_.seq_q, g_.seq_k};
    int64_t step[4] = {0, 0, 0, 0};
    bool fits = t.rank <= 4, empty = false;
    Footprint f = footprint(t, bits(dtype) / 8);
    for (int i = 0; fits && i < t.rank; ++i) {
      const int64_t extent = t.shape[i];
      const int axis = 4 - t.rank + i;
      fits = extent == 1 || extent == full[axis];
      empty = empty || extent == 0;
      if (extent <= 1) continue;
      step[axis] = t.strides[i];
      if (step[axis] < 0) refuse_negative(operand, t);
      f.repeat(extent, step[axis] * f.run);
    }
    if (!fits) refuse_shape(operand, text("that broadcasts to ", extents(full, 4), " (batch, heads, queries, keys)"), t);
    strides = {step[0], step[1], step[2], step[3]};
    if (empty) return t.data;
    if (t.data == nullptr) refuse_null(operand, t);
    touch(operand, f, t, written);
    return t.data;
  }

  /// Slopes or their gradient: [H] or [B, H]. `batched` says which; strides are 0 where there is nothing to step over.
  void* slopes(const char* operand, const TensorView& t, bool written, bool& batched, int64_t& batch, int64_t& head) {
    check_wide(operand, t);
    batched = t.rank == 2;
    if ((t.rank != 1 && t.rank != 2) || t.shape[t.rank - 1] != g_.heads || (batched && t.shape[0] != g_.batch))
      refuse_shape(operand, text("[", g_.heads, "] or [", g_.batch, ", ", g_.heads, "] (heads, or batch and heads)"), t);
    batch = batched && g_.batch > 1 ? t.strides[0] : 0;
    head = g_.heads > 1 ? t.strides[t.rank - 1] : 0;
    if (g_.heads == 0 || (batched && g_.batch == 0)) return t.data;
    if (batch < 0 || head < 0) refuse_negative(operand, t);
    if (t.data == nullptr) refuse_null(operand, t);
    const int64_t bytes = bits(t.dtype) / 8;
    Footprint f = footprint(t, bytes);
    if (batched) f.repeat(g_.batch, batch * bytes);
    f.repeat(g_.heads, head * bytes);
    touch(operand, f, t, written);
    return t.data;
  }

  /// The sink or its gradient: [H].
  void* sink(const char* operand, const TensorView& t, bool written, int64_t& head) {
    check_wide(operand, t);
    if (t.rank != 1 || t.shape[0] != g_.heads) refuse_shape(operand, text("[", g_.heads, "] (heads)"), t);
    head = g_.heads > 1 ? t.strides[0] : 0;
    if (g_.heads == 0) return t.data;
    if (head < 0) refuse_negative(operand, t);
    if (t.data == nullptr) refuse_null(operand, t);
    const int64_t bytes = bits(t.dtype) / 8;
    Footprint f = footprint(t, bytes);
    f.repeat(g_.heads, head * bytes);
    touch(operand, f, t, written);
    return t.data;
  }

  /// A contiguous vector of integers.
  template <typename Integer>
  const Integer* integers(const char* operand, DType dtype, int64_t count, const char* meaning, const TensorView& t) {
    check_side(operand, dtype, t);
    if (t.rank != 1 || t.shape[0] != count) refuse_shape(operand, text("[", count, "] (", meaning, ")"), t);
    if (count == 0) return static_cast<const Integer*>(t.data);
    if (count > 1 && t.strides[0] != 1) refuse_strided(operand, t);
    if (t.data == nullptr) refuse_null(operand, t);
    touch(operand, footprint(t, count * static_cast<int64_t>(sizeof(Integer))), t, false);
    return static_cast<const Integer*>(t.data);
  }

  void finish() const {
    for (const Touched& output : outputs_) {
      for (const Touched& input : inputs_) check_apart(output.operand, output.memory, input.operand, input.memory, "");
      for (const Touched* other = outputs_.begin(); other != &output; ++other)
        check_apart(output.operand, output.memory, other->operand, other->memory, "");
    }
  }

  /// Of all operands with rows so far: whether head dimensions, addresses and strides are multiples of 16 bytes.
  bool vectorised() const { return units_ % 16 == 0; }

 private:
  struct Touched {
    const char* operand;
    Footprint memory;
  };

  void check_operand(const char* operand, DType dtype, const TensorView& t) const {
    check_given(operand, t);
    check_element_type(operand, dtype, t);
    check_place(operand, t);
  }

  /// Operands that may come in float32 or in the operands' own type, whatever the descriptor.
  void check_wide(const char* operand, const TensorView& t) const {
    check_given(operand, t);
    if (t.dtype != g_.dtype && t.dtype != DType::f32) refuse_side_type(operand, g_.dtype, t);
    check_place(operand, t);
  }

  /// Operands whose type does not depend on the descriptor.
  void check_side(const char* operand, DType dtype, const TensorView& t) const {
    check_given(operand, t);
    check_fixed_type(operand, dtype, t);
    check_place(operand, t);
  }

  void check_place(const char* operand, const TensorView& t) const {
    check_device(operand, device_, t);
    check_address(operand, t);
  }

  static Footprint footprint(const TensorView& t, int64_t run) {
    Footprint f;
    f.begin = reinterpret_cast<std::uintptr_t>(t.data);
    f.run = run;
    return f;
  }

  void touch(const char* operand, const Footprint& f, const TensorView& t, bool written) {
    if (written) {
      check_writable(operand, t);
      check_elements_apart(operand, f, t);
    }
    Touched& touched = written ? outputs_.add() : inputs_.add();
    touched.operand = operand;
    touched.memory = f;
  }

  const FmhaDescriptor& g_;
  Axes axes_;
  Device device_;
  std::uint64_t units_ = 0;
  // As many as a backward call has, more than a forward one.
  FixedVector<Touched, 14> inputs_;
  FixedVector<Touched, 6> outputs_;
};

void check_offsets(const char* operand, const std::int32_t* offsets, int64_t sequences, int64_t rows) {
  if (offsets[0] != 0)
    throw InvalidProblem(text("operand ", operand, ": must start with 0, got ", offsets[0],
                              "; it holds the first row of each sequence, and the end of the last"));
  for (int64_t i = 1; i <= sequences; ++i) {
    if (offsets[i] < offsets[i - 1])
      throw InvalidProblem(text("operand ", operand, ": entries that never decrease required, got ", offsets[i - 1],
                                " before ", offsets[i], " at index ", i));
  }
  if (offsets[sequences] != rows)
    throw InvalidProblem(
        text("operand ", operand, ": must end with ", rows, ", the rows of the packed operand, got ", offsets[sequences]));
}

/// What only a host plan can look into.
void check_lengths(const FmhaDescriptor& g, const Problem& p) {
  if (p.cu_seqlens_q != nullptr) {
    check_offsets("cu_seqlens_q", p.cu_seqlens_q, g.batch, g.seq_q);
    check_offsets("cu_seqlens_k", p.cu_seqlens_k, g.batch, g.seq_k);
  }
  if (p.seqused_k == nullptr) return;
  for (int64_t i = 0; i < g.batch; ++i) {
    const int64_t rows = p.cu_seqlens_k != nullptr ? p.cu_seqlens_k[i + 1] - p.cu_seqlens_k[i] : g.seq_k;
    if (p.seqused_k[i] < 0 || p.seqused_k[i] > rows)
      throw InvalidProblem(text("operand seqused_k: lengths from 0 to ", rows, ", the keys of the sequence, required, got ",
                                p.seqused_k[i], " at index ", i));
  }
}

int64_t limit(int64_t window) { return window < 0 ? unlimited : std::min(window, unlimited); }

/// All but O, LSE and what is checked when every operand is known.
Problem check_inputs(Call& call, const FmhaDescriptor& g, Device device, const FmhaArguments& args) {
  const double scale = args.scale ? *args.scale : 1 / std::sqrt(static_cast<double>(g.dim));
  if (!is_number(scale, g.dtype))
    throw InvalidProblem(text("scale: a number finite in ", arithmetic(g.dtype), " required, got ", scale));
  const double dropout = args.dropout_p;
  if (!(dropout >= 0 && dropout < 1))
    throw InvalidProblem(text("dropout_p: a probability of at least 0 and below 1 required, got ", dropout));
  if (dropout != 0 && !g.dropout)
    throw InvalidProblem(text("dropout_p: 0 required by a plan without dropout, got ", dropout,
                              "; select with FmhaDescriptor(dropout=True) and pass rng_state"));

  Problem p{};
  p.batch = g.batch;
  p.heads = g.heads;
  p.heads_k = g.heads_k;
  p.seq_q = g.seq_q;
  p.seq_k = g.seq_k;
  p.dim = g.dim;
  p.dim_v = g.dim_v;
  p.operand = g.dtype;
  p.o_type = g.o;
  const Placed q = call.rows({"q", g.heads, g.seq_q, g.dim, g.dtype}, args.q, false),
               k = call.rows({"k", g.heads_k, g.seq_k, g.dim, g.dtype}, args.k, false),
               v = call.rows({"v", g.heads_k, g.seq_k, g.dim_v, g.dtype}, args.v, false);
  p.q = q.data;
  p.k = k.data;
  p.v = v.data;
  p.q_strides = q.strides;
  p.k_strides = k.strides;
  p.v_strides = v.strides;

  p.scale = scale;
  p.softcap = g.softcap;
  p.left = limit(g.window_left);
  p.right = g.causal == Causal::none ? limit(g.window_right) : std::min<int64_t>(limit(g.window_right), 0);
  p.top_left = g.align == Align::top_left;
  if (g.bias != DType::none) {
    p.bias_type = g.bias;
    p.bias = call.broadcast("bias", g.bias, args.bias, false, p.bias_strides);
  } else if (args.bias.present()) {
    refuse_given("bias", "FmhaDescriptor(bias=<its dtype>)");
  }
  if (g.mask) {
    p.mask = static_cast<const std::uint8_t*>(call.broadcast("mask", DType::boolean, args.mask, false, p.mask_strides));
  } else if (args.mask.present()) {
    refuse_given("mask", "FmhaDescriptor(mask=True)");
  }
  if (g.alibi) {
    bool batched;
    p.alibi_type = args.alibi_slopes.dtype;
    p.alibi_slopes = call.slopes("alibi_slopes", args.alibi_slopes, false, batched, p.alibi_batch, p.alibi_head);
  } else if (args.alibi_slopes.present()) {
    refuse_given("alibi_slopes", "FmhaDescriptor(alibi=True)");
  }
  if (g.sink) {
    p.sink_type = args.sink.dtype;
    p.sink = call.sink("sink", args.sink, false, p.sink_head);
  } else if (args.sink.present()) {
    refuse_given("sink", "FmhaDescriptor(sink=True)");
  }
  if (g.packed) {
    constexpr const char* meaning = "batch + 1: the first row of each sequence, and the end of the last";
    p.cu_seqlens_q = call.integers<std::int32_t>("cu_seqlens_q", DType::i32, g.batch + 1, meaning, args.cu_seqlens_q);
    p.cu_seqlens_k = call.integers<std::int32_t>("cu_seqlens_k", DType::i32, g.batch + 1, meaning, args.cu_seqlens_k);
  } else {
    if (args.cu_seqlens_q.present()) refuse_given("cu_seqlens_q", "FmhaDescriptor(packed=True)");
    if (args.cu_seqlens_k.present()) refuse_given("cu_seqlens_k", "FmhaDescriptor(packed=True)");
  }
  if (g.seqused_k) {
    p.seqused_k = call.integers<std::int32_t>("seqused_k", DType::i32, g.batch, "batch", args.seqused_k);
  } else if (args.seqused_k.present()) {
    refuse_given("seqused_k", "FmhaDescriptor(seqused_k=True)");
  }
  p.keep_scale = 1;
  if (g.dropout) {
    const auto* state = call.integers<int64_t>("rng_state", DType::i64, 2, "seed, offset", args.rng_state);
    p.keep_threshold = keep_threshold(dropout);
    p.keep_scale = 65536.0f / static_cast<float>(p.keep_threshold);
    if (p.keep_threshold < 65536) p.rng_state = state;  // otherwise every weight is kept
  } else if (args.rng_state.present()) {
    refuse_given("rng_state", "FmhaDescriptor(dropout=True)");
  }
  if (device.type == DeviceType::cpu) check_lengths(g, p);
  return p;
}

void check_extent(const char* field, int64_t value) {
  if (value < 0) throw InvalidProblem(text(field, ": an extent >= 0 required, got ", value));
  if (value > (int64_t{1} << 40)) throw InvalidProblem(text(field, ": an extent <= 2^40 required, got ", value));
}

void check_dim(const char* field, int64_t value) {
  if (value < 1) throw InvalidProblem(text(field, ": a head dimension of at least 1 required, got ", value));
  if (value > largest_dim)
    throw Unsupported(text(field, ": a head dimension of at most ", largest_dim, " required, got ", value));
}

}  // namespace

void check(const FmhaDescriptor& given) {
  const FmhaDescriptor g = resolve(given);
  check_extent("batch", g.batch);
  check_extent("heads", g.heads);
  check_extent("heads_k", g.heads_k);
  check_extent("seq_q", g.seq_q);
  check_extent("seq_k", g.seq_k);
  if (g.heads_k == 0 ? g.heads != 0 : g.heads < g.heads_k || g.heads % g.heads_k != 0) {
    int64_t nearest = std::min(g.heads_k, g.heads);
    while (nearest > 1 && g.heads % nearest != 0) --nearest;
    throw InvalidProblem(
        text("heads_k: a divisor of heads, ", g.heads, ", required, got ", g.heads_k, "; the nearest below is ", nearest));
  }
  check_dim("dim", g.dim);
  check_dim("dim_v", g.dim_v);
  if (g.dtype == DType::none) throw InvalidProblem("dtype: an element type required, got none");
  for (const auto& [field, window] : {std::pair("left", g.window_left), std::pair("right", g.window_right)}) {
    if (window < -1)
      throw InvalidProblem(text("window: -1 (no limit) or a count of keys >= 0 required, got ", window, " to the ", field));
  }
  if (!(g.softcap >= 0) || !is_number(g.softcap, g.dtype) ||
      (g.softcap > 0 && g.dtype != DType::f64 && g.softcap < std::numeric_limits<float>::min())) {
    throw InvalidProblem(text("softcap: 0 (none) or a positive number within the range of ", arithmetic(g.dtype),
                              " required, got ", g.softcap));
  }
  if (g.bias != DType::none && g.bias != g.dtype && g.bias != DType::f32) {
    throw Unsupported(text("operand bias: dtype ", name(g.dtype), g.dtype == DType::f32 ? "" : " or float32",
                           " required beside ", name(g.dtype), " operands, got ", name(g.bias),
                           g.bias == DType::boolean ? "; a boolean mask goes to mask=, true where a key takes part" : ""));
  }
  for (const auto& [field, used] : {std::pair("bias", g.bias != DType::none), std::pair("mask", g.mask)}) {
    if (g.packed && used) {
      throw Unsupported(text(field,
                             ": not with packed sequences, which have no common [queries, keys] shape; pad the "
                             "sequences to a batch and pass seqused_k"));
    }
  }
  if (g.packed && std::max(g.seq_q, g.seq_k) > std::numeric_limits<std::int32_t>::max()) {
    throw Unsupported(text("packed: at most 2^31 - 1 rows, which is what int32 cu_seqlens count, required, got ",
                           std::max(g.seq_q, g.seq_k), "; run the sequences in several calls"));
  }
  constexpr int64_t words = int64_t{1} << 32;
  if (g.dropout && (g.seq_q >= words || g.seq_k >= 8 * words || (g.heads > 0 && g.batch >= words / g.heads))) {
    throw Unsupported(
        text("dropout: fewer than 2^32 queries and batch * heads, and 2^35 keys, required, which is what the "
             "random numbers count, got ",
             g.seq_q, " queries, ", g.seq_k, " keys, batch ", g.batch, " and ", g.heads, " heads"));
  }
}

void check(const FmhaBackwardDescriptor& g) {
  check(g.forward);
  const struct {
    const char *gradient, *operand;
    bool wanted, there;
  } gradients[] = {{"dbias", "bias", g.dbias, g.forward.bias != DType::none},
                   {"dalibi_slopes", "alibi", g.dalibi_slopes, g.forward.alibi},
                   {"dsink", "sink", g.dsink, g.forward.sink}};
  for (const auto& x : gradients) {
    if (x.wanted && !x.there)
      throw InvalidProblem(text(x.gradient, ": a forward with ", x.operand, " required, got one without; leave ", x.gradient,
                                " out, or describe the forward with ", x.operand));
  }
}

FmhaDescriptor resolve(FmhaDescriptor g) {
  if (g.heads_k == 0) g.heads_k = g.heads;
  if (g.dim_v == 0) g.dim_v = g.dim;
  if (g.o == DType::none) g.o = g.dtype;
  if (g.causal != Causal::none) g.align = g.causal == Causal::top_left ? Align::top_left : Align::bottom_right;
  return g;
}

FmhaBackwardDescriptor resolve(FmhaBackwardDescriptor g) {
  g.forward = resolve(g.forward);
  g.forward.lse = true;
  if (g.grad == DType::none) g.grad = g.forward.dtype;
  return g;
}

Problem check(const FmhaDescriptor& g, Device device, const FmhaArguments& args) {
  Call call(g, device);
  Problem p = check_inputs(call, g, device, args);
  const Placed o = call.rows({"o", g.heads, g.seq_q, g.dim_v, g.o}, args.o, true);
  p.o = o.data;
  p.o_strides = o.strides;
  if (g.lse) {
    p.lse = call.lse(args.lse, true, p.lse_batch, p.lse_head);
  } else if (args.lse.present()) {
    refuse_given("lse", "FmhaDescriptor(lse=True)");
  }
  p.vectorised = call.vectorised();
  call.finish();
  return p;
}

BackwardProblem check(const FmhaBackwardDescriptor& descriptor, Device device, const FmhaBackwardArguments& args) {
  const FmhaDescriptor& g = descriptor.forward;
  Call call(g, device);
  BackwardProblem b{};
  b.forward = check_inputs(call, g, device, args.forward);
  Problem& p = b.forward;
  const auto place = [&](const Rows& rows, const TensorView& view, bool written, Strides& strides) {
    const Placed placed = call.rows(rows, view, written);
    strides = placed.strides;
    return placed.data;
  };
  p.o = place({"o", g.heads, g.seq_q, g.dim_v, g.o}, args.forward.o, false, p.o_strides);
  p.lse = call.lse(args.forward.lse, false, p.lse_batch, p.lse_head);
  b.grad_type = descriptor.grad;
  b.grad = place({"grad", g.heads, g.seq_q, g.dim_v, g.dtype}, args.grad, false, b.grad_strides);
  b.dq = place({"dq", g.heads, g.seq_q, g.dim, b.grad_type}, args.dq, true, b.dq_strides);
  b.dk = place({"dk", g.heads_k, g.seq_k, g.dim, b.grad_type}, args.dk, true, b.dk_strides);
  b.dv = place({"dv", g.heads_k, g.seq_k, g.dim_v, b.grad_type}, args.dv, true, b.dv_strides);
  p.vectorised = call.vectorised();

  if (descriptor.dbias) {
    const TensorView &bias = args.forward.bias, &dbias = args.dbias;
    b.dbias = call.broadcast("dbias", g.bias, dbias, true, b.dbias_strides);
    if (dbias.rank != bias.rank || !std::equal(bias.shape, bias.shape + bias.rank, dbias.shape))
      refuse_shape("dbias", text(extents(bias.shape, bias.rank), ", the bias's own,"), dbias);
    const int64_t full[] = {g.batch, g.heads, g.seq_q, g.seq_k};
    for (int i = 0; i < 4; ++i) {
      const int own = i - (4 - bias.rank);
      b.dbias_sums[i] = full[i] > 1 && (own < 0 || bias.shape[own] == 1);
    }
  } else if (args.dbias.present()) {
    refuse_given("dbias", "FmhaBackwardDescriptor(dbias=True)");
  }
  if (descriptor.dalibi_slopes) {
    bool batched;
    b.dalibi_type = args.dalibi_slopes.dtype;
    b.dalibi_slopes = call.slopes("dalibi_slopes", args.dalibi_slopes, true, batched, b.dalibi_batch, b.dalibi_head);
    b.alibi_sums_batch = !batched;
    if (args.dalibi_slopes.rank != args.forward.alibi_slopes.rank)
      refuse_shape("dalibi_slopes",
                   text(extents(args.forward.alibi_slopes.shape, args.forward.alibi_slopes.rank), ", that of alibi_slopes,"),
                   args.dalibi_slopes);
  } else if (args.dalibi_slopes.present()) {
    refuse_given("dalibi_slopes", "FmhaBackwardDescriptor(dalibi_slopes=True)");
  }
  if (descriptor.dsink) {
    b.dsink_type = args.dsink.dtype;
    b.dsink = call.sink("dsink", args.dsink, true, b.dsink_head);
  } else if (args.dsink.present()) {
    refuse_given("dsink", "FmhaBackwardDescriptor(dsink=True)");
  }
  call.finish();
  return b;
}

}  // namespace cutplan::fmha

namespace cutplan {

FmhaDescriptor describe(const FmhaArguments& args, const FmhaDescriptor& options) {
  FmhaDescriptor g = options;
  g.packed = args.cu_seqlens_q.present() || args.cu_seqlens_k.present();
  if (g.packed) {
    check_given("cu_seqlens_q", args.cu_seqlens_q);
    check_given("cu_seqlens_k", args.cu_seqlens_k);
  }
  const fmha::Axes axes(g);
  const struct {
    const char* name;
    const TensorView& view;
  } operands[] = {{"q", args.q}, {"k", args.k}, {"v", args.v}};
  for (const auto& x : operands) {
    check_given(x.name, x.view);
    if (x.view.rank != axes.rank) {
      throw ShapeMismatch(text("operand ", x.name, ": rank ", axes.rank, " required ",
                               g.packed ? "with packed sequences (cu_seqlens_q and cu_seqlens_k)" : "without cu_seqlens_q",
                               ", got ", extents(x.view.shape, x.view.rank)));
    }
  }
  if (g.packed) {
    if (args.cu_seqlens_q.rank != 1 || args.cu_seqlens_q.shape[0] < 1) {
      throw ShapeMismatch(text("operand cu_seqlens_q: shape [batch + 1] required, got ",
                               extents(args.cu_seqlens_q.shape, args.cu_seqlens_q.rank)));
    }
    g.batch = args.cu_seqlens_q.shape[0] - 1;
  } else {
    g.batch = args.q.shape[axes.batch];
  }
  g.heads = args.q.shape[axes.head];
  g.heads_k = args.k.shape[axes.head];
  g.seq_q = args.q.shape[axes.row];
  g.seq_k = args.k.shape[axes.row];
  g.dim = args.q.shape[axes.dim];
  g.dim_v = args.v.shape[axes.dim];
  if (g.heads_k == 0 && g.heads != 0)
    throw ShapeMismatch(text("operand k: at least one head required beside ", g.heads, " of q, got none"));
  if (g.dim_v == 0) throw ShapeMismatch("operand v: a head dimension of at least 1 required, got 0");
  g.dtype = args.q.dtype;
  g.o = args.o.present() ? args.o.dtype : g.dtype;
  g.bias = args.bias.dtype;
  g.alibi = args.alibi_slopes.present();
  g.mask = args.mask.present();
  g.sink = args.sink.present();
  g.seqused_k = args.seqused_k.present();
  g.dropout = args.rng_state.present();
  g.lse = args.lse.present();
  return fmha::resolve(g);
}

FmhaBackwardDescriptor describe(const FmhaBackwardArguments& args, const FmhaDescriptor& options) {
  FmhaBackwardDescriptor g;
  g.forward = describe(args.forward, options);
  g.grad = args.dq.present() ? args.dq.dtype : g.forward.dtype;
  g.dbias = args.dbias.present();
  g.dalibi_slopes = args.dalibi_slopes.present();
  g.dsink = args.dsink.present();
  return fmha::resolve(g);
}

}  // namespace cutplan
