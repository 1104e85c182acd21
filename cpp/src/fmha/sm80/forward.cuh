// Fused attention, forward, for Ampere and everything after it: cp.async, ldmatrix, mma.sync. 16-bit Q, K and V.
//
// One block computes kTileM rows of O for one head (or, with few queries, for all heads that share a K and V head: row
// r is query r / group, head r % group). Softmax is online (Dao 2023, "FlashAttention-2", algorithm 1).
//
// Data movement. Q comes to shared memory once. Tiles of K and V come turn about through one ring of kSlots slots, kSlots - 1
// in flight. Each warp owns 16 kMmaM rows: scores, weights and O never leave its registers; an accumulator of Q K^T has
// the layout of an operand of P V. Keys of a tile are dealt to columns (tile.cuh) so that a thread's columns are adjacent.
//
// What is saved against the textbook form. The running maximum is allowed to lag by a factor of 2^8: O is rescaled, and the
// maxima of a row's four threads are compared, only when some row of the warp grows by more (weights stay below 2^8, far
// from overflow, and the sum that divides them has the same factor). After the first tiles that is hardly ever. Masks are
// applied by those warps whose tile touches an edge; tiles beyond an edge are skipped. Long tiles come first.
//
// Why these tiles. A warp's 32 rows make one read of a K or V fragment serve two products, so that shared memory keeps up with
// the tensor cores; 32 rows x 128 columns of O are 128 registers.
#pragma once

#include <algorithm>
#include <cmath>

#include "core/cuda.hpp"
#include "core/kernels.hpp"
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
  // Q's fragments stay in registers where there is room for them: head dimensions up to 64 (2 to 5 % there, H200).
  static constexpr bool kKeepsQ = kMmaM * (kDim / 16) * 4 <= 32;
  // K and V of a step arrive together, with one barrier a step in place of two (5 to 10 % at 64 and 128, H200).
  static constexpr bool kPaired = kSlots == 4;
  static constexpr int kColumns = kTileN / 4;  // adjacent keys of a thread
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
  float* partial_o;    // splits > 1: [splits, rows, dim_v rounded up to 4], normalised; then
  float* partial_lse;  // [splits, rows], base 2
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

/// Number of one row of O among all of them: [B, H, Sq], packed [H, Tq].
__device__ __forceinline__ std::int64_t row_index(const Problem& p, const Sequence& s, std::int64_t batch, std::int64_t head,
                                                  std::int64_t i) {
  return (p.cu_seqlens_q == nullptr ? batch * p.heads + head : head) * p.seq_q + s.first_q + i;
}

/// The rows of a tile, as this thread sees them. Row r of a thread: lane / 4 and 8 further of each of its warp's blocks of 16.
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

/// Adds `factor` times kColumns adjacent elements to one row of scores; the first `valid` of them exist.
template <typename Element, int kMmaN>
__device__ __forceinline__ void add_bias(const Problem& p, const char* data, int valid, bool vectorised, int half,
                                         float (&x)[kMmaN][4]) {
  constexpr int kColumns = 2 * kMmaN;
  if (p.bias_type == DType::f32) {
    const auto* bias = reinterpret_cast<const float*>(data);
    float v[kColumns];
    if (vectorised && valid == kColumns) {
#pragma unroll
      for (int i = 0; i < kColumns / 4; ++i)
        reinterpret_cast<float4*>(v)[i] = __ldg(reinterpret_cast<const float4*>(bias) + i);
    } else {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) v[i] = i < valid ? __ldg(bias + i * p.bias_strides.col) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i) x[i / 2][half * 2 + i % 2] = fmaf(v[i], kLog2e, x[i / 2][half * 2 + i % 2]);
  } else {
    const auto* bias = reinterpret_cast<const std::uint16_t*>(data);
    std::uint32_t v[kColumns / 2];
    if (vectorised && valid == kColumns) {
#pragma unroll
      for (int i = 0; i < kColumns / 8; ++i)
        reinterpret_cast<uint4*>(v)[i] = __ldg(reinterpret_cast<const uint4*>(bias) + i);
    } else {
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        const std::uint32_t low = 2 * i < valid ? __ldg(bias + 2 * i * p.bias_strides.col) : 0,
                            high = 2 * i + 1 < valid ? __ldg(bias + (2 * i + 1) * p.bias_strides.col) : 0;
        v[i] = low | high << 16;
      }
    }
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      x[i][half * 2] = fmaf(widen_low<Element>(v[i]), kLog2e, x[i][half * 2]);
      x[i][half * 2 + 1] = fmaf(widen_high<Element>(v[i]), kLog2e, x[i][half * 2 + 1]);
    }
  }
}

