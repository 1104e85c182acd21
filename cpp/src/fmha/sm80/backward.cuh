// Fused attention, backward, for Ampere and everything after it: cp.async, ldmatrix, mma.sync. 16-bit operands.
//
// With P = exp(S - LSE), D_i = sum_c grad_ic o_ic and dP = grad V^T (Dao 2023, "FlashAttention-2", algorithm 2):
//     dV = P^T grad,   dS = P o (dP - D),   dK = scale dS^T Q,   dQ = scale dS K.
//
// One block owns kTileN keys of one K and V head and walks over the queries that see them, of every head of the group: dK
// and dV stay in registers, and the group's sum costs nothing. Everything is computed transposed, keys x queries, so that
// weights and score gradients are operands of dV and dK as they are. dQ is added up in float32 in the workspace, in fragment
// order (each warp adds 128 adjacent bytes): as blocks come, or, deterministic, in turn: from the last key tile to the first.
// Blocks start in that order, too (a ticket sees to it), so that none waits for one that has not started; in causal attention
// those whose turn is first also reach a tile first. Other passes: `statistics` before (D, LSE in base 2, zeroes), `collect`
// after (scale and type of dQ); gradients of bias, slopes and sink where asked for.
//
// Data movement. K and V tiles stay in shared memory; Q, grad and the rows' statistics stream through kStages slots. The
// block's warps are kWarpsN along the keys by kWarpsD: those that share keys split the queries of S and dP and the columns of dK
// and dV. dS goes through shared memory for dQ; with kWarpsD > 1 the weights do so for dV, too. dQ lags by one step, so that
// one barrier a step is enough for the block (at 64: 312 TFLOP/s, and 294 with dQ in its own step and a second barrier; H200).
//
// Why these tiles. Fragments of a product come from shared memory at 128 bytes a cycle and SM, which a warp's 32 x 32 pieces
// of S and dP already use up; 32 x 64 pieces of dK and dV, 128 registers, are what fits beside them.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/cuda.hpp"
#include "core/kernels.hpp"
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
  static constexpr int kStatisticsBytes = kTileM * 8;
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
  float2* statistics;           // [heads of Q, rows]: LSE in base 2, D
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
        multiply<Element>(acc[i][2 * j], a[i], b[0], b[1]);
        multiply<Element>(acc[i][2 * j + 1], a[i], b[2], b[3]);
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
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(lse[0]), "=f"(delta[0]), "=f"(lse[1]), "=f"(delta[1])
               : "r"(address));
}

/// The sum over a block, in a fixed order; for thread 0.
template <int kThreads>
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float shares[kThreads / 32];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
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
      asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %0;" : "+r"(bits));
      const int key_half = (first + block) / Config::kMmaQ, j = (first + block) % Config::kMmaQ;
      const int bit = (key_half / 2 * Config::kMmaQ + j) * 4 + key_half % 2 * 2;
      if ((bits & 0xffffu) < p.keep_threshold) keep[bit / 32] |= 1u << bit % 32;
      if (bits >> 16 < p.keep_threshold) keep[bit / 32] |= 1u << (bit + 1) % 32;
    }
  }
}

/// Calls change(score, element) for each score of a thread and the element that an operand, broadcast to the scores, has there.
/// Scores outside the sequence get an element from its edge: they are masked anyway.
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

