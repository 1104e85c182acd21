// The contract between the host side of the attention family and its kernels: what a kernel is told, and what it says of
// itself. Plain C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel.hpp"
#include "cutplan/fmha.hpp"

namespace cutplan::fmha {

/// In elements; the last dimension's stride is 1.
struct Strides {
  std::int64_t batch, head, row;
};

/// An operand that broadcasts to [B, H, Sq, Sk]: strides in elements, 0 where it is broadcast.
struct Broadcast {
  std::int64_t batch, head, row, col;
};

/// One checked forward problem, ready to run. Passed to device kernels by value.
struct Problem {
  std::int64_t batch, heads, heads_k;
  std::int64_t seq_q, seq_k;  // rows of one batch entry; packed: of all sequences together, batch strides are 0
  std::int64_t dim, dim_v;
  const void* q;
  const void* k;
  const void* v;
  void* o;
  float* lse;  // null: not wanted
  Strides q_strides, k_strides, v_strides, o_strides;
  std::int64_t lse_batch, lse_head;  // strides; rows are adjacent
  const std::int32_t* cu_seqlens_q;  // null: not packed
  const std::int32_t* cu_seqlens_k;
  const std::int32_t* seqused_k;  // null: all of seq_k

  double scale, softcap;     // softcap 0: none
  std::int64_t left, right;  // of the diagonal, causal included; `unlimited` where there is no bound
  bool top_left;             // off = 0; otherwise len_k - len_q
  const void* alibi_slopes;  // null: none
  DType alibi_type;          // operand or f32
  std::int64_t alibi_batch, alibi_head;
  const void* bias;  // null: none
  DType bias_type;   // operand or f32
  Broadcast bias_strides;
  const std::uint8_t* mask;  // null: none; one byte an element, 0: does not take part
  Broadcast mask_strides;
  const void* sink;               // null: none
  DType sink_type;                // operand or f32
  std::int64_t sink_head;         // stride
  const std::int64_t* rng_state;  // null: no dropout
  std::uint32_t keep_threshold;   // see score.hpp
  float keep_scale;               // 1 without dropout

  DType operand, o_type;
  bool vectorised;  // rows of q, k, v, o (and grad, dq, dk, dv) and their addresses and strides are multiples of 16 bytes
};

inline constexpr std::int64_t unlimited = std::int64_t{1} << 48;

/// One checked backward problem. `forward.o` and `forward.lse` are inputs here.
struct BackwardProblem {
  Problem forward;
  const void* grad;
  void* dq;
  void* dk;
  void* dv;
  Strides grad_strides, dq_strides, dk_strides, dv_strides;
  void* dbias;  // null: not wanted; of bias_type
  Broadcast dbias_strides;
  bool dbias_sums[4];  // over batch, heads, rows, columns: the bias has extent 1 there
  void* dalibi_slopes;
  DType dalibi_type;                       // operand or f32
  std::int64_t dalibi_batch, dalibi_head;  // batch stride used where alibi_sums_batch is false
  bool alibi_sums_batch;                   // slopes are [H]
  void* dsink;
  DType dsink_type;  // operand or f32
  std::int64_t dsink_head;
  DType grad_type;  // of dq, dk, dv
  bool deterministic;
};

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int splits = 1;            // forward: parts that the keys are cut into
  int sm_count = 0;          // SMs to occupy (host: threads)
  std::size_t l2_share = 0;  // bytes of the heads that run at one time, so that their tiles find each other's reads in L2
};

enum class Pass : std::uint8_t { forward, backward };

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  Pass pass;
  int dim;           // largest head dimension, of Q and K and of V alike; 0: any
  double teraflops;  // on an H200 at 8192 x 8192 (TFLOP/s): what the cost model starts from; 0: it has no measurement
  /// Forward: honours Launch::splits. Backward: sums dq in one order only if BackwardProblem::deterministic.
  bool divides;

  /// Exactly one of the two is set. Enqueues; throws DeviceError when the launch is refused.
  void (*run_forward)(const Kernel&, const Problem&, const Launch&);
  void (*run_backward)(const Kernel&, const BackwardProblem&, const Launch&);
  /// Scratch of a launch, in bytes. `splits` as in Launch, `deterministic` as in BackwardProblem.
  std::size_t (*workspace_forward)(const Kernel&, const FmhaDescriptor&, int splits);
  std::size_t (*workspace_backward)(const Kernel&, const FmhaBackwardDescriptor&, bool deterministic);
  /// Once per plan, on the plan's device: raises the shared memory limit. Null where there is nothing to do.
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

}  // namespace cutplan::fmha
