// Fused attention, forward, for Ampere and everything after it: cp.async, ldmatrix, mma.sync. 16-bit Q, K and V.
//
// One block computes kTileM rows of O for one head (or, with few queries, for all heads that share a K and V head: row
// r is query r / group, head r % group). Softmax is online (Dao 2023, "FlashAttention-2", algorithm 1).
//
// Data movement. Q comes to shared memory once. Tiles of K and V come turn about through one ring of kSlots slots, kSlots -
// 1 in flight. Each warp owns 16 kMmaM rows: scores, weights and O never leave its registers; an accumulator of Q K^T has
// the layout of an operand of P V. Keys of a tile are dealt to columns (tile.cuh) so that a thread's columns are adjacent.
//
// What is saved against the textbook form. The running maximum is allowed to lag by a factor of 2^8: O is rescaled, and the
// maxima of a row's four threads are compared, only when some row of the warp grows by more (weights stay below 2^8, in
// float16 2^15, far from overflow, and the sum that divides them has the same factor). After the first tiles that is hardly
// ever. Rows of which that goes wrong, for the size of their scores or for what is hidden in a bias, are told at the end by
// their maximum and sum, and computed once more, one by one (scores.cuh). Masks are applied by those warps whose tile touches
// an edge; tiles beyond an edge are skipped. Long tiles come first.
//
// Why these tiles. A warp's 32 rows make one read of a K or V fragment serve two products, so that shared memory keeps up
// with the tensor cores; 32 rows x 128 columns of O are 128 registers.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/kernel.hpp"
#include "core/launch.hpp"
#include "core/sm80/weighted_sum.cuh"
#include "fmha/score.hpp"
#include "fmha/sm80/tile.cuh"

namespace cutplan::fmha::sm80 {

template <Arch kArch_, typename Element_, int kDim_, int kTileM_, int kTileN_, int kWarps_, int kSlots_, int kBlocksPerSm_>
struct ForwardConfig {
  static constexpr Arch kArch = kArch_;  // of the unit: the same tile in two units is two kernels
  using Element = Element_;
  static constexpr int kDim = kDim_, kTileM = kTileM_, kTileN = kTileN_, kWarps = kWarps_, kSlots = kSlots_,
                       kBlocksPerSm = kBlocksPerSm_;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kMmaM = kTileM / kWarps / 16;  // row blocks of a warp
  static constexpr int kRows = 2 * kMmaM;             // rows of a thread
  // K and V of a step arrive together, with one barrier a step in place of two (5 to 10 % at 64 and 128, H200).
  static constexpr bool kPaired = kSlots == 4;
  // Steps along the head dimension whose fragments of Q stay in registers, where there is room for them: all up to 64 (2 to
  // 5 %, H200), and of 256 half (3 to 5 % with pairs of slots; without them they spill: -10 %). All of 96: -3 %.
  static constexpr int kKept = kMmaM * (kDim / 16) * 4 <= 32 ? kDim / 16 : kPaired && kMmaM == 1 ? 8 : 0;
  static constexpr int kColumns = kTileN / 4;  // adjacent keys of a thread
  // float16 has few exponents: its weights are 2^7 times what they are elsewhere, 2^15 at most, so that small ones count.
  static constexpr float kHeadroom = std::is_same_v<Element, cutlass::half_t> ? 7 : 0;
  using TileQ = Tile<kTileM, kDim, Adjacent>;
  using TileKV = Tile<kTileN, kDim, Dealt<kTileN>>;
  static constexpr std::size_t kSharedMemory = TileQ::kBytes + kSlots * TileKV::kBytes;
  static_assert(kTileN % 32 == 0 && kTileM % (16 * kWarps) == 0 && kSlots >= 2);
};

/// Cuts the work into blocks: row tiles x heads x splits of the keys.
struct ForwardGrid {
  std::uint32_t pack;           // heads whose rows share a tile: 1, or the group that shares a K and V head
  std::uint32_t heads;          // of tiles: batch * heads / pack; packed: heads / pack
  std::uint32_t row_tiles;      // of one head; packed: an upper bound for all sequences together
  std::uint32_t heads_at_once;  // whose K and V fit into L2 together
  std::uint32_t splits;
  float* partial_o;      // splits > 1: [splits, rows, dim_v rounded up to 4], normalised; then
  float2* partial_rows;  // [splits, rows]: maximum in base 2, sum. Their LSE would lose the sum to a large maximum.
  std::int64_t rows;
};

struct ForwardTile {
  std::int64_t batch, head;  // the head that row 0 belongs to
  std::int64_t row;          // first row: query * pack + head
  std::uint32_t split;
};

/// The longest tiles of causal attention, those of the last rows, come first, so that short ones fill the end.
__device__ __forceinline__ bool forward_tile(const Problem& p, const ForwardGrid& grid, int tile_m, ForwardTile& tile) {
  std::uint32_t index = blockIdx.x;
  if (p.cu_seqlens_q == nullptr) {
    const Place place = place_of(index / grid.splits, grid.row_tiles, grid.heads, grid.heads_at_once);
    tile.split = index % grid.splits;
    const std::uint32_t of_all = place.head * grid.pack;
    tile.batch = of_all / static_cast<std::uint32_t>(p.heads);
    tile.head = of_all - tile.batch * static_cast<std::uint32_t>(p.heads);
    tile.row = static_cast<std::int64_t>(grid.row_tiles - 1 - place.tile) * tile_m;
    return true;
  }
  const std::uint32_t of_sequences = index / (grid.heads * grid.splits);
  index -= of_sequences * grid.heads * grid.splits;
  tile.head = index / grid.splits * grid.pack;
  tile.split = index % grid.splits;
  // Of a sequence, too, the last rows first.
  std::int64_t row_tile;
  const auto row_tiles = [&](std::int64_t batch) { return (sequence(p, batch).len_q * grid.pack + tile_m - 1) / tile_m; };
  if (!find_sequence(p.batch, of_sequences, row_tiles, tile.batch, row_tile)) return false;  // fewer tiles than the bound
  tile.row = row_tile * tile_m;
  return true;
}

inline constexpr float kNoMaximum = -1e30f;  // of a row that has seen no key; finite, so that differences are

/// Up to this magnitude of a maximum in base 2 its rounding changes weights by less than a factor of 2^0.5. Beyond it a row is
/// computed one by one; so is one that has no maximum although there are keys.
inline constexpr float kFarScore = 4194304;

/// Number of one row of O among all of them: [B, H, Sq], packed [H, Tq].
__device__ __forceinline__ std::int64_t row_index(const Problem& p, const Sequence& s, std::int64_t batch, std::int64_t head,
                                                  std::int64_t i) {
  return (p.cu_seqlens_q == nullptr ? batch * p.heads + head : head) * p.seq_q + s.first_q + i;
}

/// The rows of a tile, as this thread sees them. Row r of a thread: lane / 4 and 8 further of each of its warp's blocks of
/// 16.
struct ForwardRows {
  int first;  // of the warp
  int all;    // rows of the sequence: queries times packed heads
  int pack;