/// Turns products q . k into scores in base 2: scale, soft cap, ALiBi, bias, mask.
template <typename Config>
__device__ __forceinline__ void score(const Problem& p, const Sequence& s, const ForwardTile& tile, const ForwardRows& rows,
                                      int key0, float (&x)[Config::kMmaM][Config::kTileN / 8][4]) {
  constexpr int kMmaN = Config::kTileN / 8, kColumns = Config::kColumns, kRows = Config::kRows;
  const auto each = [&](const auto& change) {
#pragma unroll
    for (int i = 0; i < Config::kMmaM; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaN; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[i][j][e] = change(x[i][j][e]);
      }
    }
  };
  if (p.softcap > 0) {
    // tanh y = 1 - 2 / (1 + e^2y)
    const auto cap = static_cast<float>(p.softcap) * kLog2e,
               to_exponent = static_cast<float>(2 * p.scale / p.softcap) * kLog2e;
    each([&](float v) { return cap - 2 * cap * __frcp_rn(1 + exp2_approx(v * to_exponent)); });
  } else {
    const auto to_base2 = static_cast<float>(p.scale) * kLog2e;
    each([&](float v) { return v * to_base2; });
  }
  const int own = key0 + static_cast<int>(threadIdx.x) % 4 * kColumns;
  const int valid = static_cast<int>(clamp(s.len_k - own, 0, kColumns));
  if (p.alibi_slopes != nullptr) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = rows.row(r);
      const float slope =
          __ldg(p.alibi_slopes + tile.batch * p.alibi_batch + (tile.head + rows.head(row)) * p.alibi_head) * kLog2e;
      const auto distance = static_cast<float>(rows.query(row) + s.offset - own);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        float& v = x[r / 2][c / 2][r % 2 * 2 + c % 2];
        v = fmaf(-slope, fabsf(distance - c), v);
      }
    }
  }
  if (p.bias != nullptr) {
    const int size = p.bias_type == DType::f32 ? 4 : 2;
    const Broadcast& strides = p.bias_strides;
    const bool vectorised =
        strides.col == 1 && ((reinterpret_cast<std::uintptr_t>(p.bias) |
                              static_cast<std::uintptr_t>(strides.batch | strides.head | strides.row) * size) &
                             15) == 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = rows.row(r);
      const char* data =
          static_cast<const char*>(p.bias) + (tile.batch * strides.batch + (tile.head + rows.head(row)) * strides.head +
                                              rows.query(row) * strides.row + own * strides.col) *
                                                 size;
      add_bias<typename Config::Element>(p, data, valid, vectorised, r % 2, x[r / 2]);
    }
  }
  if (p.mask != nullptr) {
    const Broadcast& strides = p.mask_strides;
    const bool vectorised = strides.col == 1 && valid == kColumns &&
                            ((reinterpret_cast<std::uintptr_t>(p.mask) |
                              static_cast<std::uintptr_t>(strides.batch | strides.head | strides.row)) &
                             7) == 0;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int row = rows.row(r);
      const std::uint8_t* data = p.mask + tile.batch * strides.batch + (tile.head + rows.head(row)) * strides.head +
                                 rows.query(row) * strides.row + own * strides.col;
      std::uint32_t v[kColumns / 4];
      if (vectorised) {
#pragma unroll
        for (int i = 0; i < kColumns / 8; ++i)
          reinterpret_cast<uint2*>(v)[i] = __ldg(reinterpret_cast<const uint2*>(data) + i);
      } else {
#pragma unroll
        for (int i = 0; i < kColumns / 4; ++i) {
          v[i] = 0;
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            if (4 * i + e < valid) v[i] |= static_cast<std::uint32_t>(__ldg(data + (4 * i + e) * strides.col)) << (8 * e);
          }
        }
      }
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        if ((v[c / 4] >> (c % 4 * 8) & 0xff) == 0) x[r / 2][c / 2][r % 2 * 2 + c % 2] = -INFINITY;
      }
    }
  }
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

