// Fused attention, backward, for Ampere and everything after it: cp.async, ldmatrix, mma.sync. 16-bit operands.
//
// With P = exp(S - LSE), D_i = sum_c grad_ic o_ic and dP = grad V^T (Dao 2023, "FlashAttention-2", algorithm 2):
//     dV = P^T grad,   dS = P o (dP - D),   dK = scale dS^T Q,   dQ = scale dS K.
//
// One block owns kTileN keys of one K and V head and walks over the queries that see them, of every head of the group: dK
// and dV stay in registers, and the group's sum costs nothing. Everything is computed transposed, keys x queries, so that
// weights and score gradients are operands of dV and dK as they are. dQ is added up in float32 in the workspace, in fragment
// order (each warp adds 128 adjacent bytes): as blocks come, or, deterministic, in turn: from the last key tile to the
// first. Blocks start in that order, too (a ticket sees to it), so that none waits for one that has not started; in causal
// attention those whose turn is first also reach a tile first. Other passes: `preprocess` before (D, LSE in base 2, zeroes),
// `postprocess` after (scale and type of dQ); gradients of bias, slopes and sink where asked for: backward_passes.cuh.
//
// Data movement. K and V tiles stay in shared memory; Q, grad and the rows' statistics stream through kStages slots. The
// block's warps are kWarpsN along the keys by kWarpsD: those that share keys split the queries of S and dP and the columns
// of dK and dV. dS goes through shared memory for dQ; with kWarpsD > 1 the weights do so for dV, too. dQ lags by one step,
// so that one barrier a step is enough for the block.
//
// Why these tiles. Fragments of a product come from shared memory at 128 bytes a cycle and SM, which a warp's 32 x 32 pieces
// of S and dP already use up; 32 x 64 pieces of dK and dV, 128 registers, are what fits beside them.
#pragma once

#include "core/sm80/barrier.cuh"
#include "fmha/score.hpp"
#include "fmha/sm80/tile.cuh"

namespace cutplan::fmha::sm80 {

template <Arch kArch_, typename Element_, int kDim_, int kTileM_, int kTileN_, int kWarpsN_, int kWarpsD_, int kStages_,
          int kBlocksPerSm_>
struct BackwardConfig {
  static constexpr Arch kArch = kArch_;  // of the unit: the same tile in two units is two kernels
  using Element = Element_;
  static constexpr int kDim = kDim_, kTileM = kTileM_, kTileN = kTileN_, kWarpsN = kWarpsN_, kWarpsD = kWarpsD_,
                       kStages = kStages_, kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kWarps = kWarpsN * kWarpsD, kThreads = 32 * kWarps;
  static constexpr int kKeys = kTileN / kWarpsN, kQueries = kTileM / kWarpsD, kColumns = kDim / kWarpsD;  // of a warp
  static constexpr int kMmaN = kKeys / 16, kMmaQ = kQueries / 8, kMmaD = kColumns / 8;
  static constexpr bool kWeightsInRegisters = kWarpsD == 1;
  // float16 has few exponents: its weights, 1 at most, are held as multiples of 2^-15, so that small ones count. LSE and D
  // in the statistics are scaled to match.
  static constexpr int kWeightShift = std::is_same_v<Element, cutlass::half_t> ? 15 : 0;
  static constexpr float kWeightUnit = 1.0f / (1 << kWeightShift);
  // dQ's warps: rows x columns.
  static constexpr int kWarpsRows = kTileM >= 64 ? 2 : 1, kWarpsColumns = kWarps / kWarpsRows;
  static constexpr int kMmaRows = kTileM / kWarpsRows / 16, kMmaColumns = kDim / kWarpsColumns / 8;
  static constexpr int kFragment = kMmaRows * kMmaColumns * 4;  // elements of dQ per thread