  __device__ int row(int r) const {
    return min(first + r / 2 * 16 + r % 2 * 8 + static_cast<int>(threadIdx.x % 32) / 4, all - 1);
  }
  __device__ int query(int row) const { return pack == 1 ? row : row / pack; }
  __device__ int head(int row) const { return pack == 1 ? 0 : row % pack; }
};

/// Reads kColumns adjacent elements of kBytes each for every row of a thread, from an operand that broadcasts to the scores,
/// all at once: their latency is paid for once. Of a row the first `valid` exist; what does not exist reads as zero.
template <typename Config, int kBytes, int kCount>
__device__ __forceinline__ void fetch_rows(const void* operand, const Broadcast& strides, const ForwardTile& tile,
                                           const ForwardRows& rows, int first, int own, int valid,
                                           std::uint32_t (&raw)[kCount][Config::kColumns * kBytes / 4]) {
  constexpr int kPiece = kBytes == 1 ? 8 : 16, kWords = Config::kColumns * kBytes / 4;
  const auto* base = static_cast<const char*>(operand) +
                     (tile.batch * strides.batch + tile.head * strides.head + own * strides.col) * kBytes;
  const auto all = static_cast<std::uint64_t>(strides.batch | strides.head | strides.row) * kBytes;
  const bool vectorised = strides.col == 1 && ((reinterpret_cast<std::uintptr_t>(operand) | all) & (kPiece - 1)) == 0;
  if (vectorised && valid == Config::kColumns) {
#pragma unroll
    for (int r = 0; r < kCount; ++r) {
      const int row = rows.row(first + r);
      const char* data = base + (rows.head(row) * strides.head + rows.query(row) * strides.row) * kBytes;
#pragma unroll
      for (int i = 0; i < kWords * 4 / kPiece; ++i) {
        if constexpr (kPiece == 16) {
          *reinterpret_cast<uint4*>(&raw[r][i * 4]) = __ldg(reinterpret_cast<const uint4*>(data) + i);
        } else {
          *reinterpret_cast<uint2*>(&raw[r][i * 2]) = __ldg(reinterpret_cast<const uint2*>(data) + i);
        }
      }
    }
    return;
  }
#pragma unroll
  for (int r = 0; r < kCount; ++r) {
    const int row = rows.row(first + r);
    const char* data = base + (rows.head(row) * strides.head + rows.query(row) * strides.row) * kBytes;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      raw[r][w] = 0;
#pragma unroll
      for (int e = 0; e < (kBytes == 4 ? 1 : 4 / kBytes); ++e) {
        const int column = kBytes == 4 ? w : w * (4 / kBytes) + e;
        if (column >= valid) continue;
        const char* at = data + column * strides.col * kBytes;
        if constexpr (kBytes == 4) raw[r][w] = __ldg(reinterpret_cast<const std::uint32_t*>(at));
        if constexpr (kBytes == 2)
          raw[r][w] |= static_cast<std::uint32_t>(__ldg(reinterpret_cast<const std::uint16_t*>(at))) << 16 * e;
        if constexpr (kBytes == 1)
          raw[r][w] |= static_cast<std::uint32_t>(__ldg(reinterpret_cast<const std::uint8_t*>(at))) << 8 * e;
      }
    }
  }
}

/// What stands between a product q . k and its weight besides scale. Each kind is a kernel of its own, because what it does,
/// it does in every step; `bias` is a 16-bit bias alone (d = 128: 255 TFLOP/s, and 219 in the kernel of all options; H200).
enum class Scores { scale, bias, any };