/// Turns products q . k into scores in base 2, and what the soft cap's derivative leaves of a gradient.
template <typename Config>
__device__ __forceinline__ void score(const Problem& p, const Sequence& s, const Piece<Config>& piece,
                                      float (&x)[Config::kMmaN][Config::kMmaQ][4],
                                      std::uint32_t (&slope)[Config::kMmaN][Config::kMmaQ][2]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  if (p.softcap > 0) {
    const auto cap = static_cast<float>(p.softcap) * kLog2e,
               to_exponent = static_cast<float>(2 * p.scale / p.softcap) * kLog2e;
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
          slope[i][j][half] = narrow<cutlass::half_t>(derivative[0], derivative[1]);
        }
      }
    }
  } else {
    const auto to_base2 = static_cast<float>(p.scale) * kLog2e;
#pragma unroll
    for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[i][j][e] *= to_base2;
      }
    }
  }
  if (p.alibi_slopes != nullptr) {
    const float alibi = __ldg(p.alibi_slopes + piece.batch * p.alibi_batch + piece.head * p.alibi_head) * kLog2e;
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
    visit_scores<float>(p.bias, p.bias_strides, s, piece, x, [](float& v, float bias) { v = fmaf(bias, kLog2e, v); });
  } else if (p.bias != nullptr) {
    visit_scores<std::uint16_t>(p.bias, p.bias_strides, s, piece, x, [](float& v, std::uint16_t bias) {
      v = fmaf(widen_low<typename Config::Element>(bias), kLog2e, v);
    });
  }
  if (p.mask != nullptr) {
    visit_scores<std::uint8_t>(p.mask, p.mask_strides, s, piece, x, [](float& v, std::uint8_t takes_part) {
      if (takes_part == 0) v = -INFINITY;
    });
  }
}

/// Weights of one tile of keys and one of queries, from the tiles in shared memory; see `gradients` for what follows.
/// `weight` holds them as 16-bit pairs of queries, in units of kWeightUnit.
template <typename Config, bool kScored>
__device__ __forceinline__ void weigh(const Problem& p, const Sequence& s, const Piece<Config>& piece, std::uint32_t k_first,
                                      std::uint32_t q_first, std::uint32_t statistics,
                                      std::uint32_t (&weight)[Config::kMmaN][Config::kMmaQ][2],
                                      std::uint32_t (&slope)[Config::kMmaN][Config::kMmaQ][2]) {
  constexpr int kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  float x[kMmaN][kMmaQ][4];
  clear(x);
  multiply_rows<typename Config::Element, typename Config::TileK, typename Config::TileQ>(k_first, q_first, x);
  if constexpr (kScored) score<Config>(p, s, piece, x, slope);
  const int last_query = min(piece.query0 + Config::kQueries, static_cast<int>(s.len_q)) - 1;
  const bool edge = piece.query0 > last_query || piece.key0 < first_key(p, s, last_query) ||
                    piece.key0 + Config::kKeys > end_key(p, s, piece.query0);
  if (edge) {
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
  }
  const float to_base2 = kScored ? 1.0f : static_cast<float>(p.scale) * kLog2e;
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
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(
                         slot + Config::TileS::offset(key0 + i * 16 + half * 8 + lane / 4, group0 + j) + lane % 4 * 4),
                     "r"(pair[i][j][half])
                     : "memory");
      }
    }
  }
}

/// acc += A B: A keys x queries from registers (pairs of queries), or from a TileS at `a_first`; B a tile of queries, of which
/// this warp takes the columns from `chunk_pair0` on.
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
        multiply<typename Config::Element>(acc[i][2 * j], a[i], b[0], b[1]);
        multiply<typename Config::Element>(acc[i][2 * j + 1], a[i], b[2], b[3]);
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
  const float2* from = grid.statistics + padded_row<Config>(p, grid, s, batch, head) + first;
  if (threadIdx.x < Config::kTileM / 2) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(slot_statistics + threadIdx.x * 16),
                 "l"(from + 2 * threadIdx.x)
                 : "memory");
  }
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
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
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
    commit_copies();
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
    std::uint32_t now;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(at) : "memory");
    } while (now != turn);
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
          multiply<Element>(dq[i][2 * j], a[i], k[0], k[1]);
          multiply<Element>(dq[i][2 * j + 1], a[i], k[2], k[3]);
        }
      }
    }
    float* to = grid.dq + adding_row * Config::kDim + threadIdx.x;
#pragma unroll
    for (int i = 0; i < kMmaRows; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaColumns; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e)
          asm volatile("red.global.add.f32 [%0], %1;" ::"l"(to + ((i * kMmaColumns + j) * 4 + e) * kThreads),
                       "f"(dq[i][j][e])
                       : "memory");
      }
    }
  };