  using TileK = Tile<kTileN, kDim, Adjacent>;
  using TileQ = Tile<kTileM, kDim, Adjacent>;
  using TileS = Tile<kTileN, kTileM, Adjacent>;
  // Of a tile of queries: LSE and D of each row; then, in 16 bytes, whether weights of some row need a reference.
  static constexpr int kStatistics = kTileM + 2, kStatisticsBytes = kStatistics * 8;
  static constexpr float kRounding = 0x1p-18f;  // of a dot product, as far_row() has it
  static constexpr int kOffsetV = TileK::kBytes, kOffsetQ = 2 * TileK::kBytes,
                       kOffsetGrad = kOffsetQ + kStages * TileQ::kBytes, kOffsetDs = kOffsetGrad + kStages * TileQ::kBytes,
                       kOffsetP = kOffsetDs + 2 * TileS::kBytes,
                       kOffsetStatistics = kOffsetP + (kWeightsInRegisters ? 0 : TileS::kBytes);
  static constexpr std::size_t kSharedMemory = kOffsetStatistics + kStages * kStatisticsBytes;
  static_assert(kKeys % 16 == 0 && kQueries % 16 == 0 && kMmaD % 2 == 0 && kMmaColumns % 2 == 0);
  static_assert(kTileM * kDim == kFragment * kThreads);
};

struct BackwardGrid {
  std::uint32_t heads;          // batch * heads_k; packed: heads_k
  std::uint32_t key_tiles;      // of one head: blocks; packed: an upper bound for all sequences together
  std::uint32_t heads_at_once;  // whose operands fit into L2 together
  std::int64_t rows;            // of one head in the workspace: sequences padded to whole tiles of queries
  float2* statistics;           // [heads of Q, rows / kTileM, kStatistics]: LSE in base 2, D
  float* reference;             // [heads of Q, rows]: RowWeights in `unit`, infinite for rows that need none
  float unit;                   // of products q . k: scale, or 1 once options have made them scores
  float* dq;                    // [heads of Q, rows, kDim], tiles in fragment order
  std::uint32_t* turns;         // [heads of Q, rows / kTileM]: blocks that have added to a tile of dQ; null: in any order
  std::uint32_t* ticket;        // numbers blocks in the order in which they start
  float* dalibi;                // [heads of Q, all_key_tiles]
  std::int64_t all_key_tiles;   // of one head of Q
};

/// Where a sequence's rows start in the workspace, for one head of Q.
template <typename Config>
__device__ __forceinline__ std::int64_t padded_row(const Problem& p, const BackwardGrid& grid, const Sequence& s,
                                                   std::int64_t batch, std::int64_t head) {
  if (p.cu_seqlens_q == nullptr) return (batch * p.heads + head) * grid.rows;
  return head * grid.rows + (s.first_q + batch * Config::kTileM) / Config::kTileM * Config::kTileM;
}

/// The statistics of the tile of queries that starts at a row of the workspace.
template <typename Config>
__device__ __forceinline__ float2* statistics_of(const BackwardGrid& grid, std::int64_t padded_row) {
  return grid.statistics + padded_row / Config::kTileM * Config::kStatistics;
}

/// Number of a key tile among all of a launch, for one head of Q.
template <typename Config>
__device__ __forceinline__ std::int64_t key_tile_index(const Problem& p, const BackwardGrid& grid, const Sequence& s,
                                                       std::int64_t batch, std::int64_t head, int n) {
  if (p.cu_seqlens_k == nullptr) return (batch * p.heads + head) * grid.all_key_tiles + n;
  return head * grid.all_key_tiles + (s.first_k + batch * Config::kTileN) / Config::kTileN + n;
}

/// A warp's piece of one tile of scores: which keys and queries its fragments hold.
template <typename Config>
struct Piece {
  int key0, query0;  // of the warp
  std::int64_t batch, head;