/// Turns products q . k into scores: scale or soft cap, bias, ALiBi, mask.
template <typename Config, Scores kScores>
__device__ __forceinline__ void score(const Problem& p, const Sequence& s, const ForwardTile& tile, const ForwardRows& rows,
                                      int key0, float (&x)[Config::kMmaM][Config::kTileN / 8][4]) {
  using Element = typename Config::Element;
  constexpr bool kAny = kScores == Scores::any;
  constexpr int kColumns = Config::kColumns, kRows = Config::kRows;
  const int lane = static_cast<int>(threadIdx.x) % 32, own = key0 + lane % 4 * kColumns;
  const int valid = static_cast<int>(clamp(s.len_k - own, 0, kColumns));
  const auto at = [&](int r, int column) -> float& { return x[r / 2][column / 2][r % 2 * 2 + column % 2]; };
  const auto each = [&](const auto& change) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kColumns; ++c) at(r, c) = change(at(r, c));
    }
  };
  if (kAny && p.softcap > 0) {
    // tanh y = 1 - 2 / (1 + e^2y)
    const auto cap = static_cast<float>(p.softcap), to_exponent = static_cast<float>(2 * p.scale / p.softcap) * kLog2e;
    each([&](float v) { return fmaf(-2 * cap, reciprocal_approx(1 + exp2_approx(v * to_exponent)), cap); });
  } else {
    const auto scale = static_cast<float>(p.scale);
    each([&](float v) { return v * scale; });
  }
  if (kAny && p.bias != nullptr && p.bias_type == DType::f32) {
#pragma unroll
    for (int r = 0; r < kRows; r += 2) {  // more at once would not fit into registers
      std::uint32_t wide[2][kColumns];
      fetch_rows<Config, 4>(p.bias, p.bias_strides, tile, rows, r, own, valid, wide);
#pragma unroll
      for (int c = 0; c < 2 * kColumns; ++c)
        at(r + c / kColumns, c % kColumns) += __uint_as_float(wide[c / kColumns][c % kColumns]);
    }
  } else if (!kAny || p.bias != nullptr) {
    // A thread's adjacent keys are, as they lie in memory, its fragment of a 16 x 16 operand: times one, the tensor cores
    // add them, in place of two instructions an element. Infinity times the zeroes beside the one would be NaN: -inf goes in
    // as the lowest number, which in base 2 overflows bfloat16's range again; float16's does not, and is put right after. Where
    // that is not enough, in a row of the lowest numbers or beside a NaN, the row is computed one by one.
    constexpr bool kHalf = std::is_same_v<Element, cutlass::half_t>;
    const std::uint32_t one =
        narrow<Element>(lane / 4 == lane % 4 * 2 ? 1.0f : 0.0f, lane / 4 == lane % 4 * 2 + 1 ? 1.0f : 0.0f);
#pragma unroll
    for (int i = 0; i < Config::kMmaM; ++i) {
      std::uint32_t raw[2][kColumns / 2], finite[2][kColumns / 2], changed = 0;
      fetch_rows<Config, 2>(p.bias, p.bias_strides, tile, rows, 2 * i, own, valid, raw);
#pragma unroll
      for (int w = 0; w < kColumns; ++w) {
        finite[w % 2][w / 2] = at_least_lowest<Element>(raw[w % 2][w / 2]);
        changed |= raw[w % 2][w / 2] ^ finite[w % 2][w / 2];
      }
#pragma unroll
      for (int step = 0; step < Config::kTileN / 16; ++step) {
        const std::uint32_t a[4] = {finite[0][2 * step], finite[1][2 * step], finite[0][2 * step + 1],
                                    finite[1][2 * step + 1]};
        mma<Element>(x[i][2 * step], a, one, 0);
        mma<Element>(x[i][2 * step + 1], a, 0, one);
      }
      if (kHalf && __any_sync(~0u, changed != 0)) {
#pragma unroll
        for (int c = 0; c < 2 * kColumns; ++c) {
          const std::uint32_t element = raw[c / kColumns][c % kColumns / 2] >> c % 2 * 16 & 0xffffu;
          if (element == 0xfc00u) at(2 * i + c / kColumns, c % kColumns) = -INFINITY;
        }
      }
    }
  }
  if (kAny && p.alibi_slopes != nullptr) {
    const auto slope_of = [&](int row) {
      return load_side<Element>(p.alibi_slopes, p.alibi_type,
                                tile.batch * p.alibi_batch + (tile.head + rows.head(row)) * p.alibi_head);
    };
    const float of_first = slope_of(rows.row(0));
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = rows.row(r);
      const float slope = r == 0 || rows.pack == 1 ? of_first : slope_of(row);
      const auto distance = static_cast<float>(rows.query(row) + s.offset - own);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) at(r, c) = fmaf(-slope, fabsf(distance - c), at(r, c));
    }
  }
  if (kAny && p.mask != nullptr) {
#pragma unroll
    for (int r = 0; r < kRows; r += 2) {
      std::uint32_t bytes[2][kColumns / 4];
      fetch_rows<Config, 1>(p.mask, p.mask_strides, tile, rows, r, own, valid, bytes);
#pragma unroll
      for (int c = 0; c < 2 * kColumns; ++c) {
        if ((bytes[c / kColumns][c % kColumns / 4] >> (c % 4 * 8) & 0xff) == 0)
          at(r + c / kColumns, c % kColumns) = -INFINITY;
      }
    }
  }
}

/// Asks L2 for the bias that the warp's rows have at the keys from `key0` on.
template <typename Config>
__device__ __forceinline__ void prefetch_bias(const Problem& p, const Sequence& s, const ForwardTile& tile,
                                              const ForwardRows& rows, int key0) {
  const int lane = static_cast<int>(threadIdx.x) % 32, row = min(rows.first + lane, rows.all - 1);
  if (p.bias == nullptr || p.bias_strides.col != 1 || key0 >= s.len_k || lane >= 16 * Config::kMmaM) return;
  const int size = p.bias_type == DType::f32 ? 4 : 2;
  const char* data = static_cast<const char*>(p.bias) +
                     (tile.batch * p.bias_strides.batch + (tile.head + rows.head(row)) * p.bias_strides.head +
                      rows.query(row) * p.bias_strides.row + key0) *
                         size;
  for (int byte = 0; byte < Config::kTileN * size; byte += 128)
    if (key0 + byte / size < s.len_k) asm volatile("prefetch.global.L2 [%0];" ::"l"(data + byte));
}

/// Which of a thread's kColumns weights of each row dropout keeps, one bit each.
template <typename Config>
__device__ __forceinline__ void draw(const Problem& p, const ForwardTile& tile, const ForwardRows& rows, int key0,
                                     std::uint32_t (&keep)[Config::kRows]) {
  const int own = key0 + static_cast<int>(threadIdx.x) % 4 * Config::kColumns;
#pragma unroll
  for (int r = 0; r < Config::kRows; ++r) {
    const int row = rows.row(r);
    const Dropout dropout = Dropout::of(p.rng_state, tile.batch * p.heads + tile.head + rows.head(row));
    keep[r] = 0;
#pragma unroll
    for (int g = 0; g < Config::kColumns / 8; ++g) {
      const Philox random = dropout.group(rows.query(row), own / 8 + g);
#pragma unroll
      for (int e = 0; e < 8; ++e) keep[r] |= (Dropout::bits(random, e) < p.keep_threshold ? 1u : 0u) << (8 * g + e);
    }
  }
}