#pragma unroll 1
  for (int number = 0; number < steps; ++number) {
    wait_for_copies<0>();
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
    weigh<Config, kScored>(p, s, piece, k_rows, q_rows + slot, statistics, weight, slope);
    const bool drops = kScored && p.rng_state != nullptr;
    std::uint32_t keep[(kMmaN * kMmaQ * 4 + 31) / 32];
    std::uint32_t dropped[kMmaN][kMmaQ][2];
    if (drops) draw<Config>(p, piece, keep);
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
    store_pairs<Config>(base + Config::kOffsetDs + parity * TileS::kBytes, warp_n * Config::kKeys, warp_d * kMmaQ, ds_pair);
    if constexpr (!Config::kWeightsInRegisters) {
      // Only the warps that share keys have to wait for each other here.
      asm volatile("bar.sync %0, %1;" ::"r"(1 + warp_n), "n"(32 * Config::kWarpsD) : "memory");
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
  wait_for_copies<0>();
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

/// One tile of queries of one head, as the passes around the main one see it.
struct QueryTile {
  std::int64_t batch, head, tile;
};

template <typename Config>
__device__ __forceinline__ bool query_tile(const Problem& p, std::uint32_t tiles, QueryTile& q) {
  q.tile = blockIdx.x % tiles;
  const std::int64_t batch_head = blockIdx.x / tiles;
  q.batch = batch_head / p.heads;
  q.head = batch_head - q.batch * p.heads;
  if (p.cu_seqlens_q == nullptr) return true;
  std::int64_t from_end;
  const auto count = [&](std::int64_t batch) { return (sequence(p, batch).len_q + Config::kTileM - 1) / Config::kTileM; };
  if (!find_sequence(p.batch, q.tile, count, q.batch, from_end)) return false;
  q.tile = from_end;
  return true;
}

/// LSE in base 2 and D of each row, and zeroes for dQ. Rows that have no key, or do not exist, get LSE = inf: weights of 0.
template <typename Config>
__global__ __launch_bounds__(128) void sm80_fmha_statistics(const __grid_constant__ BackwardProblem b,
                                                            const __grid_constant__ BackwardGrid grid, std::uint32_t tiles) {
  const Problem& p = b.forward;
  QueryTile q;
  if (!query_tile<Config>(p, tiles, q)) return;
  const Sequence s = sequence(p, q.batch);
  const std::int64_t first = padded_row<Config>(p, grid, s, q.batch, q.head) + q.tile * Config::kTileM;
  constexpr int kLanes = Config::kDim <= 64 ? 8 : Config::kDim <= 128 ? 16 : 32;  // of 8 columns, per row
  const int lane = static_cast<int>(threadIdx.x) % kLanes, dim_v = static_cast<int>(p.dim_v);
  const auto* grad =
      static_cast<const std::uint16_t*>(b.grad) + q.batch * b.grad_strides.batch + q.head * b.grad_strides.head;
  const std::int64_t o_first = q.batch * p.o_strides.batch + q.head * p.o_strides.head;
  const bool vectorised =
      p.vectorised && (p.o_type == DType::f32 ? aligned_rows(p.o, p.o_strides, 0, 4) : aligned_rows(p.o, p.o_strides, 0, 2));
#pragma unroll 2
  for (int r = static_cast<int>(threadIdx.x) / kLanes; r < Config::kTileM; r += 128 / kLanes) {
    const std::int64_t i = q.tile * Config::kTileM + r;
    float sum = 0;
    if (i < s.len_q && lane * 8 < dim_v) {
      const std::uint16_t* g = grad + (s.first_q + i) * b.grad_strides.row + lane * 8;
      const std::int64_t at = o_first + (s.first_q + i) * p.o_strides.row + lane * 8;
      float x[8] = {}, y[8] = {};
      if (vectorised) {
        const uint4 v = *reinterpret_cast<const uint4*>(g);
        const std::uint32_t words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          x[2 * w] = widen_low<typename Config::Element>(words[w]);
          x[2 * w + 1] = widen_high<typename Config::Element>(words[w]);
        }
        if (p.o_type == DType::f32) {
          const auto* o = reinterpret_cast<const float4*>(static_cast<const float*>(p.o) + at);
          reinterpret_cast<float4*>(y)[0] = o[0];
          reinterpret_cast<float4*>(y)[1] = o[1];
        } else {
          const uint4 u = *reinterpret_cast<const uint4*>(static_cast<const std::uint16_t*>(p.o) + at);
          const std::uint32_t o[4] = {u.x, u.y, u.z, u.w};
#pragma unroll
          for (int w = 0; w < 4; ++w) {
            y[2 * w] = widen_low<typename Config::Element>(o[w]);
            y[2 * w + 1] = widen_high<typename Config::Element>(o[w]);
          }
        }
      } else {
#pragma unroll
        for (int e = 0; e < 8; ++e) {
          if (lane * 8 + e >= dim_v) continue;
          x[e] = widen_low<typename Config::Element>(g[e]);
          y[e] = p.o_type == DType::f32
                     ? static_cast<const float*>(p.o)[at + e]
                     : widen_low<typename Config::Element>(static_cast<const std::uint16_t*>(p.o)[at + e]);
        }
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) sum = fmaf(x[e], y[e], sum);
    }
#pragma unroll
    for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (lane == 0) {
      float lse = INFINITY;
      if (i < s.len_q) {
        const float given = p.lse[q.batch * p.lse_batch + q.head * p.lse_head + s.first_q + i];
        if (given != -INFINITY) lse = given * kLog2e - Config::kWeightShift;
      }
      grid.statistics[first + r] = {lse, sum * Config::kWeightUnit};
    }
  }
  auto* to = reinterpret_cast<float4*>(grid.dq + first * Config::kDim);
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x); c < Config::kTileM * Config::kDim / 4; c += 128) to[c] = {0, 0, 0, 0};
  if (grid.turns != nullptr && threadIdx.x == 0) {
    grid.turns[first / Config::kTileM] = 0;
    if (blockIdx.x == 0) *grid.ticket = 0;
  }
}

