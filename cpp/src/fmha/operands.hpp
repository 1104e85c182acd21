// The operands of attention: what each plan asks of them. A new operand is a line here, and its use in problem() (operands.cpp)
// and in the kernels.
#pragma once

#include "core/operands.hpp"
#include "cutplan/fmha.hpp"

namespace cutplan::fmha {

// ---- rules ----

/// Q, K, V, O or a gradient of theirs: the last dimension is contiguous, the others lie anyhow.
constexpr Rule rows(const FmhaDescriptor& g, DType type, std::int64_t heads, std::int64_t seq, std::int64_t dim) {
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const std::int64_t first = heads_first ? heads : seq, second = heads_first ? seq : heads;
  if (g.varlen)
    return tensor(type, -1, first, second, dim)
        .means(heads_first ? "heads, rows of all sequences, head dimension"
                           : "rows of all sequences, heads, head dimension");
  return tensor(type, -1, g.batch, first, second, dim)
      .means(heads_first ? "batch, heads, rows, head dimension" : "batch, rows, heads, head dimension");
}
constexpr Rule rows_of_q(const FmhaDescriptor& g, DType type, std::int64_t dim) {
  return rows(g, type, g.heads, g.seq_q, dim);
}
constexpr Rule rows_of_k(const FmhaDescriptor& g, DType type, std::int64_t dim) {
  return rows(g, type, g.heads_k, g.seq_k, dim);
}
/// LSE: rows are adjacent.
constexpr Rule lse(const FmhaDescriptor& g) {
  return (g.varlen ? tensor(DType::f32, -1, g.heads, g.seq_q) : tensor(DType::f32, -1, g.batch, g.heads, g.seq_q))
      .fixed()
      .filled(Sample::logarithm, g.seq_k);
}
/// Bias, mask and the bias's gradient.
constexpr Rule of_scores(const FmhaDescriptor& g, DType type) {
  return tensor(type, any_strides, g.batch, g.heads, g.seq_q, g.seq_k).broadcast().means("batch, heads, queries, keys");
}
constexpr Rule of_heads(const FmhaDescriptor& g) {
  return tensor(DType::f32, any_strides, g.heads).or_type(g.dtype).means("heads").filled(Sample::most, 0);
}
constexpr Rule of_batches_or_heads(const FmhaDescriptor& g) {
  return tensor(DType::f32, any_strides, g.batch, g.heads)
      .or_type(g.dtype)
      .may_drop(1)
      .means("heads, or batch and heads")
      .filled(Sample::most, 0);
}
constexpr Rule integers(DType type, std::int64_t count, const char* meaning) {
  return tensor(type, -1, count).fixed().means(meaning);
}
constexpr Rule bounds(const FmhaDescriptor& g, std::int64_t seq) {
  return integers(DType::i32, g.batch + 1, "batch + 1: the first row of each sequence, and the end of the last")
      .filled(Sample::even_offsets, seq)
      .when(g.varlen);
}

// ---- the tables ----

using F = FmhaDescriptor;
using A = FmhaArguments;

inline constexpr Operand<F, A> operands[] = {
    {"q", &A::q, [](const F& g) { return rows_of_q(g, g.dtype, g.dim); }, "", true},
    {"k", &A::k, [](const F& g) { return rows_of_k(g, g.dtype, g.dim); }, "", true},
    {"v", &A::v, [](const F& g) { return rows_of_k(g, g.dtype, g.dim_v); }, "", true},
    {"o", &A::o, [](const F& g) { return rows_of_q(g, g.o, g.dim_v).as(Role::output); }, "", true},
    {"lse", &A::lse, [](const F& g) { return lse(g).as(Role::output).when(g.lse); }, "FmhaDescriptor(lse=True)"},
    {"bias", &A::bias, [](const F& g) { return of_scores(g, g.bias).when(g.bias != DType::none); },
     "FmhaDescriptor(bias=<its dtype>)"},
    {"mask", &A::mask, [](const F& g) { return of_scores(g, DType::boolean).fixed().when(g.mask); },
     "FmhaDescriptor(mask=True)"},
    {"alibi_slopes", &A::alibi_slopes, [](const F& g) { return of_batches_or_heads(g).when(g.alibi); },
     "FmhaDescriptor(alibi=True)"},
    {"sink", &A::sink, [](const F& g) { return of_heads(g).when(g.sink); }, "FmhaDescriptor(sink=True)"},
    {"seqused_k", &A::seqused_k,
     [](const F& g) {
       return integers(DType::i32, g.batch, "batch")
           .filled(Sample::most, g.varlen ? g.seq_k / (g.batch > 0 ? g.batch : 1) : g.seq_k)
           .when(g.seqused_k);
     },
     "FmhaDescriptor(seqused_k=True)"},
    {"cu_seqlens_q", &A::cu_seqlens_q, [](const F& g) { return bounds(g, g.seq_q); }, "FmhaDescriptor(varlen=True)"},
    {"cu_seqlens_k", &A::cu_seqlens_k, [](const F& g) { return bounds(g, g.seq_k); }, "FmhaDescriptor(varlen=True)"},
    {"rng_state", &A::rng_state,
     [](const F& g) { return integers(DType::i64, 2, "seed, offset").filled(Sample::most, 1).when(g.dropout); },
     "FmhaDescriptor(dropout=True)"},
};

using B = FmhaBackwardDescriptor;
using BA = FmhaBackwardArguments;

/// An operand of the forward pass, of which the backward pass reads all, O and LSE among them.
template <std::size_t kIndex>
constexpr Operand<B, BA> of_forward(bool positional = false) {
  return {operands[kIndex].name, operands[kIndex].member,
          [](const B& g) {
            const Rule rule = operands[kIndex].rule(g.forward);
            return rule.as(Role::input).when(rule.wanted());
          },
          operands[kIndex].option, positional};
}

inline constexpr Operand<B, BA> backward_operands[] = {
    {"grad", &BA::grad, [](const B& g) { return rows_of_q(g.forward, g.forward.dtype, g.forward.dim_v); }, "", true},
    of_forward<0>(true),
    of_forward<1>(true),
    of_forward<2>(true),
    of_forward<3>(true),
    of_forward<4>(true),
    {"dq", &BA::dq, [](const B& g) { return rows_of_q(g.forward, g.grad, g.forward.dim).as(Role::output); }, "", true},
    {"dk", &BA::dk, [](const B& g) { return rows_of_k(g.forward, g.grad, g.forward.dim).as(Role::output); }, "", true},
    {"dv", &BA::dv, [](const B& g) { return rows_of_k(g.forward, g.grad, g.forward.dim_v).as(Role::output); }, "", true},
    of_forward<5>(),
    of_forward<6>(),
    of_forward<7>(),
    of_forward<8>(),
    of_forward<9>(),
    of_forward<10>(),
    of_forward<11>(),
    of_forward<12>(),
    {"dbias", &BA::dbias, [](const B& g) { return of_scores(g.forward, g.forward.bias).as(Role::output).when(g.dbias); },
     "FmhaBackwardDescriptor(dbias=True)"},
    {"dalibi_slopes", &BA::dalibi_slopes,
     [](const B& g) { return of_batches_or_heads(g.forward).as(Role::output).when(g.dalibi_slopes); },
     "FmhaBackwardDescriptor(dalibi_slopes=True)"},
    {"dsink", &BA::dsink, [](const B& g) { return of_heads(g.forward).as(Role::output).when(g.dsink); },
     "FmhaBackwardDescriptor(dsink=True)"},
};

}  // namespace cutplan::fmha
