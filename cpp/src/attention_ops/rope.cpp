// Rotary embedding, both ways: what is refused, frequencies, from arguments to what a kernel is told.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "attention_ops/arguments.hpp"
#include "attention_ops/family.hpp"
#include "attention_ops/place.hpp"
#include "core/plan.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan {

template class Plan<RopeDescriptor, RopeArguments>;
template class Plan<RopeBackwardDescriptor, RopeBackwardArguments>;

namespace attention_ops {

using std::int64_t;

namespace {

void check_positive(const char* field, double value) {
  if (!(value > 0) || !std::isfinite(value))
    throw InvalidProblem(text(field, ": a finite number above 0 required, got ", value));
}

void check_scaling(const RopeScaling& s, int64_t rotary_dim) {
  check_positive("scaling.factor", s.factor);
  if (s.kind == RopeScalingKind::ntk && rotary_dim <= 2)
    throw InvalidProblem(text("scaling: a rotary_dim of 4 or more required by 'ntk', got ", rotary_dim));
  if (s.kind != RopeScalingKind::yarn && s.kind != RopeScalingKind::llama3) return;
  if (s.original_max_position < 1)
    throw InvalidProblem(
        text("scaling.original_max_position: at least 1 required by '", name(s.kind), "', got ", s.original_max_position));
  if (s.kind == RopeScalingKind::yarn) {
    check_positive("scaling.beta_fast", s.beta_fast);
    check_positive("scaling.beta_slow", s.beta_slow);
    if (!(s.attention_factor >= 0) || !std::isfinite(s.attention_factor))
      throw InvalidProblem(
          text("scaling.attention_factor: a finite number of at least 0 required, got ", s.attention_factor));
  } else {
    check_positive("scaling.low_freq_factor", s.low_freq_factor);
    check_positive("scaling.high_freq_factor", s.high_freq_factor);
    if (s.low_freq_factor >= s.high_freq_factor)
      throw InvalidProblem(text("scaling.low_freq_factor: below high_freq_factor, ", s.high_freq_factor, ", required, got ",
                                s.low_freq_factor));
  }
}

void check_integers(const char* field, DType type) {
  if (type != DType::none && type != DType::i32 && type != DType::i64)
    throw Unsupported(text("operand ", field, ": dtype int32 or int64 required, got ", name(type)));
}

constexpr long double two_pi = 6.283185307179586476925286766559L;

/// Radians of pair i at position 1.
long double frequency(const RopeDescriptor& g, int64_t i) {
  const RopeScaling& s = g.scaling;
  const auto dim = static_cast<long double>(g.rotary_dim), factor = static_cast<long double>(s.factor);
  const auto plain = [&](long double base) { return std::pow(base, -2 * static_cast<long double>(i) / dim); };
  const auto base = static_cast<long double>(g.base);
  const long double f = plain(base);
  switch (s.kind) {
    case RopeScalingKind::none: return f;
    case RopeScalingKind::linear: return f / factor;
    case RopeScalingKind::ntk: return plain(base * std::pow(factor, dim / (dim - 2)));
    case RopeScalingKind::yarn: {
      // The pair that turns `turns` times over the length of training.
      const auto pair_of = [&](double turns) {
        return dim *
               std::log(static_cast<long double>(s.original_max_position) / (static_cast<long double>(turns) * two_pi)) /
               (2 * std::log(base));
      };
      const long double low = std::max(std::floor(pair_of(s.beta_fast)), 0.0L),
                        high = std::min(std::ceil(pair_of(s.beta_slow)), dim - 1),
                        ramp = (static_cast<long double>(i) - low) / (high == low ? 0.001L : high - low),
                        stretched = std::min(std::max(ramp, 0.0L), 1.0L);
      return f / factor * stretched + f * (1 - stretched);
    }
    case RopeScalingKind::llama3: {
      const auto turns = static_cast<long double>(s.original_max_position) * f / two_pi;
      const auto low = static_cast<long double>(s.low_freq_factor), high = static_cast<long double>(s.high_freq_factor);
      if (turns < low) return f / factor;
      if (turns > high) return f;
      const long double smooth = (turns - low) / (high - low);
      return (1 - smooth) * f / factor + smooth * f;
    }
  }
  return f;
}

double cosine_factor(const RopeScaling& s) {
  if (s.kind != RopeScalingKind::yarn) return 1;
  return s.attention_factor > 0 ? s.attention_factor : s.factor <= 1 ? 1 : 0.1 * std::log(s.factor) + 1;
}

/// What only a host plan can look into.
void check_lengths(const RopeDescriptor& g, const RopeProblem& p) {
  const std::int32_t* const bounds = p.cu_seqlens;
  check_bounds(bounds, g.batch, g.seq);
  if (p.tables.rows == 0) return;
  const auto check = [&](const char* operand, int64_t position, int64_t i) {
    if (position < 0 || position >= p.tables.rows)
      throw InvalidProblem(text("operand ", operand, ": positions from 0 to ", p.tables.rows - 1,
                                ", the rows of cos and sin, required, got ", position, " at index ", i));
  };
  if (p.positions.data != nullptr) {
    for (int64_t batch = 0; batch < (g.batch_positions ? g.batch : 1); ++batch) {
      for (int64_t row = 0; row < g.seq; ++row) {
        check("positions", element(p.positions, batch * p.positions_of_batch + row * p.positions.stride), row);
      }
    }
    return;
  }
  for (int64_t batch = 0; batch < g.batch; ++batch) {
    const int64_t rows = bounds != nullptr ? bounds[batch + 1] - bounds[batch] : g.seq;
    if (rows == 0) continue;
    const int64_t first = p.offsets.data == nullptr ? 0 : get(p.offsets, batch);
    check(p.offsets.data == nullptr ? "cos" : "offsets", first, batch);
    check(p.offsets.data == nullptr ? "cos" : "offsets", first + rows - 1, batch);
  }
}

}  // namespace

template <typename F, typename D, typename A>
void RopeCommon<F, D, A>::check(const D& given) {
  const D resolved = resolve(given);
  const RopeDescriptor& g = forward_of(resolved);
  if (g.dtype == DType::none) throw InvalidProblem("dtype: an element type required, got none");
  for (const auto& [extent, value] :
       {std::pair("batch", g.batch), std::pair("heads", g.heads), std::pair("heads_k", g.heads_k), std::pair("seq", g.seq),
        std::pair("dim", g.dim), std::pair("table_rows", g.table_rows)})
    check_extent(extent, value);
  if (g.rotary_dim < 0 || g.rotary_dim > g.dim || g.rotary_dim % 2 != 0)
    throw InvalidProblem(text("rotary_dim: an even number up to dim, ", g.dim, ", required, got ", g.rotary_dim,
                              g.rotary_dim % 2 != 0 ? "; pairs of elements are turned" : ""));
  check_integers("positions", g.positions);
  check_integers("offsets", g.offsets);
  if (g.positions != DType::none && g.offsets != DType::none)
    throw InvalidProblem("offsets: none required with positions, which say where each row is; add them to these");
  if (g.table_rows > 0) {
    if (g.scaling.kind != RopeScalingKind::none)
      throw InvalidProblem(
          text("scaling: none required with tables, whose angles are scaled already, got '", name(g.scaling.kind), "'"));
    return;
  }
  check_positive("base", g.base);
  check_scaling(g.scaling, g.rotary_dim);
  if (g.rotary_dim / 2 > most_pairs_by_base)
    throw Unsupported(text("rotary_dim: at most ", 2 * most_pairs_by_base, " required without tables, got ", g.rotary_dim,
                           "; pass cos and sin"));
}

template <typename F, typename D, typename A>
D RopeCommon<F, D, A>::resolve(D given) {
  RopeDescriptor& g = forward_of(given);
  if (g.rotary_dim == 0) g.rotary_dim = g.dim;
  return given;
}

template <typename F, typename D, typename A>
DType RopeCommon<F, D, A>::type(const D& g) {
  return forward_of(g).dtype;
}

template <typename F, typename D, typename A>
bool RopeCommon<F, D, A>::is_empty(const D& given) {
  const RopeDescriptor& g = forward_of(given);
  return g.batch == 0 || g.heads + g.heads_k == 0 || g.seq == 0 || g.dim == 0;
}

template <typename F, typename D, typename A>
double RopeCommon<F, D, A>::rows(const D& given) {
  const RopeDescriptor& g = forward_of(given);
  return static_cast<double>(g.varlen ? 1 : g.batch) * static_cast<double>(g.heads + g.heads_k) * static_cast<double>(g.seq);
}

template <typename F, typename D, typename A>
double RopeCommon<F, D, A>::longest(const D& g) {
  return static_cast<double>(forward_of(g).dim);
}

template <typename F, typename D, typename A>
double RopeCommon<F, D, A>::bytes(const D& given) {
  const RopeDescriptor& g = forward_of(given);
  return 2 * rows(given) * static_cast<double>(g.dim) * bits(g.dtype) / 8;
}

template <typename F, typename D, typename A>
void RopeCommon<F, D, A>::write(tuning::Key& key, const D& given) {
  const RopeDescriptor& g = forward_of(given);
  key.field("batch", g.batch).field("heads", g.heads).field("heads_k", g.heads_k).field("seq", g.seq).field("dim", g.dim);
  key.field("rotary_dim", g.rotary_dim).field("dtype", name(g.dtype)).field("layout", name(g.layout));
  key.word("varlen", g.varlen).word("interleaved", g.interleaved).word("tables", g.table_rows > 0);
}

/// Of magnitude |x_i| + |x_j|, the pair's, times the factor of cosine and sine; by base at positions up to 2^20, for frequencies
/// are rounded to 2^-64 of a turn. An angle is rounded to float32, or float64; the functions err by two units, each of two products
/// and their sum by one. Of 16-bit elements the functions are the hardware's, whose error, with that of a product before them, is
/// within 15 units of 2^-24: far below the last rounding.
template <typename F, typename D, typename A>
PrecisionGuarantee RopeCommon<F, D, A>::precision(const Kernel&, int, const D& given) {
  const RopeDescriptor& g = forward_of(given);
  const bool wide = g.dtype == DType::f64;
  PrecisionGuarantee p;
  p.math = p.accumulator = wide ? DType::f64 : DType::f32;
  p.deterministic = p.bit_stable_on_same_hardware = p.batch_invariant = true;
  set_output_type(p, g.dtype);
  p.evaluation = error_of_roundings(g.table_rows > 0 ? 3 : bits(g.dtype) == 16 ? 20 : 10, wide ? 0x1p-53 : 0x1p-24);
  if (g.table_rows == 0) p.evaluation += static_cast<double>(two_pi) * 0x1p-64 * 0x1p20;
  return p;
}

template <typename F, typename D, typename A>
Turns RopeCommon<F, D, A>::constants(const D& given) {
  const RopeDescriptor& g = forward_of(given);
  Turns turns = {};
  turns.factor = cosine_factor(g.scaling);
  for (int64_t i = 0; g.table_rows == 0 && i < g.rotary_dim / 2; ++i) {
    const long double fraction = std::fmod(frequency(g, i) / two_pi, 1.0L);
    turns.of_pair[i] = static_cast<std::uint64_t>(std::round(std::ldexp(fraction, 64)));
  }
  return turns;
}

template <typename F, typename D, typename A>
RopeProblem RopeCommon<F, D, A>::problem(const D& given, const Selection<Kernel>& s, const Operands&, const A&,
                                         const Places& at) {
  const RopeDescriptor& g = forward_of(given);
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const auto heads_at = [&](int i) { return heads_of(at[static_cast<std::size_t>(i)], g.varlen, heads_first); };
  RopeProblem p{};
  p.batch = g.batch;
  p.heads[p.x] = g.heads;
  p.heads[p.k] = g.heads_k;
  p.rows = g.seq;
  p.dim = g.dim;
  p.pairs = g.rotary_dim / 2;
  p.packed = g.varlen;
  p.interleaved = g.interleaved;
  p.backward = is_backward(given);
  for (int tensor = 0; tensor < p.tensors; ++tensor) {
    p.from[tensor] = heads_at(tensor);
    p.to[tensor] = heads_at(p.tensors + tensor);
  }
  p.tables = tables_of(at[4], at[5], g.table_rows);
  p.positions = integers_of(at[6], g.positions, g.batch_positions ? 1 : 0);
  p.positions_of_batch = g.batch_positions ? at[6].strides[0] : 0;
  p.offsets = integers_of(at[7], g.offsets);
  p.cu_seqlens = static_cast<const std::int32_t*>(at[8].data);
  if (s.device.type == DeviceType::cpu) {
    check_lengths(g, p);
  } else if (g.table_rows > 0 && p.positions.data == nullptr && p.offsets.data == nullptr && !g.varlen &&
             g.seq > g.table_rows) {
    throw InvalidProblem(text("operand cos: a row for each of ", g.seq, " positions required, got ", g.table_rows));
  }
  p.wide = in_pieces(nullptr, {g.dim, (g.interleaved ? 2 : 1) * p.pairs}, g.dtype);
  for (const auto& all : {p.from, p.to})
    for (int tensor = 0; tensor < p.tensors; ++tensor) p.wide = p.wide && in_pieces(all[tensor], g.dtype);
  return p;
}

template <typename F, typename D, typename A>
void RopeCommon<F, D, A>::run(const Selection<Kernel>& s, const RopeProblem& p, const A&, const CallSite& site) {
  if ((p.batch == 0 && !p.packed) || p.rows == 0 || p.dim == 0 || p.heads[p.x] + p.heads[p.k] == 0) return;
  for (int i = 0; i < site.repeats; ++i) s.kernel->rope(p, {site.stream, site.workspace, s.sm_count});
}

template struct RopeCommon<Rope, RopeDescriptor, RopeArguments>;
template struct RopeCommon<RopeBackward, RopeBackwardDescriptor, RopeBackwardArguments>;

}  // namespace attention_ops

