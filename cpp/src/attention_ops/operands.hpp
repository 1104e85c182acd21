// The operands of the ops around attention: what each plan asks of them.
#pragma once

#include "core/operands.hpp"
#include "cutplan/attention_ops.hpp"

namespace cutplan::attention_ops {

// ---- merging of states ----

using M = MergeStatesDescriptor;
using MA = MergeStatesArguments;

/// One part's o, or the result's.
constexpr Rule state(const M& g, DType type) {
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const std::int64_t first = heads_first ? g.heads : g.rows, second = heads_first ? g.rows : g.heads;
  if (g.varlen)
    return tensor(type, -1, first, second, g.dim)
        .means(heads_first ? "heads, rows, head dimension" : "rows, heads, head dimension");
  return tensor(type, -1, g.batch, first, second, g.dim)
      .means(heads_first ? "batch, heads, rows, head dimension" : "batch, rows, heads, head dimension");
}
constexpr Rule state_lse(const M& g) {
  return (g.varlen ? tensor(DType::f32, any_strides, g.heads, g.rows)
                   : tensor(DType::f32, any_strides, g.batch, g.heads, g.rows))
      .fixed();
}

inline constexpr Operand<M, MA> merge_operands[] = {
    {"o", &MA::o,
     [](const M& g) {
       const Rule one = state(g, g.dtype);
       return (g.apart ? one : one.stacked(g.parts)).as(Role::in_place);
     },
     "", true},
    {"lse", &MA::lse, [](const M& g) { return g.apart ? state_lse(g) : state_lse(g).stacked(g.parts); }, "", true},
    {"out", &MA::out, [](const M& g) { return state(g, g.o).as(Role::output); }, "", true},
    {"o2", &MA::o2, [](const M& g) { return state(g, g.dtype).as(Role::in_place).when(g.apart); },
     "MergeStatesDescriptor(apart=True)"},
    {"lse2", &MA::lse2, [](const M& g) { return state_lse(g).when(g.apart); }, "MergeStatesDescriptor(apart=True)"},
    {"out_lse", &MA::out_lse, [](const M& g) { return state_lse(g).as(Role::output).when(g.lse); },
     "MergeStatesDescriptor(lse=True)"},
};

// ---- ALiBi ----

using L = AlibiDescriptor;
using LA = AlibiArguments;

constexpr DType slopes_type(const L& g) { return g.dtype == DType::f64 ? DType::f64 : DType::f32; }
constexpr Rule scores(const L& g) {
  return tensor(g.dtype, any_strides, g.batch, g.heads, g.seq_q, g.seq_k).means("batch, heads, queries, keys");
}
constexpr Rule slopes(const L& g) { return tensor(slopes_type(g), any_strides, g.heads).means("heads"); }

inline constexpr Operand<L, LA> alibi_operands[] = {
    {"scores", &LA::scores, [](const L& g) { return scores(g).as(Role::in_place); }, "", true},
    {"slopes", &LA::slopes, [](const L& g) { return slopes(g); }, "", true},
    {"out", &LA::out, [](const L& g) { return scores(g).as(Role::output); }, "", true},
};

using LB = AlibiBackwardDescriptor;
using LBA = AlibiBackwardArguments;

inline constexpr Operand<LB, LBA> alibi_backward_operands[] = {
    {"grad", &LBA::grad, [](const LB& g) { return scores(g.forward).as(Role::in_place); }, "", true},
    {"dscores", &LBA::dscores, [](const LB& g) { return scores(g.forward).as(Role::output).when(g.dscores); },
     "AlibiBackwardDescriptor(dscores=True)"},
    {"dslopes", &LBA::dslopes, [](const LB& g) { return slopes(g.forward).as(Role::output).when(g.dslopes); },
     "AlibiBackwardDescriptor(dslopes=True)"},
};

// ---- rotary embedding ----

using R = RopeDescriptor;
using RA = RopeArguments;

constexpr Rule rope_rows(const R& g, std::int64_t heads) {
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const std::int64_t first = heads_first ? heads : g.seq, second = heads_first ? g.seq : heads;
  if (g.varlen)
    return tensor(g.dtype, -1, first, second, g.dim)
        .means(heads_first ? "heads, rows of all sequences, head dimension"
                           : "rows of all sequences, heads, head dimension");
  return tensor(g.dtype, -1, g.batch, first, second, g.dim)
      .means(heads_first ? "batch, heads, rows, head dimension" : "batch, rows, heads, head dimension");
}
constexpr Rule rope_table(const R& g) {
  return tensor(DType::f32, -1, g.table_rows, g.rotary_dim / 2)
      .fixed()
      .means("positions, pairs of elements")
      .when(g.table_rows > 0);
}

inline constexpr Operand<R, RA> rope_operands[] = {
    {"x", &RA::x, [](const R& g) { return rope_rows(g, g.heads).as(Role::in_place); }, "", true},
    {"k", &RA::k, [](const R& g) { return rope_rows(g, g.heads_k).in_place_of(1).when(g.heads_k > 0); },
     "RopeDescriptor(heads_k=<its heads>)", true},
    {"out", &RA::out, [](const R& g) { return rope_rows(g, g.heads).as(Role::output); }, "", true},
    {"k_out", &RA::k_out, [](const R& g) { return rope_rows(g, g.heads_k).as(Role::output).when(g.heads_k > 0); },
     "RopeDescriptor(heads_k=<its heads>)", true},
    {"cos", &RA::cos, [](const R& g) { return rope_table(g); }, "RopeDescriptor(table_rows=<its rows>)"},
    {"sin", &RA::sin, [](const R& g) { return rope_table(g); }, "RopeDescriptor(table_rows=<its rows>)"},
    {"positions", &RA::positions,
     [](const R& g) {
       const Rule rule = g.batch_positions ? tensor(g.positions, any_strides, g.batch, g.seq).means("batch, rows")
                                           : tensor(g.positions, any_strides, g.seq).means("rows");
       return rule.fixed().filled(Sample::most, 0).when(g.positions != DType::none);
     },
     "RopeDescriptor(positions=<their dtype>)"},
    {"offsets", &RA::offsets,
     [](const R& g) {
       return tensor(g.offsets, any_strides, g.batch)
           .fixed()
           .means("batch")
           .filled(Sample::most, 0)
           .when(g.offsets != DType::none);
     },
     "RopeDescriptor(offsets=<their dtype>)"},
    {"cu_seqlens", &RA::cu_seqlens,
     [](const R& g) {
       return tensor(DType::i32, -1, g.batch + 1)
           .fixed()
           .means("batch + 1: the first row of each sequence, and the end of the last")
           .filled(Sample::even_offsets, g.seq)
           .when(g.varlen && g.positions == DType::none);
     },
     "RopeDescriptor(varlen=True)"},
};

using RB = RopeBackwardDescriptor;
using RBA = RopeBackwardArguments;

template <std::size_t kIndex>
constexpr Operand<RB, RBA> rope_backward_operand(const char* name) {
  return {name, rope_operands[kIndex].member, [](const RB& g) { return rope_operands[kIndex].rule(g.forward); },
          rope_operands[kIndex].option, rope_operands[kIndex].positional};
}

inline constexpr Operand<RB, RBA> rope_backward_operands[] = {
    rope_backward_operand<0>("grad"),      rope_backward_operand<1>("grad_k"),  rope_backward_operand<2>("dx"),
    rope_backward_operand<3>("dk"),        rope_backward_operand<4>("cos"),     rope_backward_operand<5>("sin"),
    rope_backward_operand<6>("positions"), rope_backward_operand<7>("offsets"), rope_backward_operand<8>("cu_seqlens"),
};

// ---- caches of keys and values ----

using C = KvCacheAppendDescriptor;
using CA = KvCacheAppendArguments;

constexpr Rule new_rows(const C& g, std::int64_t heads, std::int64_t dim) {
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  const std::int64_t first = heads_first ? heads : g.seq, second = heads_first ? g.seq : heads;
  if (g.varlen)
    return tensor(g.dtype, -1, first, second, dim)
        .means(heads_first ? "heads, rows of all sequences, head dimension"
                           : "rows of all sequences, heads, head dimension");
  return tensor(g.dtype, -1, g.batch, first, second, dim)
      .means(heads_first ? "batch, heads, rows, head dimension" : "batch, rows, heads, head dimension");
}
constexpr Rule cache(const C& g, std::int64_t dim) {
  const bool heads_first = g.max_pages > 0 ? g.page_layout == PageLayout::hnd : g.layout == FmhaLayout::bhsd;
  const std::int64_t outer = g.max_pages > 0 ? g.pages : g.sequences, rows = g.max_pages > 0 ? g.page_size : g.capacity;
  return tensor(g.cache, -1, outer, heads_first ? g.heads : rows, heads_first ? rows : g.heads, dim)
      .update()
      .means(g.max_pages > 0 ? heads_first ? "pages, heads, rows of a page, head dimension"
                                           : "pages, rows of a page, heads, head dimension"
             : heads_first   ? "sequences, heads, capacity, head dimension"
                             : "sequences, capacity, heads, head dimension");
}
constexpr Rule of_sequences(const C& g, DType type) { return tensor(type, any_strides, g.batch).fixed().means("batch"); }
constexpr Rule append_table(const C& g) {
  return tensor(DType::f32, -1, g.table_rows, g.rotary_dim / 2)
      .fixed()
      .means("positions, pairs of elements")
      .when(g.table_rows > 0);
}
constexpr bool is_quantised(const C& g) { return g.cache != g.dtype; }
constexpr Rule cache_scale(const C& g) {
  return tensor(DType::f32, any_strides, g.scales_by_head ? g.heads : 1)
      .fixed()
      .means(g.scales_by_head ? "heads" : "")
      .when(is_quantised(g));
}

inline constexpr Operand<C, CA> append_operands[] = {
    {"k", &CA::k, [](const C& g) { return new_rows(g, g.heads, g.dim); }, "", true},
    {"v", &CA::v, [](const C& g) { return new_rows(g, g.heads, g.dim_v); }, "", true},
    {"k_cache", &CA::k_cache, [](const C& g) { return cache(g, g.dim); }, "", true},
    {"v_cache", &CA::v_cache, [](const C& g) { return cache(g, g.dim_v); }, "", true},
    {"offsets", &CA::offsets, [](const C& g) { return of_sequences(g, g.offsets).filled(Sample::most, 0); }, "", true},
    {"block_table", &CA::block_table,
     [](const C& g) {
       return tensor(DType::i32, any_strides, g.batch, g.max_pages)
           .fixed()
           .means("batch, pages of a sequence")
           .filled(Sample::most, 0)
           .when(g.max_pages > 0);
     },
     "KvCacheAppendDescriptor(pages=..., page_size=..., max_pages=...)"},
    {"cu_seqlens", &CA::cu_seqlens,
     [](const C& g) {
       return tensor(DType::i32, -1, g.batch + 1)
           .fixed()
           .means("batch + 1: the first row of each sequence, and the end of the last")
           .filled(Sample::even_offsets, g.seq)
           .when(g.varlen);
     },
     "KvCacheAppendDescriptor(varlen=True)"},
    {"cache_batch_idx", &CA::cache_batch_idx,
     [](const C& g) { return of_sequences(g, DType::i32).filled(Sample::most, 0).when(g.cache_batch_idx); },
     "KvCacheAppendDescriptor(cache_batch_idx=True)"},
    {"cos", &CA::cos, [](const C& g) { return append_table(g); }, "KvCacheAppendDescriptor(table_rows=<its rows>)"},
    {"sin", &CA::sin, [](const C& g) { return append_table(g); }, "KvCacheAppendDescriptor(table_rows=<its rows>)"},
    {"q", &CA::q, [](const C& g) { return new_rows(g, g.heads_q, g.dim).in_place_of(2).when(g.heads_q > 0); },
     "KvCacheAppendDescriptor(heads_q=<its heads>)"},
    {"q_out", &CA::q_out, [](const C& g) { return new_rows(g, g.heads_q, g.dim).update().when(g.heads_q > 0); },
     "KvCacheAppendDescriptor(heads_q=<its heads>)"},
    {"k_scale", &CA::k_scale, [](const C& g) { return cache_scale(g); },
     "KvCacheAppendDescriptor(cache=<a quantised type>)"},
    {"v_scale", &CA::v_scale, [](const C& g) { return cache_scale(g); },
     "KvCacheAppendDescriptor(cache=<a quantised type>)"},
    {"lengths_out", &CA::lengths_out, [](const C& g) { return of_sequences(g, g.offsets).update().when(g.lengths_out); },
     "KvCacheAppendDescriptor(lengths_out=True)"},
    {"rejected", &CA::rejected,
     [](const C& g) { return tensor(DType::i32, any_strides, 1).fixed().update().when(g.rejected); },
     "KvCacheAppendDescriptor(rejected=True)"},
};

}  // namespace cutplan::attention_ops
