// The backward's passes around its main one (backward.cuh), each in the main pass's tiles: `preprocess` before it, `postprocess`
// after it, and one for each further gradient: bias, ALiBi slopes, sink. All add up in an order of their own, so that they
// repeat bitwise.
#pragma once

#include "fmha/sm80/backward.cuh"

namespace cutplan::fmha::sm80 {

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

/// The references of a tile's rows far from 0, and in place of LSE what there is beyond them. It is hardly ever called, and
/// finds out for itself what its caller knows, so that its caller keeps nothing for it.
template <typename Config>
static __device__ __noinline__ void find_references(const Problem& p, const BackwardGrid grid, std::uint32_t tiles) {
  QueryTile q;
  query_tile<Config>(p, tiles, q);
  const Sequence s = sequence(p, q.batch);
  const std::int64_t first = padded_row<Config>(p, grid, s, q.batch, q.head) + q.tile * Config::kTileM;
  const float* lse = p.lse + q.batch * p.lse_batch + q.head * p.lse_head + s.first_q;
  for (int r = static_cast<int>(threadIdx.x) / 32; r < Config::kTileM; r += 4) {
    const std::int64_t i = q.tile * Config::kTileM + r;
    const float given = i < s.len_q ? lse[i] : 0;
    float reference = INFINITY;
    if (fabsf(given) >= kFarLse && given != -INFINITY) {
      const RowWeights<float> row = far_row<float>(p, q.batch, q.head, i, given, Config::kRounding);
      reference = row.reference / grid.unit;
      if (threadIdx.x % 32 == 0) statistics_of<Config>(grid, first)[r].x = row.log_sum * kLog2e - Config::kWeightShift;
    }
    if (threadIdx.x % 32 == 0) grid.reference[first + r] = reference;
  }
}

/// LSE in base 2 and D of each row, and zeroes for dQ. Rows that have no key, or do not exist, get LSE = inf: weights of 0.
/// `again` is b.forward, for the one function that is not inlined (see sm80_fmha_forward).
template <typename Config>
__global__ __launch_bounds__(128, 8) void sm80_fmha_preprocess(const __grid_constant__ BackwardProblem b,
                                                               const __grid_constant__ BackwardGrid grid,
                                                               std::uint32_t tiles, const __grid_constant__ Problem again) {
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
  const float* given_lse = p.lse + q.batch * p.lse_batch + q.head * p.lse_head + s.first_q + q.tile * Config::kTileM;
  float2* statistics = statistics_of<Config>(grid, first);
  bool far = false;
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
    sum = sum_lanes<kLanes>(sum);
    if (lane == 0) {
      float lse = INFINITY;
      if (i < s.len_q) {
        const float given = given_lse[r];
        if (given != -INFINITY) {
          lse = given * kLog2e - Config::kWeightShift;
          far = far || fabsf(given) >= kFarLse;
        }
      }
      statistics[r] = {lse, sum * Config::kWeightUnit};
    }
  }
  auto* to = reinterpret_cast<float4*>(grid.dq + first * Config::kDim);
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x); c < Config::kTileM * Config::kDim / 4; c += 128) to[c] = {0, 0, 0, 0};
  if (grid.turns != nullptr && threadIdx.x == 0) {
    grid.turns[first / Config::kTileM] = 0;
    if (blockIdx.x == 0) *grid.ticket = 0;
  }
  far = __syncthreads_or(far);
  if (threadIdx.x == 0) statistics[Config::kTileM] = {far ? 1.0f : 0.0f, 0};
  if (far) find_references<Config>(again, grid, tiles);
}

/// dQ in its own type and layout, times scale.
template <typename Config>
__global__ __launch_bounds__(Config::kThreads) void sm80_fmha_postprocess(const __grid_constant__ BackwardProblem b,
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
  const auto slot = shared_address(shared);
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
  const auto base = shared_address(shared);
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
          cp_async_commit();
          cp_async_wait<0>();
          __syncthreads();
          const Piece<Config> piece{key0 + warp_n * Config::kKeys, static_cast<int>(row0) + warp_d * Config::kQueries, batch,
                                    head};
          std::uint32_t weight[kMmaN][kMmaQ][2], slope[kMmaN][kMmaQ][2], keep[(kMmaN * kMmaQ * 4 + 31) / 32];
          weigh<Config, true>(p, grid, s, piece, k_rows, q_rows, statistics, base + Config::kOffsetStatistics + kTileM * 8,
                              weight, slope);
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
  if (threadIdx.x == 0) store(b.dalibi_slopes, b.dalibi_type, slope_batch * b.dalibi_batch + head * b.dalibi_head, sum);
}

/// Gradient of the sinks: -sum_i exp(sink - LSE_i) D_i, one block to a head.
template <typename Config>
__global__ __launch_bounds__(256) void sm80_fmha_dsink(const __grid_constant__ BackwardProblem b,
                                                       const __grid_constant__ BackwardGrid grid) {
  const Problem& p = b.forward;
  const std::int64_t head = blockIdx.x;
  const auto sink = load<float>(p.sink, p.sink_type, head * p.sink_head);
  float sum = 0;
  for (std::int64_t batch = 0; batch < p.batch; ++batch) {
    const Sequence s = sequence(p, batch);
    const std::int64_t first = padded_row<Config>(p, grid, s, batch, head);
    for (std::int64_t i = threadIdx.x; i < s.len_q; i += 256) {
      const float2* statistics = statistics_of<Config>(grid, first + i);
      const float2 row = statistics[i % Config::kTileM];
      float x = sink;
      if (statistics[Config::kTileM].x != 0 && grid.reference[first + i] != INFINITY)
        x = fminf(sink / grid.unit - grid.reference[first + i], 0) * grid.unit;
      sum -= exp2_approx(fmaf(x, kLog2e, -row.x)) * row.y;
    }
  }
  sum = block_sum<256>(sum);
  if (threadIdx.x == 0) store(b.dsink, b.dsink_type, head * b.dsink_head, sum);
}

}  // namespace cutplan::fmha::sm80