/// dQ in its own type and layout, times scale.
template <typename Config>
__global__ __launch_bounds__(Config::kThreads) void sm80_fmha_collect(const __grid_constant__ BackwardProblem b,
                                                                      const __grid_constant__ BackwardGrid grid,
                                                                      std::uint32_t tiles) {
  using TileQ = typename Config::TileQ;
  constexpr int kMmaRows = Config::kMmaRows, kMmaColumns = Config::kMmaColumns;
  __shared__ __align__(128) char shared[TileQ::kBytes];
  const Problem& p = b.forward;
  QueryTile q;
  if (!query_tile<Config>(p, tiles, q)) return;
  const Sequence s = sequence(p, q.batch);
  const std::int64_t row0 = q.tile * Config::kTileM;
  const float* from = grid.dq + (padded_row<Config>(p, grid, s, q.batch, q.head) + row0) * Config::kDim + threadIdx.x;
  float dq[kMmaRows][kMmaColumns][4];
#pragma unroll
  for (int c = 0; c < Config::kFragment; ++c)
    dq[c / 4 / kMmaColumns][c / 4 % kMmaColumns][c % 4] = from[c * Config::kThreads];
  const int warp = static_cast<int>(threadIdx.x) / 32, warp_rows = warp % Config::kWarpsRows,
            warp_columns = warp / Config::kWarpsRows;
  const int rows = static_cast<int>(min(s.len_q - row0, std::int64_t{Config::kTileM}));
  const auto scale = static_cast<float>(p.scale);
  const std::int64_t first =
      q.batch * b.dq_strides.batch + q.head * b.dq_strides.head + (s.first_q + row0) * b.dq_strides.row;
  if (b.grad_type == DType::f32) {
    fragments_to_rows(
        rows - warp_rows * kMmaRows * 16, warp_columns * kMmaColumns * 8, static_cast<int>(p.dim), scale, dq,
        [&](int r) { return static_cast<float*>(b.dq) + first + (warp_rows * kMmaRows * 16 + r) * b.dq_strides.row; });
    return;
  }
  const auto slot = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  fragments_to_tile<TileQ, typename Config::Element>(slot, warp_rows * kMmaRows * 16, warp_columns * kMmaColumns, scale, dq);
  __syncthreads();
  tile_to_rows<TileQ, Config::kTileM>(
      slot, 0, rows, static_cast<int>(p.dim), aligned_rows(b.dq, b.dq_strides, p.dim, 2), static_cast<int>(threadIdx.x),
      Config::kThreads, [&](int r) { return static_cast<std::uint16_t*>(b.dq) + first + r * b.dq_strides.row; });
}