  /// Of element (i, half): 16 i + 8 half + lane / 4; of (j, e): 8 j + 2 (lane % 4) + e.
  __device__ int key(int i, int half) const { return key0 + i * 16 + half * 8 + static_cast<int>(threadIdx.x) % 32 / 4; }
  __device__ int query(int j, int e) const { return query0 + j * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + e; }
};

/// acc[i][j] += A rows x B rows^T, over the head dimension. `a` and `b` are a lane's first addresses.
template <typename Element, typename TileA, typename TileB, int kI, int kJ>
__device__ __forceinline__ void multiply_rows(std::uint32_t a_first, std::uint32_t b_first, float (&acc)[kI][kJ][4]) {
#pragma unroll
  for (int step = 0; step < TileA::kDim / 16; ++step) {
    std::uint32_t a[kI][4];
#pragma unroll
    for (int i = 0; i < kI; ++i) ldmatrix(TileA::at(a_first, i, step), a[i]);
#pragma unroll
    for (int j = 0; j < kJ / 2; ++j) {
      std::uint32_t b[4];
      ldmatrix(TileB::at(b_first, j, step), b);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        mma<Element>(acc[i][2 * j], a[i], b[0], b[1]);
        mma<Element>(acc[i][2 * j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

template <int kI, int kJ>
__device__ __forceinline__ void clear(float (&acc)[kI][kJ][4]) {
#pragma unroll
  for (int i = 0; i < kI; ++i) {
#pragma unroll
    for (int j = 0; j < kJ; ++j) acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0;
  }
}

/// LSE and D of the two queries of one fragment column pair.
__device__ __forceinline__ void load_statistics(std::uint32_t address, float (&lse)[2], float (&delta)[2]) {
  float x[4];
  load_shared(address, x);
  lse[0] = x[0], delta[0] = x[1], lse[1] = x[2], delta[1] = x[3];
}

/// The sum over a block, in a fixed order; for thread 0.
template <int kThreads>
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float shares[kThreads / 32];
  value = sum_lanes(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shares[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / 32; ++warp) sum += shares[warp];
  return sum;
}

/// Which of a thread's weights dropout keeps, one bit each: ((i * kMmaQ + j) * 4 + half * 2 + e).
///
/// A group of eight keys of one query is one draw, and those eight keys lie in eight lanes. So each lane draws for one query
/// of one 8 x 8 block, four blocks at a time; the four lanes of a quad trade words, and a transposing move brings each
/// lane the bits of its own key.
template <typename Config>
__device__ __forceinline__ void draw(const Problem& p, const Piece<Config>& piece,
                                     std::uint32_t (&keep)[(Config::kMmaN * Config::kMmaQ * 4 + 31) / 32]) {
  constexpr int kBlocks = Config::kMmaN * 2 * Config::kMmaQ;
  static_assert(kBlocks % 4 == 0);
  const int lane = static_cast<int>(threadIdx.x) % 32, own = lane % 4;
  const Dropout dropout = Dropout::of(p.rng_state, piece.batch * p.heads + piece.head);
#pragma unroll
  for (std::uint32_t& word : keep) word = 0;
#pragma unroll
  for (int first = 0; first < kBlocks; first += 4) {
    const int drawn = first + own, key_block = drawn / Config::kMmaQ, query_block = drawn % Config::kMmaQ;
    const Philox random = dropout.group(piece.query0 + query_block * 8 + lane / 4, (piece.key0 + key_block * 8) / 8);
    std::uint32_t taken[4];  // in turn t: word `own` of the draw of lane own ^ t, which is block own ^ t
#pragma unroll
    for (int turn = 0; turn < 4; ++turn) {
      const int partner = own ^ turn;
      const std::uint32_t given =
          partner < 2 ? (partner == 0 ? random.word[0] : random.word[1]) : (partner == 2 ? random.word[2] : random.word[3]);
      taken[turn] = __shfl_xor_sync(~0u, given, turn);
    }
#pragma unroll
    for (int block = 0; block < 4; ++block) {
      const int turn = own ^ block;
      std::uint32_t bits = turn < 2 ? (turn == 0 ? taken[0] : taken[1]) : (turn == 2 ? taken[2] : taken[3]);
      bits = movmatrix(bits);
      const int key_half = (first + block) / Config::kMmaQ, j = (first + block) % Config::kMmaQ;
      const int bit = (key_half / 2 * Config::kMmaQ + j) * 4 + key_half % 2 * 2;
      if ((bits & 0xffffu) < p.keep_threshold) keep[bit / 32] |= 1u << bit % 32;
      if (bits >> 16 < p.keep_threshold) keep[bit / 32] |= 1u << (bit + 1) % 32;
    }
  }
}

/// Calls change(score, element) for each score of a thread and the element that an operand, broadcast to the scores, has
/// there. Scores outside the sequence get an element from its edge: they are masked anyway.
template <typename T, typename Config, typename Change>
__device__ __forceinline__ void visit_scores(const void* operand, const Broadcast& strides, const Sequence& s,
                                             const Piece<Config>& piece, float (&x)[Config::kMmaN][Config::kMmaQ][4],
                                             const Change& change) {
  const T* base = static_cast<const T*>(operand) + piece.batch * strides.batch + piece.head * strides.head;
  const bool inside =
      strides.col == 1 && piece.key0 + Config::kKeys <= s.len_k && piece.query0 + Config::kQueries <= s.len_q;
#pragma unroll
  for (int j = 0; j < Config::kMmaQ; ++j) {
    if (inside) {
      // One address a row of queries; its elements lie at constant distances.
      T element[2][Config::kMmaN][2];
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const T* row = base + piece.query(j, e) * strides.row + piece.key(0, 0);
#pragma unroll
        for (int i = 0; i < Config::kMmaN; ++i) {
          element[e][i][0] = __ldg(row + i * 16);
          element[e][i][1] = __ldg(row + i * 16 + 8);
        }
      }
#pragma unroll
      for (int i = 0; i < Config::kMmaN; ++i) {
#pragma unroll
        for (int e = 0; e < 4; ++e) change(x[i][j][e], element[e % 2][i][e / 2]);
      }
    } else {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int query = min(piece.query(j, e % 2), static_cast<int>(s.len_q) - 1);
#pragma unroll
        for (int i = 0; i < Config::kMmaN; ++i) {
          const int key = min(piece.key(i, e / 2), static_cast<int>(s.len_k) - 1);
          change(x[i][j][e], __ldg(base + query * strides.row + key * strides.col));
        }
      }
    }
  }
}

/// Turns products q . k into scores, and what the soft cap's derivative leaves of a gradient.
template <typename Config>
__device__ __forceinline__ void score(const Problem& p, const Sequence& s, const Piece<Config>& piece,
                                      float (&x)[Config::kMmaN][Config::kMmaQ][4],
                                      std::uint32_t (&slope)[Config::kMmaN][Config::kMmaQ][2]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  if (p.softcap > 0) {
    const auto cap = static_cast<float>(p.softcap), to_exponent = static_cast<float>(2 * p.scale / p.softcap) * kLog2e;
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float derivative[2];
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            float& v = x[i][j][half * 2 + e];
            const float tangent = 1 - 2 * reciprocal_approx(1 + exp2_approx(v * to_exponent));
            derivative[e] = 1 - tangent * tangent;
            v = cap * tangent;
          }
          // A hidden key's may be NaN, which a weight of 0 does not take away: max is the other operand then.
          asm("max.f16x2 %0, %1, %2;"
              : "=r"(slope[i][j][half])
              : "r"(narrow<cutlass::half_t>(derivative[0], derivative[1])), "r"(0));
        }
      }
    }
  } else {
    const auto scale = static_cast<float>(p.scale);
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[i][j][e] *= scale;
      }
    }
  }
  if (p.alibi_slopes != nullptr) {
    const float alibi = load_side<typename Config::Element>(p.alibi_slopes, p.alibi_type,
                                                            piece.batch * p.alibi_batch + piece.head * p.alibi_head);
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const auto distance = static_cast<float>(piece.query(0, 0) + s.offset - piece.key(i, half));
#pragma unroll
        for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e)
            x[i][j][half * 2 + e] = fmaf(-alibi, fabsf(distance + static_cast<float>(j * 8 + e)), x[i][j][half * 2 + e]);
        }
      }
    }
  }
  if (p.bias != nullptr && p.bias_type == DType::f32) {
    visit_scores<float>(p.bias, p.bias_strides, s, piece, x, [](float& v, float bias) { v += bias; });
  } else if (p.bias != nullptr) {
    visit_scores<std::uint16_t>(p.bias, p.bias_strides, s, piece, x,
                                [](float& v, std::uint16_t bias) { v += widen_low<typename Config::Element>(bias); });
  }
  if (p.mask != nullptr) {
    visit_scores<std::uint8_t>(p.mask, p.mask_strides, s, piece, x, [](float& v, std::uint8_t takes_part) {
      if (takes_part == 0) v = -INFINITY;
    });
  }
}