/// Divides by the sums, adds the sink, and stores O and LSE, or this split's share of them. Returns which of the thread's rows
/// may have to be computed one by one, one bit each.
template <typename Config>
__device__ __forceinline__ std::uint32_t store(const Problem& p, const ForwardGrid& grid, const Sequence& s,
                                               const ForwardTile& tile, const ForwardRows& rows,
                                               float (&o)[Config::kMmaM][Config::kDim / 8][4],
                                               float (&row_max)[Config::kRows], float (&row_sum)[Config::kRows],
                                               std::uint32_t shared_q) {
  using Element = typename Config::Element;
  using TileQ = typename Config::TileQ;
  constexpr int kMmaD = Config::kDim / 8, kRows = Config::kRows;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim_v = static_cast<int>(p.dim_v);
  const bool split = grid.splits > 1;
  std::uint32_t alone = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    row_sum[r] += __shfl_xor_sync(~0u, row_sum[r], 1);
    row_sum[r] += __shfl_xor_sync(~0u, row_sum[r], 2);
    const int row = rows.row(r);
    const std::int64_t head = tile.head + rows.head(row), i = rows.query(row);
    float factor = 1, farthest = fabsf(row_max[r]);
    if (p.sink != nullptr && !split) {
      const float sink = load_side<Element>(p.sink, p.sink_type, head * p.sink_head) * kLog2e, now = fmaxf(row_max[r], sink);
      if (row_max[r] == kNoMaximum) farthest = INFINITY;  // LSE is the sink, to the bit
      if (sink != -INFINITY) farthest = fmaxf(farthest, fabsf(sink));
      factor = exp2_approx(row_max[r] - now);
      row_sum[r] = row_sum[r] * factor + exp2_approx(sink - now);
      row_max[r] = now;
    }
    if (!(farthest <= kFarScore && row_sum[r] == row_sum[r])) alone |= 1u << r;
    const bool empty = row_sum[r] == 0;
    factor = empty ? 0 : factor * p.keep_scale / row_sum[r];
#pragma unroll
    for (int j = 0; j < kMmaD; ++j) {
      o[r / 2][j][r % 2 * 2] *= factor;
      o[r / 2][j][r % 2 * 2 + 1] *= factor;
    }
    const bool writes = lane % 4 == 0 && rows.first + r / 2 * 16 + r % 2 * 8 + lane / 4 < rows.all;
    if (split) {
      if (writes)
        grid.partial_rows[tile.split * grid.rows + row_index(p, s, tile.batch, head, i)] = {row_max[r], row_sum[r]};
    } else if (writes && p.lse != nullptr) {
      const float lse = empty ? -INFINITY : row_max[r] + log2_approx(row_sum[r]);
      p.lse[tile.batch * p.lse_batch + head * p.lse_head + s.first_q + i] = lse * kLn2;
    }
  }

  const int existing = rows.all - rows.first;
  if (split || p.o_type == DType::f32) {
    const int padded = (dim_v + 3) / 4 * 4;
    fragments_to_rows(existing, 0, split ? padded : dim_v, 1.0f, o, [&](int r) {
      const int row = rows.first + r;
      const std::int64_t head = tile.head + rows.head(row), i = rows.query(row);
      return split ? grid.partial_o + (tile.split * grid.rows + row_index(p, s, tile.batch, head, i)) * padded
                   : static_cast<float*>(p.o) + tile.batch * p.o_strides.batch + head * p.o_strides.head +
                         (s.first_q + i) * p.o_strides.row;
    });
    return alone;
  }
  // Through this warp's own rows of Q's tile, which nobody else reads, so that rows leave in 16-byte pieces.
  constexpr int kWarpRows = 16 * Config::kMmaM;
  const int row0 = static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  __syncwarp();
  fragments_to_tile<TileQ, Element>(shared_q, row0, 0, 1.0f, o);
  __syncwarp();
  tile_to_rows<TileQ, kWarpRows>(
      shared_q, row0, existing, dim_v, aligned_rows(p.o, p.o_strides, p.dim_v, 2), lane, 32, [&](int r) {
        const int row = rows.first + r;
        return static_cast<std::uint16_t*>(p.o) + tile.batch * p.o_strides.batch +
               (tile.head + rows.head(row)) * p.o_strides.head + (s.first_q + rows.query(row)) * p.o_strides.row;
      });
  return alone;
}

/// In O, in place of a row's first element: the row is to be computed one by one. A NaN that arithmetic does not make.
__device__ __forceinline__ bool is_marked(const Problem& p, std::int64_t at) {
  return p.o_type == DType::f32 ? static_cast<const std::uint32_t*>(p.o)[at] == 0x7fbdbdbdu
                                : static_cast<const std::uint16_t*>(p.o)[at] == 0x7fbdu;
}
__device__ __forceinline__ void mark(const Problem& p, std::int64_t at) {
  if (p.o_type == DType::f32) {
    static_cast<std::uint32_t*>(p.o)[at] = 0x7fbdbdbdu;
  } else {
    static_cast<std::uint16_t*>(p.o)[at] = 0x7fbdu;
  }
}

/// Computes one by one what is marked of a warp's rows; a row without a maximum may as well be one that no key is there for.
/// Kernels with options leave that to another (sm80_fmha_alone): a call would cost them registers in their main loop.
template <typename Config, Scores kScores>
__device__ __forceinline__ void store_alone(const Problem& p, const Sequence& s, const ForwardTile& tile,
                                            const ForwardRows& rows, std::uint32_t alone) {
  __syncwarp();  // what has been stored of these rows comes before
#pragma unroll 1
  for (int r = 0; r < Config::kRows; ++r) {
    std::uint32_t marked = __ballot_sync(~0u, alone >> r & 1) & 0x11111111u;  // the first of the four that share a row
    for (; marked != 0; marked &= marked - 1) {
      const int row = rows.first + r / 2 * 16 + r % 2 * 8 + (__ffs(static_cast<int>(marked)) - 1) / 4;
      if (row >= rows.all) continue;
      const std::int64_t head = tile.head + rows.head(row), i = rows.query(row);
      if constexpr (kScores == Scores::scale) {
        attend_row(p, tile.batch, head, i);
      } else if (threadIdx.x % 32 == 0) {
        mark(p, tile.batch * p.o_strides.batch + head * p.o_strides.head + (s.first_q + i) * p.o_strides.row);
      }
    }
  }
}

