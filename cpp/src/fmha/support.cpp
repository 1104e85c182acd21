// What is refused, and why: descriptors that no kernel could ever serve, and types that those of a device do not.
#include "fmha/support.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "core/text.hpp"
#include "cutplan/error.hpp"
#include "fmha/family.hpp"

namespace cutplan::fmha {

using std::int64_t;

bool is_number(double x, DType operand) {
  return std::isfinite(x) && (operand == DType::f64 || std::abs(x) <= std::numeric_limits<float>::max());
}

namespace {

void check_dim(const char* field, const char* of, int64_t value) {
  if (value < 1) throw InvalidProblem(text(field, ": a head dimension of at least 1 required of ", of, ", got ", value));
  if (value > largest_dim)
    throw Unsupported(text(field, ": a head dimension of at most ", largest_dim, " required of ", of, ", got ", value));
}

/// The types of an operation against the support table, before any kernel is looked at: the reason names the type.
void check_supported(const FmhaDescriptor& g, const char* written, DType written_type, const Setting& s) {
  std::string operands, outputs;
  for (const Support& row : support_table) {
    if ((row.arch == Arch::host) != s.on_host() || (s.preference.arch && row.arch != *s.preference.arch)) continue;
    if (operands.find(name(row.operand)) == std::string::npos)
      operands += std::string(operands.empty() ? "" : ", ") + name(row.operand);
    if (row.operand != g.dtype) continue;
    outputs = name(row.o[0]) + std::string(row.o[1] == DType::none ? "" : std::string(" or ") + name(row.o[1]));
    if (is_output(row, g.o) && is_output(row, written_type)) return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the ranking says so
  if (outputs.empty())
    throw Unsupported(text("operands q, k and v: one of ", operands, " required on this device, got ", name(g.dtype)));
  const bool o_at_fault = written_type == g.o;
  throw Unsupported(text(o_at_fault ? "operand o" : written, ": dtype ", outputs, " required for ", name(g.dtype),
                         " operands, got ", name(o_at_fault ? g.o : written_type)));
}

}  // namespace

void Forward::check(const FmhaDescriptor& given) {
  const FmhaDescriptor g = resolve(given);
  check_extent("batch", g.batch);
  check_extent("heads", g.heads);
  check_extent("heads_k", g.heads_k);
  check_extent("seq_q", g.seq_q);
  check_extent("seq_k", g.seq_k);
  if (g.heads_k == 0 ? g.heads != 0 : g.heads < g.heads_k || g.heads % g.heads_k != 0) {
    int64_t nearest = std::min(g.heads_k, g.heads);
    while (nearest > 1 && g.heads % nearest != 0) --nearest;
    throw InvalidProblem(text("heads_k: a divisor of heads, ", g.heads, ", required of k and v, got ", g.heads_k,
                              "; the nearest below is ", nearest,
                              g.varlen && g.layout == FmhaLayout::bhsd ? rows_before_heads : ""));
  }
  check_dim("dim", "q and k", g.dim);
  check_dim("dim_v", "v", g.dim_v);
  if (g.dtype == DType::none) throw InvalidProblem("dtype: an element type required, got none");
  for (const auto& [field, window] : {std::pair("left", g.window.left), std::pair("right", g.window.right)}) {
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
    if (g.varlen && used) {
      throw Unsupported(text(field,
                             ": not with packed sequences, which have no common [queries, keys] shape; pad the "
                             "sequences to a batch and pass seqused_k"));
    }
  }
  if (g.varlen && std::max(g.seq_q, g.seq_k) > std::numeric_limits<std::int32_t>::max()) {
    throw Unsupported(text("varlen: at most 2^31 - 1 rows, which is what int32 cu_seqlens count, required, got ",
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

void Backward::check(const FmhaBackwardDescriptor& g) {
  Forward::check(g.forward);
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

FmhaDescriptor Forward::resolve(FmhaDescriptor g) {
  if (g.heads_k == 0) g.heads_k = g.heads;
  if (g.dim_v == 0) g.dim_v = g.dim;
  if (g.o == DType::none) g.o = g.dtype;
  if (g.causal != Causal::none) g.align = g.causal == Causal::top_left ? Align::top_left : Align::bottom_right;
  return g;
}

FmhaBackwardDescriptor Backward::resolve(FmhaBackwardDescriptor g) {
  g.forward = Forward::resolve(g.forward);
  g.forward.lse = true;
  if (g.grad == DType::none) g.grad = g.forward.dtype;
  return g;
}

void Forward::check_types(const FmhaDescriptor& g, const Setting& s) { check_supported(g, "operand o", g.o, s); }

void Backward::check_types(const FmhaBackwardDescriptor& g, const Setting& s) {
  check_supported(g.forward, "operand o", g.forward.o, s);
  check_supported(g.forward, "operands dq, dk and dv", g.grad, s);
}

}  // namespace cutplan::fmha

namespace cutplan {

std::vector<FmhaSupport> fmha_support() {
  std::vector<FmhaSupport> rows;
  for (const fmha::Support& s : fmha::support_table) {
    bool built = false;
    for (const fmha::KernelTable* table : fmha::tables) {
      for (const fmha::Kernel& k : *table) built = built || (k.arch == s.arch && k.operand == s.operand);
    }
    if (!built) continue;
    FmhaSupport row{s.arch, s.operand, {}, s.largest_dim, s.minimum_compute_capability, s.note};
    for (DType t : s.o) {
      if (t != DType::none) row.o.push_back(t);
    }
    rows.push_back(row);
  }
  return rows;
}

}  // namespace cutplan