/// Weights of one tile of keys and one of queries, from the tiles in shared memory; see `gradients` for what follows.
/// `weight` holds them as 16-bit pairs of queries, in units of kWeightUnit. `far`: where the statistics say whether weights
/// of some row need a reference.
template <typename Config, bool kScored>
__device__ __forceinline__ void weigh(const Problem& p, const BackwardGrid& grid, const Sequence& s,
                                      const Piece<Config>& piece, std::uint32_t k_first, std::uint32_t q_first,
                                      std::uint32_t statistics, std::uint32_t far,
                                      std::uint32_t (&weight)[Config::kMmaN][Config::kMmaQ][2],
                                      std::uint32_t (&slope)[Config::kMmaN][Config::kMmaQ][2]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  float some_far;
  load_shared(far, some_far);
  float x[kMmaN][kMmaQ][4];
  clear(x);
  multiply_rows<typename Config::Element, typename Config::TileK, typename Config::TileQ>(k_first, q_first, x);
  if constexpr (kScored) score<Config>(p, s, piece, x, slope);
  const int last_query = min(piece.query0 + Config::kQueries, static_cast<int>(s.len_q)) - 1;
  const bool edge = piece.query0 > last_query || piece.key0 < first_key(p, s, last_query) ||
                    piece.key0 + Config::kKeys > end_key(p, s, piece.query0);
  if (edge || some_far != 0) {  // one branch, so that products and exponentials overlap elsewhere
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int key = piece.key(i, half), own = piece.query(0, 0);
        const int first = static_cast<int>(first_query(p, s, key)) - own,
                  end = key < s.len_k ? static_cast<int>(end_query(p, s, key)) - own : first;
#pragma unroll
        for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            if (j * 8 + e < first || j * 8 + e >= end) x[i][j][half * 2 + e] = -INFINITY;
          }
        }
      }
    }
    if (some_far != 0) {
      const float* rows = grid.reference + padded_row<Config>(p, grid, s, piece.batch, piece.head);
#pragma unroll
      for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float reference = rows[piece.query(j, e)], own = reference == INFINITY ? 0 : reference,
                      highest = reference == INFINITY ? INFINITY : 0;
#pragma unroll
          for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
            for (int half = e; half < 4; half += 2) x[i][j][half] = min_nan(x[i][j][half] - own, highest);
          }
        }
      }
    }
  }
  const float to_base2 = kScored ? kLog2e : static_cast<float>(p.scale) * kLog2e;
#pragma unroll
  for (int j = 0; j < kMmaQ; ++j) {
    float lse[2], unused[2];
    load_statistics(statistics + j * 64, lse, unused);
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        weight[i][j][half] = narrow<typename Config::Element>(exp2_approx(fmaf(x[i][j][half * 2], to_base2, -lse[0])),
                                                              exp2_approx(fmaf(x[i][j][half * 2 + 1], to_base2, -lse[1])));
    }
  }
}

/// Gradients of the scores of the same tiles: P o (dP - D), before the soft cap's derivative.
template <typename Config>
__device__ __forceinline__ void gradients(const Problem& p, std::uint32_t v_first, std::uint32_t grad_first,
                                          std::uint32_t statistics,
                                          const std::uint32_t (&weight)[Config::kMmaN][Config::kMmaQ][2], bool drops,
                                          const std::uint32_t (&keep)[(Config::kMmaN * Config::kMmaQ * 4 + 31) / 32],
                                          float (&ds)[Config::kMmaN][Config::kMmaQ][4]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  clear(ds);
  multiply_rows<typename Config::Element, typename Config::TileK, typename Config::TileQ>(v_first, grad_first, ds);
#pragma unroll
  for (int j = 0; j < kMmaQ; ++j) {
    float unused[2], delta[2];
    load_statistics(statistics + j * 64, unused, delta);
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          float& v = ds[i][j][half * 2 + e];
          if (drops) {
            const int bit = (i * kMmaQ + j) * 4 + half * 2 + e;
            v = keep[bit / 32] >> bit % 32 & 1 ? v * p.keep_scale : 0;
          }
          const float own = e == 0 ? widen_low<typename Config::Element>(weight[i][j][half])
                                   : widen_high<typename Config::Element>(weight[i][j][half]);
          v = own * (v * Config::kWeightUnit - delta[e]);
        }
      }
    }
  }
}