/// Divides by the sums, adds the sink, and stores O and LSE, or this split's share of them.
template <typename Config>
__device__ __forceinline__ void store(const Problem& p, const ForwardGrid& grid, const Sequence& s, const ForwardTile& tile,
                                      const ForwardRows& rows, float (&o)[Config::kMmaM][Config::kDim / 8][4],
                                      float (&row_max)[Config::kRows], float (&row_sum)[Config::kRows],
                                      std::uint32_t shared_q) {
  using Element = typename Config::Element;
  using TileQ = typename Config::TileQ;
  constexpr int kMmaD = Config::kDim / 8, kRows = Config::kRows;
  const int lane = static_cast<int>(threadIdx.x) % 32, dim_v = static_cast<int>(p.dim_v);
  const bool split = grid.splits > 1;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    row_sum[r] += __shfl_xor_sync(~0u, row_sum[r], 1);
    row_sum[r] += __shfl_xor_sync(~0u, row_sum[r], 2);
    const int row = rows.row(r);
    const std::int64_t head = tile.head + rows.head(row), i = rows.query(row);
    float factor = 1;
    if (p.sink != nullptr && !split) {
      const float sink = __ldg(p.sink + head * p.sink_head) * kLog2e, now = fmaxf(row_max[r], sink);
      factor = exp2_approx(row_max[r] - now);
      row_sum[r] = row_sum[r] * factor + exp2_approx(sink - now);
      row_max[r] = now;
    }
    const bool empty = row_sum[r] == 0;
    factor = empty ? 0 : factor * p.keep_scale / row_sum[r];
#pragma unroll
    for (int j = 0; j < kMmaD; ++j) {
      o[r / 2][j][r % 2 * 2] *= factor;
      o[r / 2][j][r % 2 * 2 + 1] *= factor;
    }
    const bool writes = lane % 4 == 0 && rows.first + r / 2 * 16 + r % 2 * 8 + lane / 4 < rows.all;
    const float lse = empty ? -INFINITY : row_max[r] + log2_approx(row_sum[r]);
    if (split) {
      if (writes) grid.partial_lse[tile.split * grid.rows + row_index(p, s, tile.batch, head, i)] = lse;
    } else if (writes && p.lse != nullptr) {
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
    return;
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
}

template <typename Config, bool kScored>
__global__ __launch_bounds__(Config::kThreads,
                             Config::kBlocksPerSm) void sm80_fmha_forward(const __grid_constant__ Problem p,
                                                                          const __grid_constant__ ForwardGrid grid) {
  using Element = typename Config::Element;
  using TileQ = typename Config::TileQ;
  using TileKV = typename Config::TileKV;
  constexpr int kDim = Config::kDim, kTileM = Config::kTileM, kTileN = Config::kTileN, kMmaM = Config::kMmaM,
                kRows = Config::kRows, kColumns = Config::kColumns, kSlots = Config::kSlots, kThreads = Config::kThreads;
  constexpr int kMmaN = kTileN / 8, kMmaD = kDim / 8, kStepsD = kDim / 16, kStepsN = kTileN / 16;
  extern __shared__ __align__(128) char shared[];
  const auto shared_q = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
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
    commit_copies();
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
  const float to_base2 = kScored ? 1.0f : static_cast<float>(p.scale) * kLog2e;  // scores below are in base 2 if kScored
  const std::uint32_t first_q = shared_q + warp * 16 * kMmaM * TileQ::kRowBytes + TileQ::rows_first(lane),
                      first_k_fragment = ring + TileKV::chunks_first(lane),
                      first_v_fragment = ring + TileKV::rows_first(lane);

  std::uint32_t q[Config::kKeepsQ ? kStepsD : 1][kMmaM][4];
  if constexpr (Config::kKeepsQ) {
    wait_for_copies<kSlots - (Config::kPaired ? 3 : 2)>();
    __syncthreads();
#pragma unroll
    for (int step = 0; step < kStepsD; ++step) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) ldmatrix(TileQ::at(first_q, i, step), q[step][i]);
    }
  }