/// x = Q K^T for the warp's rows and a tile of keys. `q`: what of Q stays in registers.
template <typename Config>
__device__ __forceinline__ void multiply_qk(
    std::uint32_t first_q, std::uint32_t k_fragment,
    const std::uint32_t (&q)[Config::kKept > 0 ? Config::kKept : 1][Config::kMmaM][4],
    float (&x)[Config::kMmaM][Config::kTileN / 8][4]) {
  using Element = typename Config::Element;
  using TileQ = typename Config::TileQ;
  using TileKV = typename Config::TileKV;
  constexpr int kMmaM = Config::kMmaM, kMmaN = Config::kTileN / 8, kStepsD = Config::kDim / 16;
#pragma unroll
  for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaN; ++j) x[i][j][0] = x[i][j][1] = x[i][j][2] = x[i][j][3] = 0;
  }
#pragma unroll
  for (int step = 0; step < kStepsD; ++step) {
    std::uint32_t a[kMmaM][4];
#pragma unroll
    for (int i = 0; i < kMmaM; ++i) {
      if (step < Config::kKept) {
        a[i][0] = q[step][i][0], a[i][1] = q[step][i][1], a[i][2] = q[step][i][2], a[i][3] = q[step][i][3];
      } else {
        ldmatrix(TileQ::at(first_q, i, step), a[i]);
      }
    }
#pragma unroll
    for (int j = 0; j < kMmaN / 2; ++j) {
      std::uint32_t b[4];
      ldmatrix(TileKV::at(k_fragment, j, step), b);
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) {
        mma<Element>(x[i][2 * j], a[i], b[0], b[1]);
        mma<Element>(x[i][2 * j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

/// Hides what a row does not see of a tile that touches an edge.
template <typename Config>
__device__ __forceinline__ void mask_edges(const Problem& p, const Sequence& s, const ForwardRows& rows, int key0,
                                           float (&x)[Config::kMmaM][Config::kTileN / 8][4]) {
  constexpr int kColumns = Config::kColumns, kRows = Config::kRows, kMmaN = Config::kTileN / 8;
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t i = rows.query(rows.row(r)), own = key0 + lane % 4 * kColumns;
    const int first = static_cast<int>(clamp(first_key(p, s, i) - own, 0, kColumns)),
              end = static_cast<int>(clamp(end_key(p, s, i) - own, 0, kColumns));
#pragma unroll
    for (int j = 0; j < kMmaN; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        if (2 * j + e < first || 2 * j + e >= end) x[r / 2][j][r % 2 * 2 + e] = -INFINITY;
      }
    }
  }
}

/// Online softmax: where a score of some row of the warp exceeds its maximum by too much, the maxima rise, and sums and O shrink.
template <typename Config>
__device__ __forceinline__ void raise_maxima(float to_base2, const float (&x)[Config::kMmaM][Config::kTileN / 8][4],
                                             float (&o)[Config::kMmaM][Config::kDim / 8][4], float (&row_max)[Config::kRows],
                                             float (&row_sum)[Config::kRows]) {
  constexpr int kRows = Config::kRows, kMmaN = Config::kTileN / 8, kMmaD = Config::kDim / 8;
  constexpr float kHeadroom = Config::kHeadroom;
  float largest[kRows];
  bool grows = false;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    largest[r] = x[r / 2][0][r % 2 * 2];
#pragma unroll
    for (int j = 0; j < kMmaN; ++j)
      largest[r] = fmaxf(largest[r], fmaxf(x[r / 2][j][r % 2 * 2], x[r / 2][j][r % 2 * 2 + 1]));
    largest[r] *= to_base2;
    grows = grows || largest[r] > row_max[r] + (8 + kHeadroom);
  }
  if (__any_sync(~0u, grows)) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 1));
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 2));
      // By row, so that no row's bits depend on its neighbours.
      const float now = largest[r] > row_max[r] + (8 + kHeadroom) ? largest[r] - kHeadroom : row_max[r],
                  factor = exp2_approx(row_max[r] - now);
      row_max[r] = now;
      row_sum[r] *= factor;
#pragma unroll
      for (int j = 0; j < kMmaD; ++j) {
        o[r / 2][j][r % 2 * 2] *= factor;
        o[r / 2][j][r % 2 * 2 + 1] *= factor;
      }
    }
  }
}

/// Scores to weights, and o += P V.
template <typename Config>
__device__ __forceinline__ void multiply_pv(std::uint32_t v_fragment, float to_base2, bool drops,
                                            const std::uint32_t (&keep)[Config::kRows],
                                            float (&x)[Config::kMmaM][Config::kTileN / 8][4],
                                            float (&o)[Config::kMmaM][Config::kDim / 8][4],
                                            const float (&row_max)[Config::kRows], float (&row_sum)[Config::kRows]) {
  using Element = typename Config::Element;
  using TileKV = typename Config::TileKV;
  constexpr int kRows = Config::kRows, kMmaM = Config::kMmaM, kMmaD = Config::kDim / 8, kStepsN = Config::kTileN / 16;
#pragma unroll
  for (int step = 0; step < kStepsN; ++step) {
    std::uint32_t a[kMmaM][4];
#pragma unroll
    for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float (&c)[4] = x[i][2 * step + j];
          const int r = 2 * i + half;
          c[2 * half] = exp2_approx(fmaf(c[2 * half], to_base2, -row_max[r]));
          c[2 * half + 1] = exp2_approx(fmaf(c[2 * half + 1], to_base2, -row_max[r]));
          row_sum[r] += c[2 * half] + c[2 * half + 1];
        }
      }
    }
    if (drops) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if ((keep[r] >> (4 * step + e) & 1) == 0) x[r / 2][2 * step + e / 2][r % 2 * 2 + e % 2] = 0;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
      for (int w = 0; w < 4; ++w)
        a[i][w] = narrow<Element>(x[i][2 * step + w / 2][w % 2 * 2], x[i][2 * step + w / 2][w % 2 * 2 + 1]);
    }
