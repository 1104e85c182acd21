// Quantisation: x to data, with scales that are given or found.
//
// Data movement. Where a team or a block has all elements of a scale, it reads them once, 16 bytes a lane and several on their
// way, keeps them in registers while it finds their range, and writes data: rows of 2^14 elements and more, groups, blocks. Where
// many blocks share a scale (a tensor, columns), a first launch finds its range, blocks meeting by atomic maxima, which have no
// order to depend on, and a second one quantises. With a scale that is given there is one launch and one pass.
#pragma once

#include "quantize/sm80/regions.cuh"

namespace cutplan::quantize::sm80 {

/// What is one launch of several: ranges, that go to where blocks meet; data, by a scale that is given or met at, from the last
/// region to the first, of which L2 has the last. A kernel that is complete does both.
enum class Step : std::uint8_t { range, data };

/// Of small regions, whose blocks an SM has more of; of those that a block keeps with four pieces a lane; of larger ones, kept up to
/// 2^14 float32 elements. Of columns: rows of a lane.
inline constexpr int few_pieces_of_lane = 2, pieces_of_lane = 4, most_pieces_of_lane = 8, rows_of_lane = 8;

/// The scale of a range: its coder, and what the caller gets to see.
__device__ __forceinline__ Coder found_scale(const Problem& p, DType type, const Range& range, int batch, int row,
                                             int column, bool writes) {
  float scale;
  const Coder coder = coder_of(range, type, p.symmetric, scale);
  if (writes) {
    *at(p.scale, batch, row, column) = scale;
    if (p.zero) *at(p.zero, batch, row, column) = coder.zero;
    if (p.amax) *at(p.amax, batch, row, column) = range.amax();
  }
  return coder;
}

__device__ __forceinline__ Coder given_scale(const Problem& p, DType type, int batch, int row, int column) {
  return coder_of(__ldg(at(p.scale, batch, row, column)), p.zero ? __ldg(at(p.zero, batch, row, column)) : 0, type,
                  p.symmetric);
}

/// The range of one scale goes to where it is wanted: where blocks meet, or into amax.
__device__ __forceinline__ void leave_range(const Problem& p, Step step, void* workspace, const Range& range, int batch,
                                            int row, int column) {
  if (step == Step::range) {
    Range* const to = meeting(workspace, p, batch, column);
    raise(&to->below, range.below);
    raise(&to->above, range.above);
  } else if (p.shared) {
    raise(at(p.amax, batch, row, column), range.amax());
  } else {
    *at(p.amax, batch, row, column) = range.amax();
  }
}

/// Regions that have one scale.
template <typename Element, typename Code, int kWidth, int kPieces, bool kComplete>
__global__ __launch_bounds__(kPieces <= few_pieces_of_lane ? threads : most_threads,
                             kPieces <= few_pieces_of_lane ? 5
                                                           : 2) void sm80_quantize(const __grid_constant__ Problem p,
                                                                                   const __grid_constant__ Regions regions,
                                                                                   Step step, void* workspace) {
  __shared__ Range of_warps[most_threads / 32];
  constexpr DType kType = type_of<Code>;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) >> regions.team;
  const int lanes = 1 << regions.team, lane = threadIdx.x & (lanes - 1);
  const bool there = index < regions.count, by_data = !kComplete && step == Step::data;
  const Regions::Place place = regions.at(p, !there ? 0 : by_data ? regions.count - 1 - index : index);
  const Element* const x = place.in<const Element>(p.x);
  std::uint8_t* const data = place.in<std::uint8_t>(p.data, per_byte<Code>);
  const int pieces = there && place.columns > 0 ? place.rows * regions.pieces_of_row.divisor : 0, at_once = lanes * kPieces;
  const Encoder encoder(kType, p.symmetric);

  Coder coder{};
  if (by_data) {
    coder = p.given ? given_scale(p, kType, place.batch, place.row, place.column)
                    : found_scale(p, kType, *meeting(workspace, p, place.batch, place.column), place.batch, place.row,
                                  place.column, blockIdx.x == 0 && threadIdx.x == 0);
  }
  const bool takes_range = !by_data || (p.given && p.amax);