#pragma unroll 1
  for (int n = 0; n < tiles; ++n) {
    const int key0 = (tile_begin + n) * kTileN;
    const bool visible = key0 < some_end && key0 + kTileN > some_first;
    if constexpr (Config::kPaired) {
      wait_for_copies<kSlots - 4>();
      __syncthreads();
      load_tile(2 * n + kSlots - 2);
      load_tile(2 * n + kSlots - 1);
    } else {
      wait_for_copies<kSlots - 2>();
      __syncthreads();
      load_tile(2 * n + kSlots - 1);
    }
    float x[kMmaM][kMmaN][4];
    if (visible) {
#pragma unroll
      for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
        for (int j = 0; j < kMmaN; ++j) x[i][j][0] = x[i][j][1] = x[i][j][2] = x[i][j][3] = 0;
      }
      const std::uint32_t k_fragment = first_k_fragment + 2 * n % kSlots * TileKV::kBytes;
#pragma unroll
      for (int step = 0; step < kStepsD; ++step) {
        std::uint32_t a[kMmaM][4];
#pragma unroll
        for (int i = 0; i < kMmaM; ++i) {
          if constexpr (Config::kKeepsQ) {
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
            multiply<Element>(x[i][2 * j], a[i], b[0], b[1]);
            multiply<Element>(x[i][2 * j + 1], a[i], b[2], b[3]);
          }
        }
      }
      if constexpr (kScored) score<Config>(p, s, tile, rows, key0, x);
      if (key0 < all_first || key0 + kTileN > all_end) {
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
      float largest[kRows];
      bool grows = false;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        largest[r] = x[r / 2][0][r % 2 * 2];
#pragma unroll
        for (int j = 0; j < kMmaN; ++j)
          largest[r] = fmaxf(largest[r], fmaxf(x[r / 2][j][r % 2 * 2], x[r / 2][j][r % 2 * 2 + 1]));
        largest[r] *= to_base2;
        grows = grows || largest[r] > row_max[r] + 8;
      }
      if (__any_sync(~0u, grows)) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 1));
          largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0u, largest[r], 2));
          // By row, so that no row's bits depend on its neighbours.
          const float now = largest[r] > row_max[r] + 8 ? largest[r] : row_max[r], factor = exp2_approx(row_max[r] - now);
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
    if constexpr (!Config::kPaired) {
      wait_for_copies<kSlots - 2>();
      __syncthreads();
      load_tile(2 * n + kSlots);
    }
    if (visible) {
      std::uint32_t keep[kRows];
      const bool drops = kScored && p.rng_state != nullptr;
      if (drops) draw<Config>(p, tile, rows, key0, keep);
      const std::uint32_t v_fragment = first_v_fragment + (2 * n + 1) % kSlots * TileKV::kBytes;
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
            multiply<Element>(o[i][2 * j], a[i], b[0], b[1]);
            multiply<Element>(o[i][2 * j + 1], a[i], b[2], b[3]);
          }
        }
      }
    }
  }
  wait_for_copies<0>();
  store<Config>(p, grid, s, tile, rows, o, row_max, row_sum, shared_q);
}