/// 16-bit pairs of queries to a tile of keys x queries.
template <typename Config>
__device__ __forceinline__ void store_pairs(std::uint32_t slot, int key0, int group0,
                                            const std::uint32_t (&pair)[Config::kMmaN][Config::kMmaQ][2]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < Config::kMmaN; ++i) {
#pragma unroll
    for (int j = 0; j < Config::kMmaQ; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_shared(slot + Config::TileS::offset(key0 + i * 16 + half * 8 + lane / 4, group0 + j) + lane % 4 * 4,
                     pair[i][j][half]);
      }
    }
  }
}

/// acc += A B: A keys x queries from registers (pairs of queries), or from a TileS at `a_first`; B a tile of queries, of
/// which this warp takes the columns from `chunk_pair0` on.
template <typename Config>
__device__ __forceinline__ void multiply_queries(const std::uint32_t (&pair)[Config::kMmaN][Config::kMmaQ][2],
                                                 std::uint32_t a_first, std::uint32_t b_first, int chunk_pair0,
                                                 float (&acc)[Config::kMmaN][Config::kMmaD][4]) {
  constexpr int kMmaN = Config::kMmaN;
#pragma unroll
  for (int step = 0; step < Config::kTileM / 16; ++step) {
    std::uint32_t a[kMmaN][4];
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
      if constexpr (Config::kWeightsInRegisters) {
#pragma unroll
        for (int w = 0; w < 4; ++w) a[i][w] = pair[i][2 * step + w / 2][w % 2];
      } else {
        ldmatrix(Config::TileS::at(a_first, i, step), a[i]);
      }
    }
#pragma unroll
    for (int j = 0; j < Config::kMmaD / 2; ++j) {
      std::uint32_t b[4];
      ldmatrix_transposed(Config::TileQ::at(b_first, step, chunk_pair0 + j), b);
#pragma unroll
      for (int i = 0; i < kMmaN; ++i) {
        mma<typename Config::Element>(acc[i][2 * j], a[i], b[0], b[1]);
        mma<typename Config::Element>(acc[i][2 * j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

/// Starts the copy of one tile of queries: Q, grad and the rows' statistics.
template <typename Config>
__device__ __forceinline__ void copy_queries(const BackwardProblem& b, const BackwardGrid& grid, const Sequence& s,
                                             std::int64_t batch, std::int64_t head, int m, std::uint32_t slot_q,
                                             std::uint32_t slot_grad, std::uint32_t slot_statistics) {
  const Problem& p = b.forward;
  const int first = m * Config::kTileM, rows = min(Config::kTileM, static_cast<int>(s.len_q) - first);
  const auto* q = static_cast<const std::uint16_t*>(p.q) + batch * p.q_strides.batch + head * p.q_strides.head +
                  (s.first_q + first) * p.q_strides.row;
  const auto* grad = static_cast<const std::uint16_t*>(b.grad) + batch * b.grad_strides.batch + head * b.grad_strides.head +
                     (s.first_q + first) * b.grad_strides.row;
  copy_rows<typename Config::TileQ, Config::kThreads>(slot_q, rows, static_cast<int>(p.dim), p.vectorised,
                                                      [&](int r) { return q + r * p.q_strides.row; });
  copy_rows<typename Config::TileQ, Config::kThreads>(slot_grad, rows, static_cast<int>(p.dim_v), p.vectorised,
                                                      [&](int r) { return grad + r * b.grad_strides.row; });
  const float2* from = statistics_of<Config>(grid, padded_row<Config>(p, grid, s, batch, head) + first);
  if (threadIdx.x < Config::kStatistics / 2) cp_async<16, false>(slot_statistics + threadIdx.x * 16, from + 2 * threadIdx.x);
}

/// Which keys a block takes.
struct BackwardTile {
  std::int64_t batch, head_k;
  int n;
};

/// In causal attention the first keys are seen by most queries: their tiles come first, or, in turn, last.
template <typename Config>
__device__ __forceinline__ bool backward_tile(const Problem& p, const BackwardGrid& grid, BackwardTile& tile) {
  std::uint32_t index = blockIdx.x;
  if (grid.turns != nullptr) {
    __shared__ std::uint32_t ticket;
    if (threadIdx.x == 0) ticket = atomicAdd(grid.ticket, 1u);
    __syncthreads();
    index = ticket;
  }
  const Place place = place_of(index, grid.key_tiles, grid.heads, grid.heads_at_once);
  std::int64_t from_end = grid.key_tiles - 1 - place.tile, tiles = grid.key_tiles;
  tile.batch = place.head / static_cast<std::uint32_t>(p.heads_k);
  tile.head_k = place.head - tile.batch * p.heads_k;
  if (p.cu_seqlens_q != nullptr) {
    const auto key_tiles = [&](std::int64_t batch) {
      return (sequence(p, batch).held_k + Config::kTileN - 1) / Config::kTileN;
    };
    if (!find_sequence(p.batch, place.tile, key_tiles, tile.batch, from_end)) return false;
    tiles = key_tiles(tile.batch);
  }
  tile.n = static_cast<int>(grid.turns != nullptr ? from_end : tiles - 1 - from_end);
  return true;
}

/// Of the weights those that dropout keeps.
template <typename Config>
__device__ __forceinline__ void drop_weights(bool drops,
                                             const std::uint32_t (&keep)[(Config::kMmaN * Config::kMmaQ * 4 + 31) / 32],
                                             const std::uint32_t (&weight)[Config::kMmaN][Config::kMmaQ][2],
                                             std::uint32_t (&dropped)[Config::kMmaN][Config::kMmaQ][2]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
#pragma unroll
  for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        dropped[i][j][half] = weight[i][j][half];
        const int bit = (i * kMmaQ + j) * 4 + half * 2;
        if (drops) {
          if ((keep[bit / 32] >> bit % 32 & 1) == 0) dropped[i][j][half] &= 0xffff0000u;
          if ((keep[bit / 32] >> (bit + 1) % 32 & 1) == 0) dropped[i][j][half] &= 0xffffu;
        }
      }
    }
  }
}

/// Gradients of the scores to those of q . k, before scale, as 16-bit pairs of queries.
template <typename Config, bool kScored>
__device__ __forceinline__ void narrow_gradients(const Problem& p,
                                                 const std::uint32_t (&slope)[Config::kMmaN][Config::kMmaQ][2],
                                                 float (&ds)[Config::kMmaN][Config::kMmaQ][4],
                                                 std::uint32_t (&ds_pair)[Config::kMmaN][Config::kMmaQ][2]) {
  using Element = typename Config::Element;
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
#pragma unroll
  for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (kScored && p.softcap > 0) {
          ds[i][j][half * 2] *= widen_low<cutlass::half_t>(slope[i][j][half]);
          ds[i][j][half * 2 + 1] *= widen_high<cutlass::half_t>(slope[i][j][half]);
        }
        ds_pair[i][j][half] = narrow<Element>(ds[i][j][half * 2], ds[i][j][half * 2 + 1]);
      }
    }
  }
}