  Piece<Element, kWidth> kept[kPieces];
  // Calls use(number, elements of it, where it begins in x, in data) for this lane's pieces from `first` on.
  const auto for_pieces = [&](int first, const auto& use) {
    forget(first);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = first + i * lanes + lane;
      if (piece >= pieces) continue;
      int row, column;
      regions.pieces_of_row(row, column, piece);
      column *= kWidth;
      const int count = place.columns - column;
      if (count > 0) use(i, count, row * p.x.row + column, row * p.data.row + column / per_byte<Code>);
    }
  };
  const auto load = [&](int first) {
#pragma unroll
    for (Piece<Element, kWidth>& piece : kept) piece.clear();
    for_pieces(first, [&](int i, int count, std::int64_t from, std::int64_t) { kept[i].load(x + from, count); });
  };
  const auto store = [&](int first) {
    const float zero = static_cast<float>(coder.zero);
    for_pieces(first, [&](int i, int count, std::int64_t, std::int64_t to) {
      float values[kWidth];
      kept[i].get(values);
      encode<Code>(values, encoder, [&](int) { return coder.inverse; }, [&](int) { return zero; }).store(data + to, count);
    });
  };

  Range range{0, 0};
  int first = 0;
  for (; first == 0 || first < pieces; first += at_once) {
    load(first);
    if (takes_range) {
#pragma unroll
      for (const Piece<Element, kWidth>& piece : kept) {
        float values[kWidth];
        piece.get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) extend(range, values[e]);
      }
    }
    if (by_data) store(first);
  }
  if (takes_range) range = range_of_team(range, regions.team, of_warps);
  if constexpr (kComplete) {
    coder = found_scale(p, kType, range, place.batch, place.row, place.column, there && lane == 0);
    first -= at_once;
    store(first);
    for (first -= at_once; first >= 0; first -= at_once) {
      load(first);
      store(first);
    }
  } else if (takes_range && there && lane == 0) {
    leave_range(p, step, workspace, range, place.batch, place.row, place.column);
  }
}

/// Regions whose columns have a scale each.
template <typename Element, typename Code, int kWidth, int kPieces, bool kComplete>
__global__ __launch_bounds__(threads) void sm80_quantize_columns(const __grid_constant__ Problem p,
                                                                 const __grid_constant__ Regions regions, Step step,
                                                                 void* workspace) {
  constexpr int kColumns = lanes_across * kWidth, kMostRows = threads / lanes_across;
  __shared__ Range of_rows[kMostRows][kColumns];
  __shared__ Coder of_columns[kColumns];
  constexpr DType kType = type_of<Code>;
  const bool by_data = !kComplete && step == Step::data;
  const Regions::Place place = regions.at(p, by_data ? regions.count - 1 - blockIdx.x : blockIdx.x);
  const int column = static_cast<int>(threadIdx.x) % lanes_across * kWidth, count = place.columns - column,
            row = static_cast<int>(threadIdx.x) / lanes_across, rows_at_once = static_cast<int>(blockDim.x) / lanes_across,
            at_once = rows_at_once * kPieces;
  const Element* const x = place.in<const Element>(p.x) + column;
  std::uint8_t* const data = place.in<std::uint8_t>(p.data, per_byte<Code>) + column / per_byte<Code>;
  const int first_column = static_cast<int>(place.first_column);
  const Encoder encoder(kType, p.symmetric);

  float inverse[kWidth], zero[kWidth];
  const auto read_coders = [&] {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      inverse[e] = of_columns[column + e].inverse;
      zero[e] = static_cast<float>(of_columns[column + e].zero);
    }
  };
  // Calls use(column of the region) for those of this thread whose scales it finds or leaves.
  const auto for_columns = [&](const auto& use) {
    for (int c = threadIdx.x; c < place.columns; c += blockDim.x) use(c);
  };
  if (by_data) {
    for_columns([&](int c) {
      const int at = first_column + c;
      of_columns[c] = p.given ? given_scale(p, kType, place.batch, place.row, at)
                              : found_scale(p, kType, *meeting(workspace, p, place.batch, at), place.batch, place.row, at,
                                            place.first_row == 0);
    });
    read_coders();
  }
  const bool takes_range = !by_data || (p.given && p.amax);

  Piece<Element, kWidth> kept[kPieces];
  const auto for_pieces = [&](int first, const auto& use) {
    if (count <= 0) return;
    forget(first);
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int at = first + i * rows_at_once + row;
      if (at < place.rows) use(i, at);
    }
  };
  const auto load = [&](int first) {
#pragma unroll
    for (Piece<Element, kWidth>& piece : kept) piece.clear();
    for_pieces(first, [&](int i, int at) { kept[i].load(x + at * p.x.row, count); });
  };
  const auto store = [&](int first) {
    for_pieces(first, [&](int i, int at) {
      float values[kWidth];
      kept[i].get(values);
      encode<Code>(
          values, encoder, [&](int e) { return inverse[e]; }, [&](int e) { return zero[e]; })
          .store(data + at * p.data.row, count);
    });
  };

  Range ranges[kWidth] = {};
  int first = 0;
  for (; first == 0 || first < place.rows; first += at_once) {
    load(first);
    if (takes_range) {
#pragma unroll
      for (const Piece<Element, kWidth>& piece : kept) {
        float values[kWidth];
        piece.get(values);
#pragma unroll
        for (int e = 0; e < kWidth; ++e) extend(ranges[e], values[e]);
      }
    }
    if (by_data) store(first);
  }
  if (!takes_range) return;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) of_rows[row][column + e] = ranges[e];
  __syncthreads();
  for_columns([&](int c) {
    Range range = of_rows[0][c];
    for (int i = 1; i < rows_at_once; ++i) join(range, of_rows[i][c]);
    const int at = first_column + c;
    if constexpr (kComplete) {
      of_columns[c] = found_scale(p, kType, range, place.batch, place.row, at, true);
    } else {
      leave_range(p, step, workspace, range, place.batch, place.row, at);
    }
  });
  if constexpr (!kComplete) return;
  read_coders();
  first -= at_once;
  store(first);
  for (first -= at_once; first >= 0; first -= at_once) {
    load(first);
    store(first);
  }
}