/// Adds up the splits' shares, one warp to a row, always in the same order.
template <typename Element>
__global__ __launch_bounds__(128) void sm80_fmha_combine(const __grid_constant__ Problem p,
                                                         const __grid_constant__ ForwardGrid grid) {
  constexpr int kVectors = 2;  // of 4 columns, per lane: 256 columns
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 4 + threadIdx.x / 32;
  if (row >= grid.rows) return;
  const int lane = threadIdx.x % 32;
  const std::int64_t i = row % p.seq_q, batch_head = row / p.seq_q;
  const std::int64_t batch = p.cu_seqlens_q == nullptr ? batch_head / p.heads : 0, head = batch_head - batch * p.heads;
  float largest = kNoMaximum;
  for (std::uint32_t split = lane; split < grid.splits; split += 32)
    largest = fmaxf(largest, grid.partial_lse[split * grid.rows + row]);
  for (int step = 16; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  float sum = 0;
  if (p.sink != nullptr) {
    const float sink = __ldg(p.sink + head * p.sink_head) * kLog2e;
    largest = fmaxf(largest, sink);
    sum = exp2_approx(sink - largest);
  }
  const int padded = static_cast<int>((p.dim_v + 3) / 4 * 4);
  float4 o[kVectors] = {};
  for (std::uint32_t split = 0; split < grid.splits; ++split) {
    const std::int64_t index = split * grid.rows + row;
    const float weight = exp2_approx(grid.partial_lse[index] - largest);
    if (weight == 0) continue;  // a split that saw no key
    sum += weight;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int column = (v * 32 + lane) * 4;
      if (column < padded) {
        const float4 share = *reinterpret_cast<const float4*>(grid.partial_o + index * padded + column);
        o[v].x = fmaf(weight, share.x, o[v].x);
        o[v].y = fmaf(weight, share.y, o[v].y);
        o[v].z = fmaf(weight, share.z, o[v].z);
        o[v].w = fmaf(weight, share.w, o[v].w);
      }
    }
  }
  const float factor = sum == 0 ? 0 : 1 / sum;
  if (lane == 0 && p.lse != nullptr)
    p.lse[batch * p.lse_batch + head * p.lse_head + i] = sum == 0 ? -INFINITY : (largest + log2_approx(sum)) * kLn2;
  const std::int64_t to = batch * p.o_strides.batch + head * p.o_strides.head + i * p.o_strides.row;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int column = (v * 32 + lane) * 4 + e;
      const float value = (e == 0 ? o[v].x : e == 1 ? o[v].y : e == 2 ? o[v].z : o[v].w) * factor;
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
inline std::int64_t all_rows(const FmhaDescriptor& g) { return (g.packed ? 1 : g.batch) * g.heads * g.seq_q; }

inline std::size_t workspace_forward(const Kernel&, const FmhaDescriptor& g, int splits) {
  return splits > 1 ? static_cast<std::size_t>(all_rows(g)) * splits * ((g.dim_v + 3) / 4 * 4 + 1) * sizeof(float) : 0;
}

template <typename Config>
void run_forward(const Kernel&, const Problem& p, const Launch& launch) {
  // Beside what every iteration costs anyway, only these cost in each of them; and the plain kernel takes the maximum before
  // it scales.
  const bool scored = p.softcap > 0 || p.alibi_slopes != nullptr || p.bias != nullptr || p.mask != nullptr ||
                      p.rng_state != nullptr || !(p.scale > 0);
  // K and V of the heads that run at one time: a share of L2 that leaves room for what streams through (H100: 50 MB).
  constexpr std::int64_t at_once_bytes = 16 << 20;
  const std::int64_t group = p.heads / p.heads_k, packed_batch = p.cu_seqlens_q != nullptr ? 1 : p.batch;
  ForwardGrid grid{};
  grid.pack = static_cast<std::uint32_t>(p.cu_seqlens_q == nullptr && p.seq_q * 2 <= Config::kTileM ? group : 1);
  grid.heads = static_cast<std::uint32_t>(packed_batch * p.heads / grid.pack);
  const std::int64_t row_tiles = (p.seq_q * grid.pack + Config::kTileM - 1) / Config::kTileM;
  grid.row_tiles = static_cast<std::uint32_t>(row_tiles + (p.cu_seqlens_q != nullptr ? p.batch : 0));
  const std::int64_t of_one = std::max<std::int64_t>(1, p.seq_k * (p.dim + p.dim_v) * 2);
  grid.heads_at_once = static_cast<std::uint32_t>(
      std::min<std::int64_t>(grid.heads, std::max<std::int64_t>(1, at_once_bytes / of_one) * (group / grid.pack)));
  grid.splits = static_cast<std::uint32_t>(launch.splits);
  grid.rows = packed_batch * p.heads * p.seq_q;
  grid.partial_o = static_cast<float*>(launch.workspace);
  if (launch.splits > 1) grid.partial_lse = grid.partial_o + grid.rows * launch.splits * ((p.dim_v + 3) / 4 * 4);
  const auto stream = static_cast<cudaStream_t>(launch.stream);
  const unsigned blocks = grid.row_tiles * grid.heads * grid.splits;
  if (scored) {
    sm80_fmha_forward<Config, true><<<blocks, Config::kThreads, Config::kSharedMemory, stream>>>(p, grid);
  } else {
    sm80_fmha_forward<Config, false><<<blocks, Config::kThreads, Config::kSharedMemory, stream>>>(p, grid);
  }
  check_cuda(cudaGetLastError(), "attention kernel launch");
  if (launch.splits > 1) {
    sm80_fmha_combine<typename Config::Element><<<static_cast<unsigned>((grid.rows + 3) / 4), 128, 0, stream>>>(p, grid);
    check_cuda(cudaGetLastError(), "attention combine launch");
  }
}

template <typename Config>
void prepare_forward(const Kernel&) {
  for (const auto kernel : {sm80_fmha_forward<Config, false>, sm80_fmha_forward<Config, true>}) {
    check_cuda(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(Config::kSharedMemory)),
        "cudaFuncSetAttribute");
  }
}

template <typename Config>
constexpr Kernel forward_kernel() {
  Kernel k{};
  k.pass = Pass::forward;
  k.arch = Config::kArch;
  k.backend = Backend::cute;
  k.operand = dtype_of<typename Config::Element>;
  k.math = Math::strict;
  k.dim = Config::kDim;
  k.tile_m = Config::kTileM;
  k.tile_n = Config::kTileN;
  k.stages = Config::kSlots;
  k.threads = Config::kThreads;
  k.blocks_by_registers = Config::kBlocksPerSm;
  k.shared_memory = Config::kSharedMemory;
  k.minimum_compute_capability = Config::kArch == Arch::sm89 ? 89 : 80;
  k.maximum_compute_capability = Config::kArch == Arch::sm89 ? 90 : any_newer;
  k.divides = true;
  k.run_forward = run_forward<Config>;
  k.workspace_forward = workspace_forward;
  k.prepare = prepare_forward<Config>;
  return k;
}

}  // namespace cutplan::fmha::sm80
