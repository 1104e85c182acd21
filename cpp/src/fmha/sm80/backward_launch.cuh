// How the backward's passes are launched, what they keep in the workspace, and the kernel's entry for a table.
#pragma once

#include <algorithm>
#include <utility>

#include "core/kernel.hpp"
#include "core/launch.hpp"
#include "fmha/sm80/backward_passes.cuh"

namespace cutplan::fmha::sm80 {

constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }

/// What a launch keeps in the workspace, in bytes.
template <typename Config>
struct BackwardSpace {
  std::int64_t heads, rows, all_key_tiles, statistics, reference, dq, turns, dalibi;

  BackwardSpace(bool varlen, std::int64_t batch, std::int64_t heads_q, std::int64_t seq_q, std::int64_t seq_k, bool in_turn,
                bool wants_dalibi) {
    heads = varlen ? heads_q : batch * heads_q;
    rows = round_up(seq_q + (varlen ? batch * Config::kTileM : 0), Config::kTileM);
    all_key_tiles = round_up(seq_k, Config::kTileN) / Config::kTileN + (varlen ? batch : 0);
    statistics = round_up(heads * rows / Config::kTileM * Config::kStatisticsBytes, 256);
    reference = round_up(heads * rows * 4, 256);
    dq = round_up(heads * rows * Config::kDim * 4, 256);
    turns = in_turn ? round_up((1 + heads * rows / Config::kTileM) * 4, 256) : 0;
    dalibi = wants_dalibi ? round_up(heads * all_key_tiles * 4, 256) : 0;
  }
  std::int64_t total() const { return statistics + reference + dq + turns + dalibi; }
};

template <typename Config>
std::size_t workspace_backward(const Kernel&, const FmhaBackwardDescriptor& g, bool deterministic) {
  const FmhaDescriptor& f = g.forward;
  return static_cast<std::size_t>(
      BackwardSpace<Config>(f.varlen, f.batch, f.heads, f.seq_q, f.seq_k, deterministic, g.dalibi_slopes).total());
}

template <typename Config>
void run_backward(const Kernel&, const BackwardProblem& b, const Launch& launch) {
  const Problem& p = b.forward;
  const bool varlen = p.cu_seqlens_q != nullptr;
  const BackwardSpace<Config> space(varlen, p.batch, p.heads, p.seq_q, p.seq_k, b.deterministic, b.dalibi_slopes != nullptr);
  const bool scored = p.softcap > 0 || p.alibi_slopes != nullptr || p.bias != nullptr || p.mask != nullptr ||
                      p.rng_state != nullptr || !(p.scale > 0);
  BackwardGrid grid{};
  grid.rows = space.rows;
  grid.all_key_tiles = space.all_key_tiles;
  auto* workspace = static_cast<char*>(launch.workspace);
  const auto take = [&](std::int64_t bytes) { return std::exchange(workspace, workspace + bytes); };
  grid.statistics = reinterpret_cast<float2*>(take(space.statistics));
  grid.reference = reinterpret_cast<float*>(take(space.reference));
  grid.unit = scored ? 1.0f : static_cast<float>(p.scale);
  grid.dq = reinterpret_cast<float*>(take(space.dq));
  auto* const turns = reinterpret_cast<std::uint32_t*>(take(space.turns));
  if (b.deterministic) {
    grid.ticket = turns;
    grid.turns = turns + 1;
  }
  grid.dalibi = reinterpret_cast<float*>(take(space.dalibi));
  grid.heads = static_cast<std::uint32_t>((varlen ? 1 : p.batch) * p.heads_k);
  grid.key_tiles = static_cast<std::uint32_t>(round_up(p.seq_k, Config::kTileN) / Config::kTileN + (varlen ? p.batch : 0));
  const std::int64_t of_one = std::max<std::int64_t>(1, p.seq_q * (p.dim + p.dim_v) * 2 * (p.heads / p.heads_k));
  grid.heads_at_once = static_cast<std::uint32_t>(
      std::min<std::int64_t>(grid.heads, std::max<std::int64_t>(1, static_cast<std::int64_t>(launch.l2_share) / of_one)));
  const auto query_tiles = static_cast<std::uint32_t>(space.rows / Config::kTileM);
  const std::int64_t query_blocks = query_tiles * space.heads;
  launch_kernel("attention backward preprocess launch", launch.stream, {query_blocks, 128}, sm80_fmha_preprocess<Config>, b,
                grid, query_tiles, p);
  launch_kernel("attention backward launch", launch.stream,
                {std::int64_t{grid.heads} * grid.key_tiles, Config::kThreads, Config::kSharedMemory},
                scored ? sm80_fmha_backward<Config, true> : sm80_fmha_backward<Config, false>, b, grid);
  launch_kernel("attention backward postprocess launch", launch.stream, {query_blocks, Config::kThreads},
                sm80_fmha_postprocess<Config>, b, grid, query_tiles);
  if (b.dbias != nullptr) {
    const std::int64_t extents[4] = {p.batch, p.heads, round_up(p.seq_q, Config::kTileM) / Config::kTileM,
                                     round_up(p.seq_k, Config::kTileN) / Config::kTileN};
    std::int64_t tiles = 1;
    for (int d = 0; d < 4; ++d) tiles *= b.dbias_sums[d] ? 1 : extents[d];
    launch_kernel("attention dbias launch", launch.stream, {tiles, Config::kThreads, Config::kSharedMemory},
                  sm80_fmha_dbias<Config>, b, grid);
  }
  if (b.dalibi_slopes != nullptr) {
    launch_kernel("attention dalibi_slopes launch", launch.stream, {p.heads * (b.alibi_sums_batch ? 1 : p.batch), 128},
                  sm80_fmha_dalibi<Config>, b, grid);
  }
  if (b.dsink != nullptr)
    launch_kernel("attention dsink launch", launch.stream, {p.heads, 256}, sm80_fmha_dsink<Config>, b, grid);
}

template <typename Config>
void prepare_backward(const Kernel&) {
  allow_shared_memory(sm80_fmha_backward<Config, false>, Config::kSharedMemory);
  allow_shared_memory(sm80_fmha_backward<Config, true>, Config::kSharedMemory);
  allow_shared_memory(sm80_fmha_dbias<Config>, Config::kSharedMemory);
  load_kernel(sm80_fmha_preprocess<Config>);
  load_kernel(sm80_fmha_postprocess<Config>);
  load_kernel(sm80_fmha_dalibi<Config>);
  load_kernel(sm80_fmha_dsink<Config>);
}

/// An entry of a table.
template <Arch kArch, typename Element, int kDim, int kTileM, int kTileN, int kWarpsN, int kWarpsD, int kStages,
          int kBlocksPerSm>
constexpr Kernel backward_kernel(double teraflops) {
  using Config = BackwardConfig<kArch, Element, kDim, kTileM, kTileN, kWarpsN, kWarpsD, kStages, kBlocksPerSm>;
  Kernel k = describe<Config>(Pass::backward, teraflops);
  k.stages = Config::kStages;
  k.run_backward = run_backward<Config>;
  k.workspace_backward = workspace_backward<Config>;
  k.prepare = prepare_backward<Config>;
  return k;
}

}  // namespace cutplan::fmha::sm80
