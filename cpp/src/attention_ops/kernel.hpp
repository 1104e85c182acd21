// The contract between the host side of the ops around attention and their kernels: what a kernel is told, and what it says of
// itself. Plain C++ that both the C++ compiler and nvcc read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/kernel.hpp"
#include "cutplan/attention_ops.hpp"

namespace cutplan::attention_ops {

inline constexpr int most_parts = 256;  // of a merge: each lane makes the weights of all

/// Rows of batch, head and position: strides in elements.
struct Strides {
  std::int64_t batch, head, row;
};

/// One tensor of heads: its last dimension is contiguous.
struct Heads {
  void* data;
  Strides strides;
};

/// Positions, offsets, lengths: int32 or int64. Null: there are none.
struct Integers {
  void* data;
  bool are_long;
  std::int64_t stride;
};

/// Cosines and sines, a row for each position. Null: there are none.
struct Tables {
  const float *cos, *sin;
  std::int64_t rows, cos_stride, sin_stride;
  bool wide;  // rows in 16-byte pieces
};

struct MergeProblem {
  std::int64_t parts, batch, heads, rows, dim;  // packed: batch 1
  // Of part p: `of_part` elements beyond part 0; of two that lie apart: data2 is part 1.
  Heads o;
  const void* o2;
  std::int64_t of_part, of_part_lse;
  Strides o2_strides, lse_strides, lse2_strides;
  const float *lse, *lse2;
  Heads out;
  float* out_lse;  // null: not wanted
  Strides out_lse_strides;
  DType o_type;  // of out
  bool wide;     // all of o and out in 16-byte pieces
};

/// Scores y = x + slope distance, or their gradients.
struct AlibiProblem {
  std::int64_t batch, heads, rows, cols, offset;  // offset: of the diagonal's column in row 0
  const void* x;                                  // scores, or the gradient of y
  void* y;                                        // null: not wanted, or x itself
  const void* slopes;                             // float, of double scores double
  void* dslopes;                                  // null: not wanted
  std::int64_t x_strides[4], y_strides[4];
  std::int64_t slopes_stride, dslopes_stride;
  bool absolute;
  bool x_wide, y_wide;  // rows are adjacent elements in 16-byte pieces
};

/// Turns a position makes of each pair: fractions of a turn in 64 bits, so that position times fraction wraps where angles do, and
/// what is left is exact at any position.
inline constexpr int most_pairs_by_base = 256;
struct Turns {
  alignas(16) std::uint64_t of_pair[most_pairs_by_base];
  double factor;  // of cosine and sine
};

struct RopeProblem {
  static constexpr int x = 0, k = 1, tensors = 2;
  std::int64_t batch, rows, dim, pairs;  // packed: rows of all, and strides of batch are 0
  bool packed, interleaved, backward;
  std::int64_t heads[tensors];
  Heads from[tensors], to[tensors];
  Tables tables;                    // without: by turns
  Integers positions, offsets;      // without: rows' numbers; 0
  std::int64_t positions_of_batch;  // stride
  const std::int32_t* cu_seqlens;
  const Turns* turns;  // of the plan
  bool wide;           // halves of pairs, and rows, in 16-byte pieces
};

struct AppendProblem {
  static constexpr int k = 0, v = 1, q = 2, tensors = 3;
  std::int64_t batch, rows;  // packed: rows of all
  bool packed, interleaved;
  std::int64_t heads[tensors], dim[tensors], pairs[tensors];  // pairs 0: nothing is turned
  Heads from[tensors], to[tensors];                           // a cache's row: batch (or page), head, row (in the page)
  DType cache_type;
  std::int64_t sequences, capacity;          // without pages
  std::int64_t pages, page_size, max_pages;  // max_pages 0: without
  const std::int32_t* block_table;
  std::int64_t table_sequence, table_page;  // strides
  Integers offsets, lengths_out, cache_batch_idx;
  const std::int32_t* cu_seqlens;
  Tables tables;
  const float* scale[2];  // of K and V
  std::int64_t scale_stride[2];
  std::int32_t* rejected;
  bool wide;  // rows of K, V, Q and their caches in pieces of 16 bytes of K's elements
};

/// Where and how one launch runs.
struct Launch {
  Stream stream = nullptr;
  void* workspace = nullptr;
  int sm_count = 0;  // SMs to occupy (host: threads)
};

enum class Op : std::uint8_t { merge_states, alibi, alibi_backward, rope, kv_cache_append };  // rope: both ways

/// One compiled kernel. Static data: each unit in a smNN folder exports a table of these.
struct Kernel : KernelTraits {
  Op op;
  /// The one of its op is set. Enqueues; throws DeviceError when the launch is refused.
  void (*merge)(const MergeProblem&, const Launch&);
  void (*alibi)(const AlibiProblem&, const Launch&);  // also backward
  void (*rope)(const RopeProblem&, const Launch&);
  void (*append)(const AppendProblem&, const Launch&);
  void (*prepare)(const Kernel&);
};

using KernelTable = TableOf<Kernel>;

/// Blocks that share a head's gradient of the slope; each leaves one partial sum in the workspace.
inline constexpr int alibi_blocks_per_head = 256;

template <typename Run>
constexpr Kernel kernel(Op op, Arch arch, DType operand, Run run) {
  Kernel k{};
  k.op = op;
  k.arch = arch;
  k.operand = operand;
  k.math = Math::strict;
  k.alignment = 1;
  k.blocks_by_registers = 1;
  if (arch != Arch::host) {
    k.threads = 256;
    k.blocks_by_registers = 8;
    k.minimum_compute_capability = 80;
    k.maximum_compute_capability = any_newer;
  }
  if constexpr (std::is_same_v<Run, void (*)(const MergeProblem&, const Launch&)>) {
    k.merge = run;
  } else if constexpr (std::is_same_v<Run, void (*)(const RopeProblem&, const Launch&)>) {
    k.rope = run;
  } else if constexpr (std::is_same_v<Run, void (*)(const AppendProblem&, const Launch&)>) {
    k.append = run;
  } else {
    k.alibi = run;
  }
  return k;
}

}  // namespace cutplan::attention_ops