#pragma unroll
    for (int j = 0; j < kMmaD / 2; ++j) {
      std::uint32_t b[4];
      ldmatrix_transposed(TileKV::at(v_fragment, step, j), b);
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) {
        mma<Element>(o[i][2 * j], a[i], b[0], b[1]);
        mma<Element>(o[i][2 * j + 1], a[i], b[2], b[3]);
      }
    }
  }
}

/// `again` is p, for the one function that is called and not inlined: a parameter whose address is taken is read from memory
/// wherever it is used.
template <typename Config, Scores kScores>
__global__ __launch_bounds__(Config::kThreads,
                             Config::kBlocksPerSm) void sm80_fmha_forward(const __grid_constant__ Problem p,
                                                                          const __grid_constant__ ForwardGrid grid,
                                                                          const __grid_constant__ Problem again) {
  using TileQ = typename Config::TileQ;
  using TileKV = typename Config::TileKV;
  constexpr bool kScored = kScores != Scores::scale;
  constexpr int kDim = Config::kDim, kTileM = Config::kTileM, kTileN = Config::kTileN, kMmaM = Config::kMmaM,
                kRows = Config::kRows, kSlots = Config::kSlots, kThreads = Config::kThreads;
  constexpr int kMmaN = kTileN / 8, kMmaD = kDim / 8;
  extern __shared__ __align__(128) char shared[];
  const auto shared_q = shared_address(shared);
  const std::uint32_t ring = shared_q + TileQ::kBytes;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

  ForwardTile tile;
  if (!forward_tile(p, grid, kTileM, tile)) return;
  const Sequence s = sequence(p, tile.batch);
  const std::int64_t pack = grid.pack, head_k = tile.head / (p.heads / p.heads_k), all_rows = s.len_q * pack;
  if (tile.row >= all_rows) return;  // a shorter sequence than others

  // Keys, counted within the sequence, fit 32 bits; so do rows. Key tiles that any row of the block sees, this block's part:
  const int block_rows = static_cast<int>(min(all_rows - tile.row, std::int64_t{kTileM}));
  const ForwardRows rows{static_cast<int>(tile.row) + warp * 16 * kMmaM, static_cast<int>(all_rows), static_cast<int>(pack)};
  int tile_begin, tiles;
  {
    const auto first = static_cast<int>(first_key(p, s, rows.query(static_cast<int>(tile.row)))),
               end = static_cast<int>(end_key(p, s, rows.query(static_cast<int>(tile.row) + block_rows - 1)));
    tile_begin = first / kTileN;
    tiles = max(0, (end + kTileN - 1) / kTileN - tile_begin);
    if (grid.splits > 1) {
      const int share = (tiles + static_cast<int>(grid.splits) - 1) / static_cast<int>(grid.splits),
                skipped = static_cast<int>(tile.split) * share;
      tile_begin += skipped;
      tiles = max(0, min(tiles - skipped, share));
    }
  }

  const auto* k_data = static_cast<const std::uint16_t*>(p.k) + tile.batch * p.k_strides.batch + head_k * p.k_strides.head +
                       s.first_k * p.k_strides.row;
  const auto* v_data = static_cast<const std::uint16_t*>(p.v) + tile.batch * p.v_strides.batch + head_k * p.v_strides.head +
                       s.first_k * p.v_strides.row;
  const int len_k = static_cast<int>(s.len_k);
  // K and V tiles are numbered turn about.
  const auto load_tile = [&](int number) {
    if (number < 2 * tiles) {
      const std::uint32_t slot = ring + number % kSlots * TileKV::kBytes;
      const int first = (tile_begin + number / 2) * kTileN, existing = min(len_k - first, kTileN);
      const std::uint16_t* data = number % 2 == 0 ? k_data : v_data;
      const std::int64_t stride = number % 2 == 0 ? p.k_strides.row : p.v_strides.row;
      copy_rows<TileKV, kThreads>(slot, existing, static_cast<int>(number % 2 == 0 ? p.dim : p.dim_v), p.vectorised,
                                  [&](int r) { return data + static_cast<std::int64_t>(first + r) * stride; });
    }
    cp_async_commit();
  };

  const auto* q_data = static_cast<const std::uint16_t*>(p.q) + tile.batch * p.q_strides.batch +
                       tile.head * p.q_strides.head + s.first_q * p.q_strides.row;
  copy_rows<TileQ, kThreads>(shared_q, block_rows, static_cast<int>(p.dim), p.vectorised, [&](int r) {
    const int row = static_cast<int>(tile.row) + r;
    return q_data + rows.head(row) * p.q_strides.head + rows.query(row) * p.q_strides.row;
  });
#pragma unroll
  for (int number = 0; number < kSlots - (Config::kPaired ? 2 : 1); ++number)
    load_tile(number);  // the first group holds Q too

  // Keys that some row of the warp sees, and those that all of them see.
  const bool has_rows = rows.first < rows.all;
  int some_first, some_end, all_first, all_end;
  {
    const int first_query = rows.query(min(rows.first, rows.all - 1)),
              last_query = rows.query(min(rows.first + 16 * kMmaM, rows.all) - 1);
    some_first = static_cast<int>(first_key(p, s, first_query));
    some_end = has_rows ? static_cast<int>(end_key(p, s, last_query)) : 0;
    all_first = static_cast<int>(first_key(p, s, last_query));
    all_end = static_cast<int>(end_key(p, s, first_query));
  }

  float o[kMmaM][kMmaD][4];
  float row_max[kRows], row_sum[kRows];  // base 2; the sum is this thread's share
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    row_max[r] = kNoMaximum;
    row_sum[r] = 0;
  }
