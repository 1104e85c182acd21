// The ops around attention: their descriptors and plans.
#include "attention_ops/operands.hpp"

#include "plans.hpp"

namespace cutplan::bindings {

template <>
inline constexpr Spelling<Distance, 2> spelling<Distance> = {
    nullptr, "DistanceLike", {Distance::signed_, Distance::absolute}};

template <>
inline constexpr Spelling<PageLayout, 2> spelling<PageLayout> = {
    nullptr, "PageLayoutLike", {PageLayout::nhd, PageLayout::hnd}};

template <>
inline constexpr auto fields<KvCacheAppendDescriptor> = std::make_tuple(
    field("batch", &KvCacheAppendDescriptor::batch, "Sequences."), required("heads", &KvCacheAppendDescriptor::heads),
    required("seq", &KvCacheAppendDescriptor::seq, "New rows."), required("dim", &KvCacheAppendDescriptor::dim, "Of K."),
    field("dim_v", &KvCacheAppendDescriptor::dim_v, "Of V; 0: dim."), required("dtype", &KvCacheAppendDescriptor::dtype),
    settled("cache", &KvCacheAppendDescriptor::cache, "Of the caches."), field("layout", &KvCacheAppendDescriptor::layout),
    field("varlen", &KvCacheAppendDescriptor::varlen, "Sequences lie one after the other."),
    field("sequences", &KvCacheAppendDescriptor::sequences, "Of a cache without pages; 0: batch."),
    field("capacity", &KvCacheAppendDescriptor::capacity, "Rows of a sequence in a cache without pages."),
    field("pages", &KvCacheAppendDescriptor::pages), field("page_size", &KvCacheAppendDescriptor::page_size),
    field("max_pages", &KvCacheAppendDescriptor::max_pages, "Of a sequence; 0: the cache has no pages."),
    field("page_layout", &KvCacheAppendDescriptor::page_layout), field("offsets", &KvCacheAppendDescriptor::offsets),
    field("cache_batch_idx", &KvCacheAppendDescriptor::cache_batch_idx),
    field("lengths_out", &KvCacheAppendDescriptor::lengths_out), field("rejected", &KvCacheAppendDescriptor::rejected),
    field("table_rows", &KvCacheAppendDescriptor::table_rows, "Of cos and sin; 0: nothing is turned."),
    field("rotary_dim", &KvCacheAppendDescriptor::rotary_dim, "0: dim."),
    field("interleaved", &KvCacheAppendDescriptor::interleaved),
    field("heads_q", &KvCacheAppendDescriptor::heads_q, "0: without Q."),
    field("scales_by_head", &KvCacheAppendDescriptor::scales_by_head));

template <>
inline constexpr Spelling<RopeScalingKind, 5> spelling<RopeScalingKind> = {
    nullptr,
    "RopeScalingLike",
    {RopeScalingKind::none, RopeScalingKind::linear, RopeScalingKind::ntk, RopeScalingKind::yarn, RopeScalingKind::llama3}};

template <>
inline constexpr auto fields<RopeScaling> = std::make_tuple(
    Field<RopeScaling, RopeScalingKind>{"kind", &RopeScaling::kind, "", Given::positional},
    field("factor", &RopeScaling::factor, "Of the length."),
    field("original_max_position", &RopeScaling::original_max_position, "yarn, llama3: the length of training."),
    field("beta_fast", &RopeScaling::beta_fast, "yarn."), field("beta_slow", &RopeScaling::beta_slow, "yarn."),
    field("attention_factor", &RopeScaling::attention_factor, "yarn: of cos and sin; 0: 0.1 ln(factor) + 1."),
    field("low_freq_factor", &RopeScaling::low_freq_factor, "llama3."),
    field("high_freq_factor", &RopeScaling::high_freq_factor, "llama3."));

template <>
inline constexpr auto fields<RopeDescriptor> = std::make_tuple(
    field("batch", &RopeDescriptor::batch, "Sequences."), required("heads", &RopeDescriptor::heads),
    field("heads_k", &RopeDescriptor::heads_k, "Of k; 0: there is none."), required("seq", &RopeDescriptor::seq),
    required("dim", &RopeDescriptor::dim, "Of a head."), field("rotary_dim", &RopeDescriptor::rotary_dim, "0: dim."),
    required("dtype", &RopeDescriptor::dtype), field("layout", &RopeDescriptor::layout),
    field("varlen", &RopeDescriptor::varlen, "Sequences lie one after the other."),
    field("interleaved", &RopeDescriptor::interleaved, "Pairs (2i, 2i + 1), and not (i, i + rotary_dim / 2)."),
    field("table_rows", &RopeDescriptor::table_rows, "Of cos and sin; 0: angles by base."),
    field("base", &RopeDescriptor::base), field("scaling", &RopeDescriptor::scaling),
    field("positions", &RopeDescriptor::positions, "Their type; None: rows' own numbers."),
    field("batch_positions", &RopeDescriptor::batch_positions, "[B, S], and not [S]."),
    field("offsets", &RopeDescriptor::offsets, "Their type; None: 0."));

template <>
inline constexpr auto fields<RopeBackwardDescriptor> = std::make_tuple(
    Field<RopeBackwardDescriptor, RopeDescriptor>{"forward", &RopeBackwardDescriptor::forward, "", Given::positional});

template <>
inline constexpr auto fields<MergeStatesDescriptor> = std::make_tuple(
    field("parts", &MergeStatesDescriptor::parts), field("batch", &MergeStatesDescriptor::batch),
    required("heads", &MergeStatesDescriptor::heads), required("rows", &MergeStatesDescriptor::rows, "Queries."),
    required("dim", &MergeStatesDescriptor::dim, "Head dimension of O."),
    required("dtype", &MergeStatesDescriptor::dtype, "Of the parts."),
    settled("o", &MergeStatesDescriptor::o, "Of the result."), field("layout", &MergeStatesDescriptor::layout),
    field("varlen", &MergeStatesDescriptor::varlen, "Sequences lie one after the other."),
    field("apart", &MergeStatesDescriptor::apart, "Two parts, each in tensors of its own."),
    field("lse", &MergeStatesDescriptor::lse, "Whether run() writes LSE."));

template <>
inline constexpr auto fields<AlibiDescriptor> =
    std::make_tuple(field("batch", &AlibiDescriptor::batch), required("heads", &AlibiDescriptor::heads),
                    required("seq_q", &AlibiDescriptor::seq_q), required("seq_k", &AlibiDescriptor::seq_k),
                    required("dtype", &AlibiDescriptor::dtype), field("distance", &AlibiDescriptor::distance),
                    field("align", &AlibiDescriptor::align));

template <>
inline constexpr auto fields<AlibiBackwardDescriptor> = std::make_tuple(
    Field<AlibiBackwardDescriptor, AlibiDescriptor>{"forward", &AlibiBackwardDescriptor::forward, "", Given::positional},
    field("dscores", &AlibiBackwardDescriptor::dscores), field("dslopes", &AlibiBackwardDescriptor::dslopes));

void settle(MergeStatesDescriptor& d, const Keywords&) {
  if (d.o == DType::none) d.o = d.dtype;
}

template <>
struct Face<MergeStatesPlan> : PlainFace {
  using A = MergeStatesArguments;
  using Options = MergeStatesDescriptor;
  static constexpr char name[] = "MergeStatesPlan", family[] = "merge_states", call[] = "merge_states",
                        kernels[] = "merge_states_kernels", result_type_name[] = "out_dtype";
  static constexpr const auto& operands = attention_ops::merge_operands;
  static constexpr auto options = std::make_tuple(field("layout", &MergeStatesDescriptor::layout));
  static constexpr auto like = &A::o, result = &A::out;
  static constexpr auto result_type = &MergeStatesDescriptor::o;
};

template <>
struct Face<AlibiPlan> : PlainFace {
  using A = AlibiArguments;
  using Options = AlibiDescriptor;
  static constexpr char name[] = "AlibiPlan", family[] = "alibi", call[] = "alibi", kernels[] = "alibi_kernels",
                        result_type_name[] = "out_dtype";
  static constexpr const auto& operands = attention_ops::alibi_operands;
  static constexpr auto options =
      std::make_tuple(field("distance", &AlibiDescriptor::distance), field("align", &AlibiDescriptor::align));
  static constexpr auto like = &A::scores, result = &A::out;
  static constexpr auto result_type = &AlibiDescriptor::dtype;
};

template <>
struct Face<AlibiBackwardPlan> : PlainFace {
  using A = AlibiBackwardArguments;
  using Options = AlibiDescriptor;
  static constexpr char name[] = "AlibiBackwardPlan", family[] = "alibi_backward", call[] = "alibi_backward",
                        kernels[] = "alibi_backward_kernels", result_type_name[] = "out_dtype", result_called[] = "dscores";
  static constexpr const auto& operands = attention_ops::alibi_backward_operands;
  static constexpr auto options = Face<AlibiPlan>::options;
  static constexpr auto like = &A::grad, result = &A::dscores;
  static constexpr DType AlibiBackwardDescriptor::* result_type = nullptr;
  static const char* asked_by(std::size_t i) { return operands[i].member == &A::grad ? nullptr : operands[i].name; }
};

void settle(KvCacheAppendDescriptor& d, const Keywords&) {
  if (d.cache == DType::none) d.cache = d.dtype;
}

template <>
struct Face<KvCacheAppendPlan> : PlainFace {
  using A = KvCacheAppendArguments;
  using Options = KvCacheAppendDescriptor;
  static constexpr char name[] = "KvCacheAppendPlan", family[] = "kv_cache_append", call[] = "kv_cache_append",
                        kernels[] = "kv_cache_append_kernels", result_type_name[] = "out_dtype", result_called[] = "k_cache";
  static constexpr const auto& operands = attention_ops::append_operands;
  static constexpr auto options = std::make_tuple(field("layout", &KvCacheAppendDescriptor::layout),
                                                  field("page_layout", &KvCacheAppendDescriptor::page_layout),
                                                  field("interleaved", &KvCacheAppendDescriptor::interleaved));
  static constexpr auto like = &A::k, result = &A::k_cache;
  static constexpr auto result_type = &KvCacheAppendDescriptor::cache;
};

struct RopeFace : PlainFace {
  using Options = RopeDescriptor;
  static constexpr char result_type_name[] = "out_dtype";
  static constexpr auto options =
      std::make_tuple(field("layout", &RopeDescriptor::layout), field("rotary_dim", &RopeDescriptor::rotary_dim),
                      field("interleaved", &RopeDescriptor::interleaved), field("base", &RopeDescriptor::base),
                      field("scaling", &RopeDescriptor::scaling));
};

template <>
struct Face<RopePlan> : RopeFace {
  using A = RopeArguments;
  static constexpr char name[] = "RopePlan", family[] = "rope", call[] = "rope", kernels[] = "rope_kernels";
  static constexpr const auto& operands = attention_ops::rope_operands;
  static constexpr auto like = &A::x, result = &A::out;
  static constexpr auto result_type = &RopeDescriptor::dtype;
};

template <>
struct Face<RopeBackwardPlan> : RopeFace {
  using A = RopeBackwardArguments;
  static constexpr char name[] = "RopeBackwardPlan", family[] = "rope_backward", call[] = "rope_backward",
                        kernels[] = "rope_backward_kernels";
  static constexpr const auto& operands = attention_ops::rope_backward_operands;
  static constexpr TensorView A::*like = &A::x, A::*result = &A::out;
  static constexpr DType RopeBackwardDescriptor::* result_type = nullptr;
};

void bind_attention_ops(nb::module_& m) {
  bind_value<RopeScaling>(m, "RopeScaling", "How frequencies of rotary embedding are stretched for longer sequences.",
                          "`kind`: 'none', 'linear', 'ntk', 'yarn' (Peng et al. 2024), 'llama3'.");
  bind_value<RopeDescriptor>(
      m, "RopeDescriptor",
      "Rotary position embedding: pairs of elements of a row at position t are turned by t base^(-2i / rotary_dim).",
      "With varlen, seq counts the rows of all sequences together. `table_rows`: angles are read from tables of cosines and "
      "sines.");
  bind_value<RopeBackwardDescriptor>(m, "RopeBackwardDescriptor", "The gradient of rotary embedding: it turns back.", "");
  bind_value<MergeStatesDescriptor>(
      m, "MergeStatesDescriptor",
      "`parts` results of attention over disjoint keys become one: lse = log(sum_p exp(lse_p)), o = sum_p exp(lse_p - lse) "
      "o_p.",
      "`rows` are queries, with varlen those of all sequences together; `o` is the type of the result, dtype or float32.");
  bind_value<AlibiDescriptor>(
      m, "AlibiDescriptor", "Scores in memory: y = scores + slope_h distance(i, j), ALiBi's linear biases.",
      "distance 'signed': j - (i + off); 'absolute', as attention's own: -|i + off - j|. off is 0 for align 'top_left',\n"
      "seq_k - seq_q for 'bottom_right'.");
  bind_value<AlibiBackwardDescriptor>(m, "AlibiBackwardDescriptor", "The gradients of ALiBi on scores in memory.",
                                      "`dscores` and `dslopes` are the gradients that run() writes; one at least.");
  m.def("attention_ops_registry", &attention_ops_registry, "Every kernel of the ops around attention in this build.");

  CallsOf<MergeStatesPlan>::bind(
      m, "A kernel that merges partial results of attention, chosen for one descriptor and device.",
      "Shapes, with layout bhsd: o [P, B, H, S, D] and lse float32 [P, B, H, S]; or two parts apart, o and o2 [B, H, S, D], "
      "lse\n"
      "and lse2 [B, H, S]; out [B, H, S, D], out_lse [B, H, S]. With varlen there is no B; with layout bshd heads and rows\n"
      "change places in all but the lse's. Of parts apart, out may be o or o2 itself.\n\n"
      "A part whose lse is -inf has no weight, whatever its o holds; a row of such parts alone has o 0 and lse -inf.",
      "");
  CallsOf<AlibiPlan>::bind(
      m, "A kernel that adds ALiBi's biases to scores, chosen for one descriptor and device.",
      "out = scores + slope_h distance(i, j): scores and out [B, H, Q, K], any strides, out may be scores\n"
      "itself; slopes [H], float32, or float64 with float64 scores.",
      "");
  CallsOf<AlibiBackwardPlan>::bind(
      m, "A kernel for the gradients of ALiBi on scores, chosen for one descriptor and device.",
      "dscores, of the shape of grad, is a copy of it, and costs nothing where it is grad itself; dslopes [H] = sum grad\n"
      "distance(i, j), float32, or float64 with float64 scores. The same inputs give the same bits.",
      "");
  bind_value<KvCacheAppendDescriptor>(
      m, "KvCacheAppendDescriptor", "New rows of K and V go into caches, at offsets that lie in device memory.",
      "With varlen, seq counts the rows of all sequences together. A cache is one tensor of `sequences` of `capacity` rows, "
      "or\n"
      "`pages` of `page_size` rows. `cache`: dtype, float8_e4m3fn, float8_e5m2 or int8, with scales.");
  CallsOf<KvCacheAppendPlan>::bind(
      m, "A kernel that appends to caches of keys and values, chosen for one descriptor and device.",
      "Row i of sequence b of k [B, H, L, D] and v [B, H, L, Dv] goes to row offsets[b] + i of its cache. Caches [Bc, H, "
      "Smax, D],\n"
      "with layout bshd heads and rows change places, cache_batch_idx int32 [B] says which sequence of the cache is meant; "
      "or\n"
      "pages, nhd [pages, page_size, H, D] or hnd [pages, H, page_size, D], with block_table int32 [B, max_pages]. With "
      "varlen k\n"
      "and v have no B, and cu_seqlens is int32 [B + 1]. cos, sin float32 [positions, rotary_dim / 2] turn k, and q into "
      "q_out, at\n"
      "the rows' new places. k_scale, v_scale float32 [1] or [H], of quantised caches: x / scale, to nearest even, "
      "saturated.\n"
      "lengths_out [B] gets offsets + L.\n\n"
      "A row that does not fit is not written and adds one to rejected, int32 [1]; on the host, without it, it is refused.",
      "");
  CallsOf<RopePlan>::bind(
      m, "A kernel for rotary embedding, chosen for one descriptor and device.",
      "x, out [B, H, S, D] and, turned in the same launch, k, k_out [B, Hk, S, D]; with layout bshd heads and rows change "
      "places;\n"
      "with varlen there is no B, and cu_seqlens is int32 [B + 1] where there are no positions. cos, sin float32 [P, "
      "rotary_dim /\n"
      "2]; positions [S] or [B, S], packed [T]; offsets [B], added to rows' numbers. out may be x itself, k_out k.\n\n"
      "A position that the tables have no row for is refused on the host, and makes NaN on a device.",
      "");
  CallsOf<RopeBackwardPlan>::bind(
      m, "A kernel for the gradient of rotary embedding, chosen for one descriptor and device.",
      "Gradients of x and k into dx and dk, given those of out and k_out: RopePlan.run's operands else.", "");
}

}  // namespace cutplan::bindings