template <typename Config, bool kScored>
__global__ __launch_bounds__(Config::kThreads,
                             Config::kBlocksPerSm) void sm80_fmha_backward(const __grid_constant__ BackwardProblem b,
                                                                           const __grid_constant__ BackwardGrid grid) {
  using Element = typename Config::Element;
  using TileK = typename Config::TileK;
  using TileQ = typename Config::TileQ;
  using TileS = typename Config::TileS;
  constexpr int kTileM = Config::kTileM, kTileN = Config::kTileN, kThreads = Config::kThreads, kStages = Config::kStages,
                kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ, kMmaD = Config::kMmaD, kMmaRows = Config::kMmaRows,
                kMmaColumns = Config::kMmaColumns;
  const Problem& p = b.forward;
  extern __shared__ __align__(128) char shared[];
  const auto base = shared_address(shared);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int warp_n = warp / Config::kWarpsD, warp_d = warp % Config::kWarpsD;
  const int warp_rows = warp % Config::kWarpsRows, warp_columns = warp / Config::kWarpsRows;

  BackwardTile tile;
  if (!backward_tile<Config>(p, grid, tile)) return;
  const Sequence s = sequence(p, tile.batch);
  const int group = static_cast<int>(p.heads / p.heads_k);
  const std::int64_t head0 = tile.head_k * group;

  // A lane's addresses of its first matrices: K, Q and their kin by rows and by chunks, and the score tiles.
  const std::uint32_t lane_rows = base + TileK::rows_first(lane), lane_chunks = base + TileQ::chunks_first(lane),
                      lane_s_rows = base + Config::kOffsetDs + TileS::rows_first(lane),
                      lane_s_chunks = base + Config::kOffsetDs + TileS::chunks_first(lane);
  constexpr int kToGrad = Config::kOffsetGrad - Config::kOffsetQ, kToP = Config::kOffsetP - Config::kOffsetDs;
  const std::uint32_t own_statistics = base + Config::kOffsetStatistics + warp_d * Config::kQueries * 8 + lane % 4 * 16;

  const int n = tile.n;
  const int key0 = n * kTileN, keys = min(kTileN, static_cast<int>(s.len_k) - key0);
  const auto* k_data = static_cast<const std::uint16_t*>(p.k) + tile.batch * p.k_strides.batch +
                       tile.head_k * p.k_strides.head + (s.first_k + key0) * p.k_strides.row;
  const auto* v_data = static_cast<const std::uint16_t*>(p.v) + tile.batch * p.v_strides.batch +
                       tile.head_k * p.v_strides.head + (s.first_k + key0) * p.v_strides.row;
  // Query tiles that see some of the keys, the same for every head of the group.
  int m_begin = 0, m_end = 0;
  if (keys > 0 && first_query(p, s, key0) < s.len_q) {
    m_begin = static_cast<int>(first_query(p, s, key0)) / kTileM;
    m_end = (static_cast<int>(end_query(p, s, key0 + keys - 1)) + kTileM - 1) / kTileM;
  }
  const int m_count = max(0, m_end - m_begin), steps = m_count * group;

  copy_rows<TileK, kThreads>(base, keys, static_cast<int>(p.dim), p.vectorised,
                             [&](int r) { return k_data + r * p.k_strides.row; });
  copy_rows<TileK, kThreads>(base + Config::kOffsetV, keys, static_cast<int>(p.dim_v), p.vectorised,
                             [&](int r) { return v_data + r * p.v_strides.row; });
  int next_g = 0, next_m = m_begin;
  const auto copy_next = [&](int number) {
    if (number < steps) {
      const int stage = number % kStages;
      copy_queries<Config>(b, grid, s, tile.batch, head0 + next_g, next_m, base + Config::kOffsetQ + stage * TileQ::kBytes,
                           base + Config::kOffsetGrad + stage * TileQ::kBytes,
                           base + Config::kOffsetStatistics + stage * Config::kStatisticsBytes);
      if (++next_m == m_end) {
        next_m = m_begin;
        ++next_g;
      }
    }
    cp_async_commit();
  };
  copy_next(0);

  float dk[kMmaN][kMmaD][4], dv[kMmaN][kMmaD][4], dslope = 0;
  clear(dk);
  clear(dv);
  int g = 0, m = m_begin;
  // The step before, whose dQ is still to be added, and the one before that, whose adding others wait for.
  std::int64_t added_row = 0, adding_row = 0;
  int adding_m = 0;
  const auto await_turn = [&] {
    if (grid.turns == nullptr || threadIdx.x != 0) return;
    const int last = static_cast<int>(min(s.len_q, std::int64_t{adding_m + 1} * kTileM)) - 1;
    const auto turn = static_cast<std::uint32_t>((end_key(p, s, last) - 1) / kTileN - n);
    const std::uint32_t* const at = grid.turns + adding_row / kTileM;
    while (load_acquire(at) != turn) {
    }
  };
  const auto end_turn = [&](std::int64_t row) {
    if (grid.turns == nullptr || threadIdx.x != 0) return;
    __threadfence();
    atomicAdd(grid.turns + row / kTileM, 1u);
  };
  // dQ += dS K for the step before, whose dS lies in slot `parity`.
  const auto add_dq = [&](int parity) {
    float dq[kMmaRows][kMmaColumns][4];
    clear(dq);
    std::uint32_t s_columns = lane_s_chunks + parity * TileS::kBytes, k_columns = lane_rows;
    asm volatile("" : "+r"(s_columns), "+r"(k_columns));
#pragma unroll
    for (int step = 0; step < kTileN / 16; ++step) {
      std::uint32_t a[kMmaRows][4];
#pragma unroll
      for (int i = 0; i < kMmaRows; ++i) ldmatrix_transposed(TileS::at(s_columns, step, warp_rows * kMmaRows + i), a[i]);
#pragma unroll
      for (int j = 0; j < kMmaColumns / 2; ++j) {
        std::uint32_t k[4];
        ldmatrix_transposed(TileK::at(k_columns, step, warp_columns * (kMmaColumns / 2) + j), k);
#pragma unroll
        for (int i = 0; i < kMmaRows; ++i) {
          mma<Element>(dq[i][2 * j], a[i], k[0], k[1]);
          mma<Element>(dq[i][2 * j + 1], a[i], k[2], k[3]);
        }
      }
    }
    float* to = grid.dq + adding_row * Config::kDim + threadIdx.x;
#pragma unroll
    for (int i = 0; i < kMmaRows; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaColumns; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) reduce_add(to + ((i * kMmaColumns + j) * 4 + e) * kThreads, dq[i][j][e]);
      }
    }
  };