#pragma unroll
  for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
    for (int j = 0; j < kMmaD; ++j) o[i][j][0] = o[i][j][1] = o[i][j][2] = o[i][j][3] = 0;
  }
  const float to_base2 = kScored ? kLog2e : static_cast<float>(p.scale) * kLog2e;  // of what `x` holds below
  const std::uint32_t first_q = shared_q + warp * 16 * kMmaM * TileQ::kRowBytes + TileQ::rows_first(lane),
                      first_k_fragment = ring + TileKV::chunks_first(lane),
                      first_v_fragment = ring + TileKV::rows_first(lane);

  std::uint32_t q[Config::kKept > 0 ? Config::kKept : 1][kMmaM][4];
  if constexpr (Config::kKept > 0) {
    cp_async_wait<kSlots - (Config::kPaired ? 3 : 2)>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < Config::kKept; ++step) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) ldmatrix(TileQ::at(first_q, i, step), q[step][i]);
    }
  }

#pragma unroll 1
  for (int n = 0; n < tiles; ++n) {
    const int key0 = (tile_begin + n) * kTileN;
    const bool visible = key0 < some_end && key0 + kTileN > some_first;
    float x[kMmaM][kMmaN][4];
    if constexpr (kScored) prefetch_bias<Config>(p, s, tile, rows, key0 + kTileN);
    if constexpr (Config::kPaired) {
      cp_async_wait<kSlots - 4>();
      __syncthreads();
      load_tile(2 * n + kSlots - 2);
      load_tile(2 * n + kSlots - 1);
    } else {
      cp_async_wait<kSlots - 2>();
      __syncthreads();
      load_tile(2 * n + kSlots - 1);
    }
    if (visible) {
      multiply_qk<Config>(first_q, first_k_fragment + 2 * n % kSlots * TileKV::kBytes, q, x);
      if constexpr (kScored) {
        score<Config, kScores>(p, s, tile, rows, key0, x);
      }
      if (key0 < all_first || key0 + kTileN > all_end) {
        mask_edges<Config>(p, s, rows, key0, x);
      }
      raise_maxima<Config>(to_base2, x, o, row_max, row_sum);
    }
    if constexpr (!Config::kPaired) {
      cp_async_wait<kSlots - 2>();
      __syncthreads();
      load_tile(2 * n + kSlots);
    }
    if (visible) {
      std::uint32_t keep[kRows];
      const bool drops = kScores == Scores::any && p.rng_state != nullptr;
      if (drops) draw<Config>(p, tile, rows, key0, keep);
      multiply_pv<Config>(first_v_fragment + (2 * n + 1) % kSlots * TileKV::kBytes, to_base2, drops, keep, x, o, row_max,
                          row_sum);
    }
  }
  cp_async_wait<0>();
  if (tiles == 0) __syncthreads();  // Q, of which nobody has waited for the others' copies, gives its place to O
  const std::uint32_t alone = store<Config>(p, grid, s, tile, rows, o, row_max, row_sum, shared_q);
  // Of split keys the combining kernel sees to it.
  if (grid.splits == 1 && __any_sync(~0u, alone != 0)) store_alone<Config, kScores>(again, s, tile, rows, alone);
}

/// Computes the rows that a kernel with options has marked: a thread looks at a row, a warp computes it.
static __global__ __launch_bounds__(128, 10) void sm80_fmha_alone(const __grid_constant__ Problem p, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 128 + threadIdx.x;
  const auto place = [&](std::int64_t row, std::int64_t& batch, std::int64_t& head, std::int64_t& i) {
    i = row % p.seq_q;
    const std::int64_t batch_head = row / p.seq_q;
    batch = p.cu_seqlens_q == nullptr ? batch_head / p.heads : 0;
    head = batch_head - batch * p.heads;
  };
  std::int64_t batch, head, i;
  place(row, batch, head, i);
  const bool own = row < rows && is_marked(p, batch * p.o_strides.batch + head * p.o_strides.head + i * p.o_strides.row);
  for (std::uint32_t marked = __ballot_sync(~0u, own); marked != 0; marked &= marked - 1) {
    std::int64_t first = 0;
    place(row - threadIdx.x % 32 + __ffs(static_cast<int>(marked)) - 1, batch, head, i);
    if (p.cu_seqlens_q == nullptr || find_row(p, i, batch, first)) attend_row(p, batch, head, i - first);
  }
}

/// Adds up the splits' shares, one warp to a row, always in the same order.
template <typename Element>
__global__ __launch_bounds__(128, 10) void sm80_fmha_combine(const __grid_constant__ Problem p,
                                                             const __grid_constant__ ForwardGrid grid) {
  constexpr int kVectors = 2;  // of 4 columns, per lane: 256 columns
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  if (row >= grid.rows) return;
  const int lane = threadIdx.x % 32;
  const std::int64_t i = row % p.seq_q, batch_head = row / p.seq_q;
  const std::int64_t batch = p.cu_seqlens_q == nullptr ? batch_head / p.heads : 0, head = batch_head - batch * p.heads;
  float largest = kNoMaximum;
  for (std::uint32_t split = lane; split < grid.splits; split += 32)
    largest = fmaxf(largest, grid.partial_rows[split * grid.rows + row].x);
  largest = reduce_lanes(largest, [](float x, float y) { return fmaxf(x, y); });
  WeightedSum<kVectors * 4> of_row;
  float farthest = fabsf(largest);
  if (p.sink != nullptr) {
    const float sink = load_side<Element>(p.sink, p.sink_type, head * p.sink_head) * kLog2e;
    if (sink != -INFINITY) farthest = fmaxf(farthest, fabsf(sink));
    largest = fmaxf(largest, sink);
    of_row.weights = exp2_approx(sink - largest);
  }
  const int padded = static_cast<int>((p.dim_v + 3) / 4 * 4);
#pragma unroll 4
  for (std::uint32_t split = 0; split < grid.splits; ++split) {
    const std::int64_t index = split * grid.rows + row;
    const float2 of_split = grid.partial_rows[index];
    float share[kVectors * 4] = {};
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = (v * 32 + lane) * 4;
      if (column < padded)
        reinterpret_cast<float4(&)[kVectors]>(share)[v] =
            *reinterpret_cast<const float4*>(grid.partial_o + index * padded + column);
    }
    of_row.add(exp2_approx(of_split.x - largest) * of_split.y, share);
  }
  const float sum = of_row.weights, factor = of_row.factor();
  if (!(farthest <= kFarScore && sum == sum)) {  // as in the main kernel
    std::int64_t of = batch, first = 0;
    if (p.cu_seqlens_q == nullptr || find_row(p, i, of, first)) attend_row(p, of, head, i - first);
    return;
  }
  if (lane == 0 && p.lse != nullptr)
    p.lse[batch * p.lse_batch + head * p.lse_head + i] = sum == 0 ? -INFINITY : (largest + log2_approx(sum)) * kLn2;
  const std::int64_t to = batch * p.o_strides.batch + head * p.o_strides.head + i * p.o_strides.row;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = (v * 32 + lane) * 4 + e;
      const float value = of_row.values[v * 4 + e] * factor;
      if (column >= p.dim_v) continue;
      if (p.o_type == DType::f32) {
        static_cast<float*>(p.o)[to + column] = value;
      } else {
        static_cast<std::uint16_t*>(p.o)[to + column] = static_cast<std::uint16_t>(narrow<Element>(value, 0.0f));
      }
    }
  }
}

