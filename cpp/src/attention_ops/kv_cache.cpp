// KvCacheAppendPlan: what is refused, what tensors say, from arguments to what a kernel is told.
#include <algorithm>
#include <cmath>
#include <string>

#include "attention_ops/arguments.hpp"
#include "attention_ops/family.hpp"
#include "attention_ops/place.hpp"
#include "core/plan.hpp"
#include "core/text.hpp"
#include "cutplan/error.hpp"

namespace cutplan {

template class Plan<KvCacheAppendDescriptor, KvCacheAppendArguments>;

namespace attention_ops {

using std::int64_t;

void KvCacheAppend::check(const KvCacheAppendDescriptor& given) {
  const KvCacheAppendDescriptor g = resolve(given);
  if (g.dtype == DType::none) throw InvalidProblem("dtype: an element type required, got none");
  for (const auto& [extent, value] :
       {std::pair("batch", g.batch), std::pair("heads", g.heads), std::pair("seq", g.seq), std::pair("dim", g.dim),
        std::pair("dim_v", g.dim_v), std::pair("sequences", g.sequences), std::pair("capacity", g.capacity),
        std::pair("pages", g.pages), std::pair("page_size", g.page_size), std::pair("max_pages", g.max_pages),
        std::pair("table_rows", g.table_rows), std::pair("heads_q", g.heads_q)})
    check_extent(extent, value);
  if (g.dim < 1) throw InvalidProblem(text("dim: at least 1 required, got ", g.dim));
  const bool is_paged = g.max_pages > 0 || g.pages > 0 || g.page_size > 0;
  if (is_paged && g.page_size < 1) throw InvalidProblem(text("page_size: at least 1 required, got ", g.page_size));
  if (is_paged && (g.capacity > 0 || g.cache_batch_idx))
    throw InvalidProblem(text(g.capacity > 0 ? "capacity" : "cache_batch_idx",
                              ": not with pages, of which block_table has those of each sequence"));
  if (!is_paged && !g.cache_batch_idx && g.sequences != g.batch)
    throw InvalidProblem(text("sequences: ", g.batch, ", those of k and v, required without cache_batch_idx, got ",
                              g.sequences, "; cache_batch_idx says which of a larger cache are meant"));
  if (g.offsets != DType::i32 && g.offsets != DType::i64)
    throw Unsupported(text("operand offsets: dtype int32 or int64 required, got ", name(g.offsets)));
  const bool quantises = g.cache == DType::fp8_e4m3 || g.cache == DType::fp8_e5m2 || g.cache == DType::i8;
  if (g.cache != g.dtype && (!quantises || g.dtype == DType::f64)) {
    throw Unsupported(text("operand k_cache: dtype ", name(g.dtype),
                           g.dtype == DType::f64 ? "" : ", float8_e4m3fn, float8_e5m2 or int8", " required for new rows of ",
                           name(g.dtype), ", got ", name(g.cache)));
  }
  if (g.scales_by_head && g.cache == g.dtype)
    throw InvalidProblem(text("scales_by_head: a quantised cache required, got ", name(g.cache)));
  if (g.heads_q > 0 && g.table_rows == 0)
    throw InvalidProblem("operand q: cos and sin required with it: it is here to be turned as k is");
  if (g.table_rows > 0 && (g.rotary_dim < 0 || g.rotary_dim > g.dim || g.rotary_dim % 2 != 0))
    throw InvalidProblem(text("rotary_dim: an even number up to dim, ", g.dim, ", required, got ", g.rotary_dim));
}

KvCacheAppendDescriptor KvCacheAppend::resolve(KvCacheAppendDescriptor g) {
  if (g.dim_v == 0) g.dim_v = g.dim;
  if (g.cache == DType::none) g.cache = g.dtype;
  if (g.sequences == 0 && !g.cache_batch_idx && g.max_pages == 0) g.sequences = g.batch;
  if (g.table_rows > 0 && g.rotary_dim == 0) g.rotary_dim = g.dim;
  return g;
}

bool KvCacheAppend::is_empty(const KvCacheAppendDescriptor& g) {
  return g.batch == 0 || g.seq == 0 || g.heads + g.heads_q == 0;
}

double KvCacheAppend::rows(const KvCacheAppendDescriptor& g) {
  return static_cast<double>(g.varlen ? 1 : g.batch) * static_cast<double>(2 * g.heads + g.heads_q) *
         static_cast<double>(g.seq);
}

double KvCacheAppend::bytes(const KvCacheAppendDescriptor& g) {
  const double rows = static_cast<double>(g.seq) * static_cast<double>(g.varlen ? 1 : g.batch);
  return rows *
         (static_cast<double>(g.heads * (g.dim + g.dim_v)) * (bits(g.dtype) + bits(g.cache)) +
          static_cast<double>(g.heads_q * g.dim) * 2 * bits(g.dtype)) /
         8;
}

void KvCacheAppend::write(tuning::Key& key, const KvCacheAppendDescriptor& g) {
  key.field("batch", g.batch).field("heads", g.heads).field("seq", g.seq).field("dim", g.dim).field("dim_v", g.dim_v);
  key.field("dtype", name(g.dtype)).field("cache", name(g.cache)).field("layout", name(g.layout)).word("varlen", g.varlen);
  key.field("page_size", g.page_size).field("heads_q", g.heads_q).word("tables", g.table_rows > 0);
}

/// Bits, where the cache has the rows' type and nothing is turned. Turned: as RopePlan. Quantised: in units of the scale, of magnitude
/// |x| / scale, or for what is turned, and rounded to its type before it is divided, (|x_i| + |x_j|) / scale.
PrecisionGuarantee KvCacheAppend::precision(const Kernel&, int, const KvCacheAppendDescriptor& g) {
  PrecisionGuarantee p;
  p.math = p.accumulator = g.dtype == DType::f64 ? DType::f64 : DType::f32;
  p.deterministic = p.bit_stable_on_same_hardware = p.batch_invariant = true;
  const double unit = g.dtype == DType::f64 ? 0x1p-53 : 0x1p-24;
  const bool turns = g.table_rows > 0, quantises = g.cache != g.dtype;
  p.largest = std::numeric_limits<double>::infinity();
  if (turns || quantises) p.evaluation = error_of_roundings((turns ? 3 : 0) + (quantises ? 1 : 0), unit);
  if (turns && quantises) p.evaluation += g.dtype == DType::bf16 ? 0x1p-8 : g.dtype == DType::f16 ? 0x1p-11 : unit;
  if (quantises) {
    p.rounding = g.cache == DType::fp8_e4m3 ? 0x1p-4 : g.cache == DType::fp8_e5m2 ? 0x1p-3 : 0;
    p.smallest = g.cache == DType::fp8_e4m3 ? 0x1p-10 : g.cache == DType::fp8_e5m2 ? 0x1p-17 : 0.5;
    p.largest = g.cache == DType::fp8_e4m3 ? 448 : g.cache == DType::fp8_e5m2 ? 57344 : 127;
  } else if (turns) {
    set_output_type(p, g.dtype);
  }
  return p;
}

namespace {

/// What only a host plan can look into: every row has its place, or the caller counts those that have none.
void check_lengths(const KvCacheAppendDescriptor& g, const AppendProblem& p) {
  const std::int32_t* const bounds = p.cu_seqlens;
  check_bounds(bounds, g.batch, g.seq);
  if (p.rejected != nullptr) return;
  for (int64_t batch = 0; batch < g.batch; ++batch) {
    const int64_t rows = bounds != nullptr ? bounds[batch + 1] - bounds[batch] : g.seq;
    if (rows == 0) continue;
    const int64_t first = get(p.offsets, batch), room = p.max_pages > 0 ? p.max_pages * p.page_size : p.capacity;
    if (first < 0 || first > room - rows)
      throw InvalidProblem(text("operand offsets: from 0 to ", room - rows, " required for ", rows, " new rows, ",
                                p.max_pages > 0 ? "block_table having room for " : "the cache having room for ", room,
                                ", got ", first, " at index ", batch,
                                "; with `rejected` such rows are left out and counted"));
    if (p.cache_batch_idx.data != nullptr) {
      const int64_t sequence = get(p.cache_batch_idx, batch);
      if (sequence < 0 || sequence >= p.sequences)
        throw InvalidProblem(text("operand cache_batch_idx: from 0 to ", p.sequences - 1, " required, got ", sequence,
                                  " at index ", batch, "; with `rejected` such rows are left out and counted"));
    }
    for (int64_t page = first / std::max<int64_t>(p.page_size, 1);
         p.max_pages > 0 && page <= (first + rows - 1) / p.page_size; ++page) {
      const int64_t entry = p.block_table[batch * p.table_sequence + page * p.table_page];
      if (entry < 0 || entry >= p.pages)
        throw InvalidProblem(text("operand block_table: pages from 0 to ", p.pages - 1, " required, got ", entry, " at [",
                                  batch, ", ", page, "]; with `rejected` such rows are left out and counted"));
    }
    if (p.pairs[p.k] > 0 && first + rows > p.tables.rows)
      throw InvalidProblem(
          text("operand cos: a row for each position up to ", first + rows - 1, " required, got ", p.tables.rows));
  }
}

}  // namespace

AppendProblem KvCacheAppend::problem(const KvCacheAppendDescriptor& g, const Selection<Kernel>& s, const Operands&,
                                     const KvCacheAppendArguments&, const Places& at) {
  constexpr const auto& table = append_operands;
  const auto place = [&](TensorView KvCacheAppendArguments::* member) -> const Placed& {
    return at[index_of(table, member)];
  };
  const bool heads_first = g.layout == FmhaLayout::bhsd, is_paged = g.max_pages > 0,
             pages_have_heads_first = is_paged ? g.page_layout == PageLayout::hnd : heads_first;
  AppendProblem p{};
  p.batch = g.batch;
  p.rows = g.seq;
  p.packed = g.varlen;
  p.interleaved = g.interleaved;
  const std::int64_t pairs = g.table_rows > 0 ? g.rotary_dim / 2 : 0;
  const auto set = [&](int tensor, int64_t heads, int64_t dim, int64_t turned, const Placed& from, const Heads& to) {
    p.heads[tensor] = heads;
    p.dim[tensor] = dim;
    p.pairs[tensor] = turned;
    p.from[tensor] = heads_of(from, g.varlen, heads_first);
    p.to[tensor] = to;
  };
  set(p.k, g.heads, g.dim, pairs, place(&CA::k), heads_of(place(&CA::k_cache), false, pages_have_heads_first));
  set(p.v, g.heads, g.dim_v, 0, place(&CA::v), heads_of(place(&CA::v_cache), false, pages_have_heads_first));
  set(p.q, g.heads_q, g.dim, pairs, place(&CA::q), heads_of(place(&CA::q_out), g.varlen, heads_first));
  p.cache_type = g.cache;
  p.sequences = g.sequences;
  p.capacity = g.capacity;
  p.pages = g.pages;
  p.page_size = g.page_size;
  p.max_pages = g.max_pages;
  const Placed& blocks = place(&CA::block_table);
  p.block_table = static_cast<const std::int32_t*>(blocks.data);
  p.table_sequence = blocks.strides[0];
  p.table_page = blocks.strides[1];
  p.offsets = integers_of(place(&CA::offsets), g.offsets);
  p.lengths_out = integers_of(place(&CA::lengths_out), g.offsets);
  p.cache_batch_idx = integers_of(place(&CA::cache_batch_idx), DType::i32);
  p.cu_seqlens = static_cast<const std::int32_t*>(place(&CA::cu_seqlens).data);
  p.tables = tables_of(place(&CA::cos), place(&CA::sin), g.table_rows);
  for (const int tensor : {p.k, p.v}) {
    const Placed& scale = place(tensor == p.k ? &CA::k_scale : &CA::v_scale);
    p.scale[tensor] = static_cast<const float*>(scale.data);
    p.scale_stride[tensor] = g.scales_by_head ? scale.strides[0] : 0;
  }
  p.rejected = static_cast<std::int32_t*>(place(&CA::rejected).data);
  if (s.device.type == DeviceType::cpu) check_lengths(g, p);

  // A cache's pieces have as many elements, which may be narrower.
  const int of_cache = 16 / (bits(g.dtype) / 8) * (bits(g.cache) / 8);
  p.wide = in_pieces(nullptr, {g.dim, g.dim_v, (g.interleaved ? 2 : 1) * pairs}, g.dtype) &&
           in_pieces(p.to[p.k], g.cache, of_cache) && in_pieces(p.to[p.v], g.cache, of_cache) &&
           in_pieces(p.to[p.q], g.dtype);
  for (const Heads& from : p.from) p.wide = p.wide && in_pieces(from, g.dtype);
  return p;
}

void KvCacheAppend::run(const Selection<Kernel>& s, const AppendProblem& p, const KvCacheAppendArguments&,
                        const CallSite& site) {
  if (p.batch == 0 && !p.packed) return;  // packed rows of no sequence are counted
  for (int i = 0; i < site.repeats; ++i) s.kernel->append(p, {site.stream, site.workspace, s.sm_count});
}

}  // namespace attention_ops

KvCacheAppendDescriptor describe(const KvCacheAppendArguments& args, const KvCacheAppendDescriptor& options) {
  KvCacheAppendDescriptor g = options;
  check_rank("k", args.k, 3, 4);
  check_rank("v", args.v, args.k.rank, args.k.rank);
  check_rank("k_cache", args.k_cache, 4, 4);
  check_rank("v_cache", args.v_cache, 4, 4);
  check_rank("offsets", args.offsets, 1, 1);
  const bool heads_first = g.layout == FmhaLayout::bhsd;
  g.varlen = args.k.rank == 3;
  const int first = g.varlen ? 0 : 1;
  g.batch = g.varlen ? args.offsets.shape[0] : args.k.shape[0];
  g.heads = args.k.shape[first + (heads_first ? 0 : 1)];
  g.seq = args.k.shape[first + (heads_first ? 1 : 0)];
  g.dim = args.k.shape[first + 2];
  g.dim_v = args.v.shape[first + 2];
  g.dtype = args.k.dtype;
  g.cache = args.k_cache.dtype;
  g.offsets = args.offsets.dtype;
  const std::int64_t* const cache = args.k_cache.shape;
  if (args.block_table.present()) {
    check_rank("block_table", args.block_table, 2, 2);
    g.pages = cache[0];
    g.page_size = cache[g.page_layout == PageLayout::hnd ? 2 : 1];
    g.max_pages = args.block_table.shape[1];
  } else {
    g.sequences = cache[0];
    g.capacity = cache[heads_first ? 2 : 1];
  }
  g.cache_batch_idx = args.cache_batch_idx.present();
  g.lengths_out = args.lengths_out.present();
  g.rejected = args.rejected.present();
  if (args.cos.present() || args.sin.present()) {
    check_rank("cos", args.cos, 2, 2);
    check_rank("sin", args.sin, 2, 2);
    g.table_rows = args.cos.shape[0];
    g.rotary_dim = 2 * args.cos.shape[1];
  }
  if (args.q.present()) {
    check_rank("q", args.q, args.k.rank, args.k.rank);
    g.heads_q = args.q.shape[first + (heads_first ? 0 : 1)];
  }
  if (args.k_scale.present()) {
    check_rank("k_scale", args.k_scale, 1, 1);
    g.scales_by_head = args.k_scale.shape[0] != 1 || g.heads == 1;
  }
  return g;
}

}  // namespace cutplan