#pragma unroll 1
  for (int number = 0; number < steps; ++number) {
    cp_async_wait<0>();
    if (number > 0) await_turn();
    __syncthreads();
    if (number > 1) end_turn(added_row);
    if constexpr (kStages > 1) copy_next(number + 1);
    const int stage = number % kStages;
    const std::uint32_t slot = stage * TileQ::kBytes, statistics = own_statistics + stage * Config::kStatisticsBytes;
    const Piece<Config> piece{key0 + warp_n * Config::kKeys, m * kTileM + warp_d * Config::kQueries, tile.batch, head0 + g};

    // Derived in each step: kept over the loop, all their variants would cost more registers than there are.
    std::uint32_t rows_now = lane_rows, chunks_now = lane_chunks, s_rows_now = lane_s_rows;
    asm volatile("" : "+r"(rows_now), "+r"(chunks_now), "+r"(s_rows_now));
    const int parity = number % 2;
    const std::uint32_t k_rows = rows_now + warp_n * Config::kKeys * TileK::kRowBytes, v_rows = k_rows + Config::kOffsetV,
                        q_rows = chunks_now + Config::kOffsetQ + warp_d * Config::kQueries * TileQ::kRowBytes,
                        q_columns = rows_now + Config::kOffsetQ,
                        s_rows = s_rows_now + warp_n * Config::kKeys * TileS::kRowBytes;

    std::uint32_t weight[kMmaN][kMmaQ][2], slope[kMmaN][kMmaQ][2];
    weigh<Config, kScored>(p, grid, s, piece, k_rows, q_rows + slot, statistics,
                           base + Config::kOffsetStatistics + stage * Config::kStatisticsBytes + kTileM * 8, weight, slope);
    const bool drops = kScored && p.rng_state != nullptr;
    std::uint32_t keep[(kMmaN * kMmaQ * 4 + 31) / 32];
    std::uint32_t dropped[kMmaN][kMmaQ][2];
    if (drops) draw<Config>(p, piece, keep);
    drop_weights<Config>(drops, keep, weight, dropped);
    if constexpr (Config::kWeightsInRegisters) {
      multiply_queries<Config>(dropped, 0, q_columns + kToGrad + slot, 0, dv);
    } else {
      store_pairs<Config>(base + Config::kOffsetP, warp_n * Config::kKeys, warp_d * kMmaQ, dropped);
    }

    std::uint32_t ds_pair[kMmaN][kMmaQ][2];
    {
      float ds[kMmaN][kMmaQ][4];
      gradients<Config>(p, v_rows, q_rows + kToGrad + slot, statistics, weight, drops, keep, ds);
      if (kScored && b.dalibi_slopes != nullptr) {
#pragma unroll
        for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
          for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e)
              dslope -= ds[i][j][e] * fabsf(static_cast<float>(piece.query(j, e % 2) + s.offset - piece.key(i, e / 2)));
          }
        }
      }
      narrow_gradients<Config, kScored>(p, slope, ds, ds_pair);
    }
    store_pairs<Config>(base + Config::kOffsetDs + parity * TileS::kBytes, warp_n * Config::kKeys, warp_d * kMmaQ, ds_pair);
    if constexpr (!Config::kWeightsInRegisters) {
      // Only the warps that share keys have to wait for each other here.
      named_barrier_sync<32 * Config::kWarpsD>(1 + warp_n);
      multiply_queries<Config>(dropped, s_rows + kToP, q_columns + kToGrad + slot, warp_d * (kMmaD / 2), dv);
    }
    multiply_queries<Config>(ds_pair, s_rows + parity * TileS::kBytes, q_columns + slot, warp_d * (kMmaD / 2), dk);

    if (number > 0) add_dq(1 - parity);
    added_row = adding_row;
    adding_row = padded_row<Config>(p, grid, s, tile.batch, piece.head) + m * kTileM;
    adding_m = m;
    if (++m == m_end) {
      m = m_begin;
      if (kScored && b.dalibi_slopes != nullptr) {
        const float sum = block_sum<kThreads>(dslope);
        if (threadIdx.x == 0) grid.dalibi[key_tile_index<Config>(p, grid, s, tile.batch, head0 + g, n)] = sum;
        dslope = 0;
      }
      ++g;
    }
    if constexpr (kStages == 1) {
      __syncthreads();
      copy_next(number + 1);
    }
  }
  if (kScored && b.dalibi_slopes != nullptr && steps == 0) {
    for (int of = static_cast<int>(threadIdx.x); of < group; of += kThreads)
      grid.dalibi[key_tile_index<Config>(p, grid, s, tile.batch, head0 + of, n)] = 0;
  }
  if (steps > 0) {
    await_turn();
    __syncthreads();
    if (steps > 1) end_turn(added_row);
    add_dq((steps - 1) % 2);
    __syncthreads();
    end_turn(adding_row);
  }
  cp_async_wait<0>();
  __syncthreads();

  // dK and dV leave through K's and V's tiles.
  const int held = min(kTileN, static_cast<int>(s.held_k) - key0);
  const auto store = [&](void* data, const Strides& strides, std::int64_t dim, float factor, std::uint32_t slot,
                         const float (&acc)[kMmaN][kMmaD][4]) {
    const std::int64_t first = tile.batch * strides.batch + tile.head_k * strides.head + (s.first_k + key0) * strides.row;
    if (b.grad_type == DType::f32) {
      fragments_to_rows(
          held - warp_n * Config::kKeys, warp_d * Config::kColumns, static_cast<int>(dim), factor, acc,
          [&](int r) { return static_cast<float*>(data) + first + (warp_n * Config::kKeys + r) * strides.row; });
    } else {
      fragments_to_tile<TileK, Element>(slot, warp_n * Config::kKeys, warp_d * kMmaD, factor, acc);
    }
  };
  store(b.dk, b.dk_strides, p.dim, static_cast<float>(p.scale), base, dk);
  store(b.dv, b.dv_strides, p.dim_v, p.keep_scale * Config::kWeightUnit, base + Config::kOffsetV, dv);
  if (b.grad_type != DType::f32) {
    __syncthreads();
    const auto write = [&](void* data, const Strides& strides, std::int64_t dim, std::uint32_t slot) {
      auto* to = static_cast<std::uint16_t*>(data) + tile.batch * strides.batch + tile.head_k * strides.head +
                 (s.first_k + key0) * strides.row;
      tile_to_rows<TileK, kTileN>(slot, 0, held, static_cast<int>(dim), aligned_rows(data, strides, dim, 2),
                                  static_cast<int>(threadIdx.x), kThreads, [&](int r) { return to + r * strides.row; });
    };
    write(b.dk, b.dk_strides, p.dim, base);
    write(b.dv, b.dv_strides, p.dim_v, base + Config::kOffsetV);
  }
}

}  // namespace cutplan::fmha::sm80
