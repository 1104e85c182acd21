// The ops around attention: caches of keys and values, rotary embedding, ALiBi on scores in memory, merging of states.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cutplan/fmha.hpp"

namespace cutplan {

// ---- merging of states ----

/// One result of attention, o and lse, of `parts` over disjoint keys (Ye et al. 2025, "FlashInfer", section 2.2):
///     lse = log(sum_p exp(lse_p)),   o = sum_p exp(lse_p - lse) o_p
/// A part that saw no key of a row has lse -inf and no weight there, whatever its o holds; a row without any key has o 0 and
/// lse -inf.
struct MergeStatesDescriptor {
  std::int64_t parts = 2;
  std::int64_t batch = 1, heads = 1, rows = 0, dim = 0;  // dim: of a head of o
  DType dtype = DType::none;                             // of the parts' o: f32, f16, bf16
  DType o = DType::none;                                 // of the result; none: dtype
  FmhaLayout layout = FmhaLayout::bhsd;
  bool varlen = false;  // no batch: `rows` of all sequences together
  bool apart = false;   // two parts, each in tensors of its own
  bool lse = true;      // whether run() writes the result's LSE
};

/// Shapes, with layout bhsd: o [P, B, H, S, D], lse [P, B, H, S]; apart: o and o2 [B, H, S, D], lse and lse2 [B, H, S]; out [B,
/// H, S, D], out_lse [B, H, S]. Packed ones have no B. With layout bshd heads and rows change places in all but the lse's. Last
/// dimensions of o are contiguous, other strides free. lse: float32, natural logarithm. out may be one of the parts, apart.
struct MergeStatesArguments {
  TensorView o, lse, o2, lse2, out, out_lse;
};

using MergeStatesPlan = Plan<MergeStatesDescriptor, MergeStatesArguments>;
extern template class CUTPLAN_API Plan<MergeStatesDescriptor, MergeStatesArguments>;

// ---- ALiBi ----

/// How far key j is from query i, off being 0 (top_left) or K - Q (bottom_right): j - (i + off), or, as attention's own ALiBi
/// has it, -|i + off - j|.
enum class Distance : std::uint8_t { signed_, absolute };

constexpr const char* name(Distance d) noexcept { return d == Distance::signed_ ? "signed" : "absolute"; }

/// Scores that lie in memory: y = scores + slope_h distance(i, j) (Press et al. 2022, section 3).
struct AlibiDescriptor {
  std::int64_t batch = 1, heads = 1, seq_q = 0, seq_k = 0;
  DType dtype = DType::none;
  Distance distance = Distance::signed_;
  Align align = Align::top_left;
};

/// scores, out [B, H, Q, K], any strides; out may be scores itself. slopes [H]: float32, of float64 scores float64.
struct AlibiArguments {
  TensorView scores, slopes, out;
};

using AlibiPlan = Plan<AlibiDescriptor, AlibiArguments>;
extern template class CUTPLAN_API Plan<AlibiDescriptor, AlibiArguments>;

struct AlibiBackwardDescriptor {
  AlibiDescriptor forward;
  bool dscores = true, dslopes = true;  // which gradients run() writes; one at least
};

/// grad, the gradient of out; dscores of its shape, a copy of it, which costs nothing where it is grad itself; dslopes [H]:
/// float32, of float64 scores float64. The same inputs give the same bits.
struct AlibiBackwardArguments {
  TensorView grad, dscores, dslopes;
};

using AlibiBackwardPlan = Plan<AlibiBackwardDescriptor, AlibiBackwardArguments>;
extern template class CUTPLAN_API Plan<AlibiBackwardDescriptor, AlibiBackwardArguments>;

// ---- rotary embedding ----

/// How frequencies are stretched for sequences longer than those of training. ntk: by another base; yarn: Peng et al. 2024, "YaRN";
/// llama3: as Llama 3.1 does.
enum class RopeScalingKind : std::uint8_t { none, linear, ntk, yarn, llama3 };

constexpr const char* name(RopeScalingKind k) noexcept {
  switch (k) {
    case RopeScalingKind::none: return "none";
    case RopeScalingKind::linear: return "linear";
    case RopeScalingKind::ntk: return "ntk";
    case RopeScalingKind::yarn: return "yarn";
    case RopeScalingKind::llama3: return "llama3";
  }
  return "";
}

struct RopeScaling {
  RopeScalingKind kind = RopeScalingKind::none;
  double factor = 1;                                 // of the length
  std::int64_t original_max_position = 0;            // yarn, llama3: the length of training
  double beta_fast = 32, beta_slow = 1;              // yarn: turns over that length between which frequencies are mixed
  double attention_factor = 0;                       // yarn: of cos and sin; 0: 0.1 ln(factor) + 1
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
};

/// Rotary position embedding (Su et al. 2021, section 3.2): pairs of elements of a row at position t are turned by t f_i, f_i =
/// base^(-2i / rotary_dim), scaled, or by the angles whose cosines and sines are in tables. Pairs are (i, i + rotary_dim / 2), or
/// with `interleaved` (2i, 2i + 1). Elements from rotary_dim on are left as they are.
struct RopeDescriptor {
  std::int64_t batch = 1, heads = 1, heads_k = 0;  // heads_k: of k, turned with x in one launch; 0: there is none
  std::int64_t seq = 0, dim = 0;                   // varlen: rows of all sequences together
  std::int64_t rotary_dim = 0;                     // 0: dim
  DType dtype = DType::none;
  FmhaLayout layout = FmhaLayout::bhsd;
  bool varlen = false, interleaved = false;
  std::int64_t table_rows = 0;  // of cos and sin; 0: by base
  double base = 10000;
  RopeScaling scaling;
  DType positions = DType::none;  // i32 or i64; none: a row's own number in its sequence
  bool batch_positions = false;   // [B, S], and not [S]
  DType offsets = DType::none;    // i32 or i64: added to rows' numbers; none: 0
};

/// x, out [B, H, S, D], k, k_out [B, Hk, S, D], with layout bshd heads and rows change places; packed without B, and with
/// cu_seqlens, int32 [B + 1], where there are no positions. cos, sin: float32 [table_rows, rotary_dim / 2]. positions [S] or [B, S],
/// packed [T]; offsets [B]. out may be x itself, k_out k. A position outside of the tables: refused on the host, NaN on a device.
struct RopeArguments {
  TensorView x, k, out, k_out, cos, sin, positions, offsets, cu_seqlens;
};

using RopePlan = Plan<RopeDescriptor, RopeArguments>;
extern template class CUTPLAN_API Plan<RopeDescriptor, RopeArguments>;

/// The gradient turns the other way: x and k are those of out and k_out, out and k_out those of x and k.
struct RopeBackwardDescriptor {
  RopeDescriptor forward;
};
struct RopeBackwardArguments : RopeArguments {};

using RopeBackwardPlan = Plan<RopeBackwardDescriptor, RopeBackwardArguments>;
extern template class CUTPLAN_API Plan<RopeBackwardDescriptor, RopeBackwardArguments>;

// ---- caches of keys and values ----

/// Order of the dimensions of a page: rows before heads, or after.
enum class PageLayout : std::uint8_t { nhd, hnd };

constexpr const char* name(PageLayout l) noexcept { return l == PageLayout::nhd ? "nhd" : "hnd"; }

/// New rows of K and V go into caches: row i of sequence b to row offsets_b + i of sequence b's cache. A cache is one tensor of all
/// sequences, or pages of which a table has each sequence's. With tables of cosines and sines K is turned on its way, and Q with it.
struct KvCacheAppendDescriptor {
  std::int64_t batch = 1, heads = 1, seq = 0;  // of K and V; varlen: rows of all sequences together
  std::int64_t dim = 0, dim_v = 0;             // of K and of V; 0: dim
  DType dtype = DType::none;                   // of K and V (and Q)
  DType cache = DType::none;                   // of the caches: dtype, e4m3, e5m2 or i8; none: dtype
  FmhaLayout layout = FmhaLayout::bhsd;        // of K, V, Q, and of caches without pages
  bool varlen = false;
  std::int64_t sequences = 0, capacity = 0;  // without pages: of the caches; 0 sequences: batch
  std::int64_t pages = 0, page_size = 0,
               max_pages = 0;  // max_pages: of a sequence, what the table has room for; 0: no pages
  PageLayout page_layout = PageLayout::nhd;
  DType offsets = DType::i32;  // i32 or i64
  bool cache_batch_idx = false, lengths_out = false, rejected = false;
  std::int64_t table_rows = 0, rotary_dim = 0;  // of cos and sin; 0 rows: nothing is turned
  bool interleaved = false;
  std::int64_t heads_q = 0;     // 0: without Q
  bool scales_by_head = false;  // of quantised caches: [H], and not [1]
};

/// k [B, H, L, D], v [B, H, L, Dv], q, q_out [B, Hq, L, D], with layout bshd heads and rows change places; packed without B, and
/// with cu_seqlens, int32 [B + 1]. Caches [Bc, H, Smax, D], with layout bshd [Bc, Smax, H, D]; of pages nhd [pages, page_size, H,
/// D], hnd [pages, H, page_size, D], with block_table, int32 [B, max_pages]. Last dimensions are contiguous. offsets [B];
/// cache_batch_idx: int32 [B], the cache's sequence for each; cos, sin: float32 [table_rows, rotary_dim / 2]. k_scale, v_scale:
/// float32 [1] or [H]: a quantised cache holds x / scale, rounded to nearest even, saturated. lengths_out [B], of offsets' type:
/// offsets + L. rejected: int32 [1].
///
/// A row that does not fit (a negative offset, a row or a page beyond the cache) is not written, and adds one to `rejected`; on the
/// host, without `rejected`, it is refused. Pages that two sequences share hold what was written last, whichever that is.
struct KvCacheAppendArguments {
  TensorView k, v, k_cache, v_cache, offsets;
  TensorView block_table, cu_seqlens, cache_batch_idx, cos, sin, q, q_out, k_scale, v_scale, lengths_out, rejected;
};

using KvCacheAppendPlan = Plan<KvCacheAppendDescriptor, KvCacheAppendArguments>;
extern template class CUTPLAN_API Plan<KvCacheAppendDescriptor, KvCacheAppendArguments>;

// ---- what tensors say ----

/// The descriptor that these arguments fit: what tensors do not tell (layout, distance, align) is taken from `options`.
CUTPLAN_API MergeStatesDescriptor describe(const MergeStatesArguments& arguments, const MergeStatesDescriptor& options);
CUTPLAN_API AlibiDescriptor describe(const AlibiArguments& arguments, const AlibiDescriptor& options);
CUTPLAN_API AlibiBackwardDescriptor describe(const AlibiBackwardArguments& arguments, const AlibiDescriptor& options);
CUTPLAN_API KvCacheAppendDescriptor describe(const KvCacheAppendArguments& arguments,
                                             const KvCacheAppendDescriptor& options);
CUTPLAN_API RopeDescriptor describe(const RopeArguments& arguments, const RopeDescriptor& options);
CUTPLAN_API RopeBackwardDescriptor describe(const RopeBackwardArguments& arguments, const RopeDescriptor& options);

/// Every kernel of these ops in this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> attention_ops_registry();

}  // namespace cutplan