RopeDescriptor describe(const RopeArguments& args, const RopeDescriptor& options) {
  RopeDescriptor g = options;
  check_rank("x", args.x, 3, 4);
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  g.varlen = args.x.rank == 3;
  const std::int64_t* shape = args.x.shape + (g.varlen ? 0 : 1);
  g.heads = shape[heads_first ? 0 : 1];
  g.seq = shape[heads_first ? 1 : 0];
  g.dim = shape[2];
  g.dtype = args.x.dtype;
  g.heads_k = 0;
  if (args.k.present()) {
    check_rank("k", args.k, args.x.rank, args.x.rank);
    g.heads_k = args.k.shape[(g.varlen ? 0 : 1) + (heads_first ? 0 : 1)];
  }
  g.batch = g.varlen ? 1 : args.x.shape[0];
  if (args.cu_seqlens.present()) {
    check_rank("cu_seqlens", args.cu_seqlens, 1, 1);
    g.batch = args.cu_seqlens.shape[0] - 1;
  }
  g.table_rows = 0;
  if (args.cos.present() || args.sin.present()) {
    check_rank("cos", args.cos, 2, 2);
    check_rank("sin", args.sin, 2, 2);
    g.table_rows = args.cos.shape[0];
    if (g.rotary_dim == 0) g.rotary_dim = 2 * args.cos.shape[1];
  }
  g.positions = args.positions.dtype;
  g.batch_positions = args.positions.present() && args.positions.rank == 2;
  g.offsets = args.offsets.dtype;
  return g;
}

RopeBackwardDescriptor describe(const RopeBackwardArguments& args, const RopeDescriptor& options) {
  return {describe(static_cast<const RopeArguments&>(args), options)};
}

}  // namespace cutplan
