// Fused multi-head attention, forward and backward: O = softmax(scores) V without ever holding the scores.
//
// Score of query i and key j of one head, in this order:
//     s = scale * q_i . k_j;  softcap > 0: s = softcap * tanh(s / softcap);  s -= slope * |i + off - j|;  s += bias_ij
// where `off` is 0 for top-left alignment and Sk - Sq for bottom-right. A key takes part where all of these hold: j < Sk,
// causal: j <= i + off, window: i + off - left <= j <= i + off + right, mask_ij is true. Softmax runs over the keys that
// take part, with the sink, where there is one, as one more logit that has no value. A row without any logit has O = 0, LSE
// = -inf and zero gradients. Sk and Sq are the lengths of the sequence at hand where these are given as tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cutplan/plan.hpp"

namespace cutplan {

/// Order of the dimensions of Q, K, V, O and their gradients: batch, head, sequence, head dimension.
enum class FmhaLayout : std::uint8_t { bhsd, bshd };

/// Which corner of the score matrix the diagonal runs through.
enum class Align : std::uint8_t { bottom_right, top_left };

/// Causal masking, and the alignment that then governs window and ALiBi as well.
enum class Causal : std::uint8_t { none, top_left, bottom_right };

constexpr const char* name(FmhaLayout l) noexcept { return l == FmhaLayout::bhsd ? "bhsd" : "bshd"; }
constexpr const char* name(Align a) noexcept { return a == Align::top_left ? "top_left" : "bottom_right"; }
constexpr const char* name(Causal c) noexcept {
  return c == Causal::none ? "none" : c == Causal::top_left ? "top_left" : "bottom_right";
}

/// Keys to either side of the diagonal; -1: no limit.
struct Window {
  std::int64_t left = -1, right = -1;

  constexpr bool operator==(const Window& w) const noexcept { return left == w.left && right == w.right; }
  constexpr bool limits() const noexcept { return left >= 0 || right >= 0; }
};

struct FmhaDescriptor {
  std::int64_t batch = 1;
  std::int64_t heads = 1, heads_k = 0;  // of Q and of K and V; heads is a multiple of heads_k. 0: heads
  std::int64_t seq_q = 0, seq_k = 0;    // rows of one batch entry; packed: rows of all sequences together
  std::int64_t dim = 0, dim_v = 0;      // head dimension of Q and K, and of V and O; 0: dim
  DType dtype = DType::none;            // of Q, K and V
  DType o = DType::none;                // of O; none: dtype
  FmhaLayout layout = FmhaLayout::bhsd;
  bool varlen = false;  // `batch` sequences one after the other, bounded by cu_seqlens
  Causal causal = Causal::none;
  Align align = Align::bottom_right;  // of window and ALiBi where causal is none
  Window window;
  double softcap = 0;  // 0: none
  bool alibi = false, mask = false, sink = false, seqused_k = false, dropout = false;
  DType bias = DType::none;  // none: no bias; otherwise dtype or float32
  bool lse = false;          // whether run() writes LSE
};

/// Shapes, with layout bhsd: q [B, H, Sq, D], k [B, Hk, Sk, D], v [B, Hk, Sk, Dv], o [B, H, Sq, Dv], lse [B, H, Sq]; packed:
/// q [H, Tq, D], k [Hk, Tk, D], v [Hk, Tk, Dv], o [H, Tq, Dv], lse [H, Tq]. With layout bshd heads and sequence change
/// places in all but lse. Last dimensions are contiguous; outer strides are free, 0 only on inputs. bias and mask (bool,
/// true: takes part): shapes that broadcast to [B, H, Sq, Sk]. alibi_slopes: [H] or [B, H]; sink: [H]; both, and their
/// gradients, float32 or of the operands' type. seqused_k: int32 [B], lengths of K and V. cu_seqlens_q and _k: int32 [B +
/// 1], from 0 to Tq and Tk. rng_state: int64 [2], seed and offset, on the plan's device.
struct FmhaArguments {
  TensorView q, k, v, o, lse;
  TensorView bias, mask, alibi_slopes, sink, seqused_k, cu_seqlens_q, cu_seqlens_k, rng_state;
  std::optional<double> scale;  // none: 1 / sqrt(D)
  double dropout_p = 0;         // probability of dropping, in [0, 1); kept weights are scaled by 1 / (1 - p)
};

/// Lengths in device memory are not read by the host: a kernel treats cu_seqlens entries outside [0, T], a decreasing pair and
/// seqused_k outside [0, Sk] as clamped to these, and never reads or writes outside the operands. On the host they are checked
/// and refused. LSE is the natural logarithm of the sum of exponentials, sink included.
using FmhaPlan = Plan<FmhaDescriptor, FmhaArguments>;
extern template class CUTPLAN_API Plan<FmhaDescriptor, FmhaArguments>;

struct FmhaBackwardDescriptor {
  FmhaDescriptor forward;                                    // of the pass whose gradients are wanted
  DType grad = DType::none;                                  // of dq, dk and dv: dtype or float32; none: dtype
  bool dbias = false, dalibi_slopes = false, dsink = false;  // which further gradients run() writes
};

/// The forward's operands, with the o and lse that it wrote, and: grad, the gradient of o, of o's shape and the operands'
/// type; dq, dk, dv of the shapes of q, k, v; dbias of the bias's shape and type, summed where it is broadcast (an extent of
/// 1); dalibi_slopes and dsink of the shapes of alibi_slopes and sink.
struct FmhaBackwardArguments : FmhaArguments {
  TensorView grad, dq, dk, dv, dbias, dalibi_slopes, dsink;
};

using FmhaBackwardPlan = Plan<FmhaBackwardDescriptor, FmhaBackwardArguments>;
extern template class CUTPLAN_API Plan<FmhaBackwardDescriptor, FmhaBackwardArguments>;

/// The descriptor that these arguments fit: extents, types and options read off the tensors. What tensors do not tell
/// (layout, causal, align, window, softcap) is taken from `options`.
CUTPLAN_API FmhaDescriptor describe(const FmhaArguments& arguments, const FmhaDescriptor& options);
CUTPLAN_API FmhaBackwardDescriptor describe(const FmhaBackwardArguments& arguments, const FmhaDescriptor& options);

/// One row of the support table: what a kernel family serves, forward and backward.
struct FmhaSupport {
  Arch arch;
  DType operand;
  std::vector<DType> o;
  int largest_dim;
  int minimum_compute_capability;  // 0: none needed
  std::string note;
};

/// The rows that this build holds.
CUTPLAN_API std::vector<FmhaSupport> fmha_support();

/// Every attention kernel of this build, by SKU name.
CUTPLAN_API std::vector<KernelSku> fmha_registry();

}  // namespace cutplan