/// dbias: one block for one tile of the bias's own elements, over all that shares it, in order. What it costs, two products
/// per tile, is paid only where it is asked for.
template <typename Config>
__global__ __launch_bounds__(Config::kThreads) void sm80_fmha_dbias(const __grid_constant__ BackwardProblem b,
                                                                    const __grid_constant__ BackwardGrid grid) {
  using TileK = typename Config::TileK;
  using TileQ = typename Config::TileQ;
  constexpr int kTileM = Config::kTileM, kTileN = Config::kTileN, kMmaN = Config::kMmaN, kMmaQ = Config::kMmaQ;
  const Problem& p = b.forward;
  extern __shared__ __align__(128) char shared[];
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32,
            warp_n = warp / Config::kWarpsD, warp_d = warp % Config::kWarpsD;
  const auto tiles_of = [](std::int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const std::int64_t m_tiles = tiles_of(p.seq_q, kTileM), n_tiles = tiles_of(p.seq_k, kTileN);
  // The tile, and what it is summed over: begin and end of each of the four loops.
  std::int64_t index = blockIdx.x, begin[4], end[4];
  const std::int64_t extents[4] = {p.batch, p.heads, m_tiles, n_tiles};
#pragma unroll
  for (int d = 3; d >= 0; --d) {
    begin[d] = b.dbias_sums[d] ? 0 : index % extents[d];
    end[d] = b.dbias_sums[d] ? extents[d] : begin[d] + 1;
    if (!b.dbias_sums[d]) index /= extents[d];
  }
  float sum[kMmaN][kMmaQ][4];
  clear(sum);
  const std::uint32_t k_rows = base + warp_n * Config::kKeys * TileK::kRowBytes + TileK::rows_first(lane),
                      q_rows =
                          base + Config::kOffsetQ + warp_d * Config::kQueries * TileQ::kRowBytes + TileQ::chunks_first(lane),
                      statistics = base + Config::kOffsetStatistics + warp_d * Config::kQueries * 8 + lane % 4 * 16;
  constexpr int kToGrad = Config::kOffsetGrad - Config::kOffsetQ;
  for (std::int64_t batch = begin[0]; batch < end[0]; ++batch) {
    const Sequence s = sequence(p, batch);
    for (std::int64_t head = begin[1]; head < end[1]; ++head) {
      const std::int64_t head_k = head / (p.heads / p.heads_k);
      for (std::int64_t n = begin[3]; n < end[3]; ++n) {
        const int key0 = static_cast<int>(n) * kTileN, keys = min(kTileN, static_cast<int>(s.len_k) - key0);
        for (std::int64_t m = begin[2]; m < end[2]; ++m) {
          const std::int64_t row0 = m * kTileM, last = min(row0 + kTileM, s.len_q) - 1;
          if (keys <= 0 || row0 > last || key0 >= end_key(p, s, last) || key0 + kTileN <= first_key(p, s, row0)) continue;
          __syncthreads();
          const auto* k_data = static_cast<const std::uint16_t*>(p.k) + batch * p.k_strides.batch +
                               head_k * p.k_strides.head + key0 * p.k_strides.row;
          const auto* v_data = static_cast<const std::uint16_t*>(p.v) + batch * p.v_strides.batch +
                               head_k * p.v_strides.head + key0 * p.v_strides.row;
          copy_rows<TileK, Config::kThreads>(base, keys, static_cast<int>(p.dim), p.vectorised,
                                             [&](int r) { return k_data + r * p.k_strides.row; });
          copy_rows<TileK, Config::kThreads>(base + Config::kOffsetV, keys, static_cast<int>(p.dim_v), p.vectorised,
                                             [&](int r) { return v_data + r * p.v_strides.row; });
          copy_queries<Config>(b, grid, s, batch, head, static_cast<int>(m), base + Config::kOffsetQ,
                               base + Config::kOffsetGrad, base + Config::kOffsetStatistics);
          commit_copies();
          wait_for_copies<0>();
          __syncthreads();
          const Piece<Config> piece{key0 + warp_n * Config::kKeys, static_cast<int>(row0) + warp_d * Config::kQueries, batch,
                                    head};
          std::uint32_t weight[kMmaN][kMmaQ][2], slope[kMmaN][kMmaQ][2], keep[(kMmaN * kMmaQ * 4 + 31) / 32];
          weigh<Config, true>(p, s, piece, k_rows, q_rows, statistics, weight, slope);
          const bool drops = p.rng_state != nullptr;
          if (drops) draw<Config>(p, piece, keep);
          float ds[kMmaN][kMmaQ][4];
          gradients<Config>(p, k_rows + Config::kOffsetV, q_rows + kToGrad, statistics, weight, drops, keep, ds);
#pragma unroll
          for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
            for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
              for (int e = 0; e < 4; ++e) sum[i][j][e] += ds[i][j][e];
            }
          }
        }
      }
    }
  }
  // To shared memory as keys x queries, and out from there: single elements, or sums of a row, a column or all.
  constexpr int kPitch = kTileM + 1;
  auto* all = reinterpret_cast<float*>(shared);
  static_assert(kTileN * kPitch * 4 <= static_cast<int>(Config::kSharedMemory));
  __syncthreads();
  const Piece<Config> local{warp_n * Config::kKeys, warp_d * Config::kQueries, 0, 0};