template <typename Element, typename Code, bool kWide>
void enqueue(const Problem& p, const Launch& launch) {
  constexpr int kWidth = width<Element, Code, kWide>;
  const bool parts = p.given || p.shared;
  const auto start = [&](const Regions& r, int of_block, auto kernel, Step step) {
    const std::int64_t blocks = p.by_columns ? r.count : ceil_div(r.count << r.team, std::int64_t{of_block});
    // What is without elements may have a scale.
    launch_kernel("launch of the kernel that quantises", launch.stream,
                  {p.whole && step == Step::data ? std::max<std::int64_t>(blocks, 1) : blocks, of_block}, kernel, p, r, step,
                  launch.workspace);
  };
  const auto start_parts = [&](const Regions& r, int of_block, auto kernel) {
    if (!p.given) {
      const std::int64_t scales = p.whole ? 1 : p.batch * p.scales_across;
      if (scales == 0) return;
      check_cuda(cudaMemsetAsync(launch.workspace, 0, static_cast<std::size_t>(scales) * sizeof(Range),
                                 static_cast<cudaStream_t>(launch.stream)),
                 "cudaMemsetAsync");
      start(r, of_block, kernel, Step::range);
    }
    start(r, of_block, kernel, Step::data);
  };
  if (p.by_columns) {
    const Regions r = regions_of_columns(p, kWidth, threads / lanes_across * rows_of_lane);
    const int of_block = threads_for_rows(r.height, rows_of_lane);
    parts ? start_parts(r, of_block, sm80_quantize_columns<Element, Code, kWidth, rows_of_lane, false>)
          : start(r, of_block, sm80_quantize_columns<Element, Code, kWidth, rows_of_lane, true>, Step::data);
    return;
  }
  const Regions r = regions_with_one_scale(p, kWidth, p.whole, threads * pieces_of_lane, pieces_of_lane);
  const int of_block = std::max(threads, 1 << r.team);
  if (parts) return start_parts(r, of_block, sm80_quantize<Element, Code, kWidth, pieces_of_lane, false>);
  const std::int64_t of_region = std::min(r.height, p.rows) * r.pieces_of_row.divisor;
  of_region <= std::int64_t{few_pieces_of_lane} << r.team
      ? start(r, of_block, sm80_quantize<Element, Code, kWidth, few_pieces_of_lane, true>, Step::data)
  : of_region <= std::int64_t{most_threads} * pieces_of_lane
      ? start(r, of_block, sm80_quantize<Element, Code, kWidth, pieces_of_lane, true>, Step::data)
      : start(r, of_block, sm80_quantize<Element, Code, kWidth, most_pieces_of_lane, true>, Step::data);
}

template <typename Element, typename Code>
void enqueue(const Problem& p, const Launch& launch) {
  p.wide ? enqueue<Element, Code, true>(p, launch) : enqueue<Element, Code, false>(p, launch);
}

template <typename Element>
void run(const Problem& p, const Launch& launch) {
  switch (p.type) {
    case DType::i8: return enqueue<Element, std::int8_t>(p, launch);
    case DType::i4: return enqueue<Element, Int4>(p, launch);
    case DType::fp8_e4m3: return enqueue<Element, E4M3>(p, launch);
    case DType::fp8_e5m2: return enqueue<Element, E5M2>(p, launch);
    default: refuse_unexpected_type(p.type);
  }
}

}  // namespace cutplan::quantize::sm80