/// Rows of O of the whole problem.
inline std::int64_t all_rows(const FmhaDescriptor& g) { return (g.varlen ? 1 : g.batch) * g.heads * g.seq_q; }

inline std::size_t workspace_forward(const Kernel&, const FmhaDescriptor& g, int splits) {
  return splits > 1 ? static_cast<std::size_t>(all_rows(g)) * splits * ((g.dim_v + 3) / 4 * 4 + 2) * sizeof(float) : 0;
}

template <typename Config>
void run_forward(const Kernel&, const Problem& p, const Launch& launch) {
  const bool short_bias = p.bias != nullptr && p.bias_type != DType::f32;
  // Without further options the maximum is taken before scaling, which wants a positive scale.
  const bool any = p.softcap > 0 || p.alibi_slopes != nullptr || (p.bias != nullptr && !short_bias) || p.mask != nullptr ||
                   p.rng_state != nullptr || (!short_bias && !(p.scale > 0));
  const std::int64_t group = p.heads / p.heads_k, packed_batch = p.cu_seqlens_q != nullptr ? 1 : p.batch;
  ForwardGrid grid{};
  grid.pack = static_cast<std::uint32_t>(p.cu_seqlens_q == nullptr && p.seq_q * 2 <= Config::kTileM ? group : 1);
  grid.heads = static_cast<std::uint32_t>(packed_batch * p.heads / grid.pack);
  const std::int64_t row_tiles = (p.seq_q * grid.pack + Config::kTileM - 1) / Config::kTileM;
  grid.row_tiles = static_cast<std::uint32_t>(row_tiles + (p.cu_seqlens_q != nullptr ? p.batch : 0));
  const std::int64_t of_one = std::max<std::int64_t>(1, p.seq_k * (p.dim + p.dim_v) * 2);
  grid.heads_at_once = static_cast<std::uint32_t>(std::min<std::int64_t>(
      grid.heads, std::max<std::int64_t>(1, static_cast<std::int64_t>(launch.l2_share) / of_one) * (group / grid.pack)));
  grid.splits = static_cast<std::uint32_t>(launch.splits);
  grid.rows = packed_batch * p.heads * p.seq_q;
  grid.partial_o = static_cast<float*>(launch.workspace);
  if (launch.splits > 1)
    grid.partial_rows = reinterpret_cast<float2*>(grid.partial_o + grid.rows * launch.splits * ((p.dim_v + 3) / 4 * 4));
  const auto kernel = any          ? sm80_fmha_forward<Config, Scores::any>
                      : short_bias ? sm80_fmha_forward<Config, Scores::bias>
                                   : sm80_fmha_forward<Config, Scores::scale>;
  launch_kernel("attention kernel launch", launch.stream,
                {std::int64_t{grid.row_tiles} * grid.heads * grid.splits, Config::kThreads, Config::kSharedMemory}, kernel,
                p, grid, p);
  if (launch.splits > 1) {
    launch_kernel("attention combine launch", launch.stream, {(grid.rows + 3) / 4, 128},
                  sm80_fmha_combine<typename Config::Element>, p, grid);
  } else if (any || short_bias) {
    launch_kernel("attention rows launch", launch.stream, {(grid.rows + 127) / 128, 128}, sm80_fmha_alone, p, grid.rows);
  }
}

template <typename Config>
void prepare_forward(const Kernel&) {
  allow_shared_memory(sm80_fmha_forward<Config, Scores::scale>, Config::kSharedMemory);
  allow_shared_memory(sm80_fmha_forward<Config, Scores::bias>, Config::kSharedMemory);
  allow_shared_memory(sm80_fmha_forward<Config, Scores::any>, Config::kSharedMemory);
  load_kernel(sm80_fmha_combine<typename Config::Element>);
  load_kernel(sm80_fmha_alone);
}

/// An entry of a table.
template <Arch kArch, typename Element, int kDim, int kTileM, int kTileN, int kWarps, int kSlots, int kBlocksPerSm>
constexpr Kernel forward_kernel(double teraflops) {
  using Config = ForwardConfig<kArch, Element, kDim, kTileM, kTileN, kWarps, kSlots, kBlocksPerSm>;
  Kernel k = describe<Config>(Pass::forward, teraflops);
  k.stages = Config::kSlots;
  k.run_forward = run_forward<Config>;
  k.workspace_forward = workspace_forward;
  k.prepare = prepare_forward<Config>;
  return k;
}

}  // namespace cutplan::fmha::sm80