#pragma unroll
  for (int i = 0; i < kMmaN; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaQ; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) all[local.key(i, e / 2) * kPitch + local.query(j, e % 2)] = sum[i][j][e];
    }
  }
  __syncthreads();
  const int rows = b.dbias_sums[2] ? 1 : kTileM, columns = b.dbias_sums[3] ? 1 : kTileN;
  for (int c = static_cast<int>(threadIdx.x); c < rows * columns; c += Config::kThreads) {
    const int row = c / columns, column = c % columns;
    float value = 0;
    for (int key = b.dbias_sums[3] ? 0 : column; key < (b.dbias_sums[3] ? kTileN : column + 1); ++key) {
      for (int query = b.dbias_sums[2] ? 0 : row; query < (b.dbias_sums[2] ? kTileM : row + 1); ++query)
        value += all[key * kPitch + query];
    }
    const std::int64_t i = b.dbias_sums[2] ? 0 : begin[2] * kTileM + row,
                       j = b.dbias_sums[3] ? 0 : begin[3] * kTileN + column;
    if ((!b.dbias_sums[2] && i >= p.seq_q) || (!b.dbias_sums[3] && j >= p.seq_k)) continue;
    const std::int64_t to = (b.dbias_sums[0] ? 0 : begin[0]) * b.dbias_strides.batch +
                            (b.dbias_sums[1] ? 0 : begin[1]) * b.dbias_strides.head + i * b.dbias_strides.row +
                            j * b.dbias_strides.col;
    if (p.bias_type == DType::f32) {
      static_cast<float*>(b.dbias)[to] = value;
    } else {
      static_cast<std::uint16_t*>(b.dbias)[to] = static_cast<std::uint16_t>(narrow<typename Config::Element>(value, 0.0f));
    }
  }
}

/// Gradients of the ALiBi slopes: the key tiles' shares, one block to a slope.
template <typename Config>
__global__ __launch_bounds__(128) void sm80_fmha_dalibi(const __grid_constant__ BackwardProblem b,
                                                        const __grid_constant__ BackwardGrid grid) {
  const Problem& p = b.forward;
  const std::int64_t head = blockIdx.x % p.heads, slope_batch = blockIdx.x / p.heads;
  float sum = 0;
  for (std::int64_t batch = b.alibi_sums_batch ? 0 : slope_batch; batch < (b.alibi_sums_batch ? p.batch : slope_batch + 1);
       ++batch) {
    const Sequence s = sequence(p, batch);
    const int key_tiles = static_cast<int>((s.held_k + Config::kTileN - 1) / Config::kTileN);
    for (int n = static_cast<int>(threadIdx.x); n < key_tiles; n += 128)
      sum += grid.dalibi[key_tile_index<Config>(p, grid, s, batch, head, n)];
  }
  sum = block_sum<128>(sum);
  if (threadIdx.x == 0) b.dalibi_slopes[slope_batch * b.dalibi_batch + head * b.dalibi_head] = sum;
}

/// Gradient of the sinks: -sum_i exp(sink - LSE_i) D_i, one block to a head.
template <typename Config>
__global__ __launch_bounds__(256) void sm80_fmha_dsink(const __grid_constant__ BackwardProblem b,
                                                       const __grid_constant__ BackwardGrid grid) {
  const Problem& p = b.forward;
  const std::int64_t head = blockIdx.x;
  const float sink = p.sink[head * p.sink_head] * kLog2e;
  float sum = 0;
  for (std::int64_t batch = 0; batch < p.batch; ++batch) {
    const Sequence s = sequence(p, batch);
    const float2* rows = grid.statistics + padded_row<Config>(p, grid, s, batch, head);
    for (std::int64_t i = threadIdx.x; i < s.len_q; i += 256) sum -= exp2_approx(sink - rows[i].x) * rows[i].y;
  }
  sum = block_sum<256>(sum);
  if (threadIdx.x == 0) b.dsink[head * b.dsink_head] = sum;
}

constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

/// What a launch keeps in the workspace, in bytes.
template <typename Config>
struct BackwardSpace {
  std::int64_t heads, rows, all_key_tiles, statistics, dq, turns, dalibi;

  BackwardSpace(bool packed, std::int64_t batch, std::int64_t heads_q, std::int64_t seq_q, std::int64_t seq_k, bool in_turn,
                bool wants_dalibi) {
    heads = packed ? heads_q : batch * heads_q;
    rows = round_up(seq_q + (packed ? batch * Config::kTileM : 0), Config::kTileM);
    all_key_tiles = round_up(seq_k, Config::kTileN) / Config::kTileN + (packed ? batch : 0);
    statistics = round_up(heads * rows * 8, 256);
    dq = round_up(heads * rows * Config::kDim * 4, 256);
    turns = in_turn ? round_up((1 + heads * rows / Config::kTileM) * 4, 256) : 0;
    dalibi = wants_dalibi ? round_up(heads * all_key_tiles * 4, 256) : 0;
  }
  std::int64_t total() const { return statistics + dq + turns + dalibi; }
};

template <typename Config>
std::size_t workspace_backward(const Kernel&, const FmhaBackwardDescriptor& g, bool deterministic) {
  const FmhaDescriptor& f = g.forward;
  return static_cast<std::size_t>(
      BackwardSpace<Config>(f.packed, f.batch, f.heads, f.seq_q, f.seq_k, deterministic, g.dalibi_slopes).total());
}

template <typename Config>
void run_backward(const Kernel&, const BackwardProblem& b, const Launch& launch) {
  const Problem& p = b.forward;
  const bool packed = p.cu_seqlens_q != nullptr;
  const BackwardSpace<Config> space(packed, p.batch, p.heads, p.seq_q, p.seq_k, b.deterministic, b.dalibi_slopes != nullptr);
  const bool scored = p.softcap > 0 || p.alibi_slopes != nullptr || p.bias != nullptr || p.mask != nullptr ||
                      p.rng_state != nullptr || !(p.scale > 0);
  BackwardGrid grid{};
  grid.rows = space.rows;
  grid.all_key_tiles = space.all_key_tiles;
  auto* workspace = static_cast<char*>(launch.workspace);
  grid.statistics = reinterpret_cast<float2*>(workspace);
  grid.dq = reinterpret_cast<float*>(workspace + space.statistics);
  if (b.deterministic) {
    grid.ticket = reinterpret_cast<std::uint32_t*>(workspace + space.statistics + space.dq);
    grid.turns = grid.ticket + 1;
  }
  grid.dalibi = reinterpret_cast<float*>(workspace + space.statistics + space.dq + space.turns);
  grid.heads = static_cast<std::uint32_t>((packed ? 1 : p.batch) * p.heads_k);
  grid.key_tiles = static_cast<std::uint32_t>(round_up(p.seq_k, Config::kTileN) / Config::kTileN + (packed ? p.batch : 0));
  constexpr std::int64_t at_once_bytes = 16 << 20;
  const std::int64_t of_one = std::max<std::int64_t>(1, p.seq_q * (p.dim + p.dim_v) * 2 * (p.heads / p.heads_k));
  grid.heads_at_once =
      static_cast<std::uint32_t>(std::min<std::int64_t>(grid.heads, std::max<std::int64_t>(1, at_once_bytes / of_one)));
  const auto stream = static_cast<cudaStream_t>(launch.stream);
  const auto query_tiles = static_cast<std::uint32_t>(space.rows / Config::kTileM);
  const auto query_blocks = static_cast<unsigned>(query_tiles * space.heads);
  if (query_blocks > 0) {
    sm80_fmha_statistics<Config><<<query_blocks, 128, 0, stream>>>(b, grid, query_tiles);
    check_cuda(cudaGetLastError(), "attention statistics launch");
  }
  const unsigned blocks = grid.heads * grid.key_tiles;
  if (blocks > 0) {
    if (scored) {
      sm80_fmha_backward<Config, true><<<blocks, Config::kThreads, Config::kSharedMemory, stream>>>(b, grid);
    } else {
      sm80_fmha_backward<Config, false><<<blocks, Config::kThreads, Config::kSharedMemory, stream>>>(b, grid);
    }
    check_cuda(cudaGetLastError(), "attention backward launch");
  }
  if (query_blocks > 0) {
    sm80_fmha_collect<Config><<<query_blocks, Config::kThreads, 0, stream>>>(b, grid, query_tiles);
    check_cuda(cudaGetLastError(), "attention dq launch");
  }
  if (b.dbias != nullptr) {
    const std::int64_t extents[4] = {p.batch, p.heads, round_up(p.seq_q, Config::kTileM) / Config::kTileM,
                                     round_up(p.seq_k, Config::kTileN) / Config::kTileN};
    std::int64_t tiles = 1;
    for (int d = 0; d < 4; ++d) tiles *= b.dbias_sums[d] ? 1 : extents[d];
    if (tiles > 0)
      sm80_fmha_dbias<Config><<<static_cast<unsigned>(tiles), Config::kThreads, Config::kSharedMemory, stream>>>(b, grid);
    check_cuda(cudaGetLastError(), "attention dbias launch");
  }
  if (b.dalibi_slopes != nullptr) {
    sm80_fmha_dalibi<Config>
        <<<static_cast<unsigned>(p.heads * (b.alibi_sums_batch ? 1 : p.batch)), 128, 0, stream>>>(b, grid);
    check_cuda(cudaGetLastError(), "attention dalibi_slopes launch");
  }
  if (b.dsink != nullptr) {
    sm80_fmha_dsink<Config><<<static_cast<unsigned>(p.heads), 256, 0, stream>>>(b, grid);
    check_cuda(cudaGetLastError(), "attention dsink launch");
  }
}

template <typename Config>
void prepare_backward(const Kernel&) {
  const auto raise = [](const void* kernel) {
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(Config::kSharedMemory)),
        "cudaFuncSetAttribute");
  };
  raise(reinterpret_cast<const void*>(sm80_fmha_backward<Config, false>));
  raise(reinterpret_cast<const void*>(sm80_fmha_backward<Config, true>));
  raise(reinterpret_cast<const void*>(sm80_fmha_dbias<Config>));
}

template <typename Config>
constexpr Kernel backward_kernel(double teraflops) {
  Kernel k{};
  k.pass = Pass::backward;
  k.arch = Config::kArch;
  k.backend = Backend::cute;
  k.operand = dtype_of<typename Config::Element>;
  k.math = Math::strict;
  k.dim = Config::kDim;
  k.tile_m = Config::kTileM;
  k.tile_n = Config::kTileN;
  k.stages = Config::kStages;
  k.threads = Config::kThreads;
  k.blocks_by_registers = Config::kBlocksPerSm;
  k.shared_memory = Config::kSharedMemory;
  k.minimum_compute_capability = Config::kArch == Arch::sm89 ? 89 : 80;
  k.maximum_compute_capability = Config::kArch == Arch::sm89 ? 90 : any_newer;
  k.teraflops = teraflops;
  k.divides = true;
  k.run_backward = run_backward<Config>;
  k.workspace_backward = workspace_backward<Config>;
  k.prepare = prepare_backward<Config>;
  return k;
}

}  // namespace cutplan::fmha::sm80
