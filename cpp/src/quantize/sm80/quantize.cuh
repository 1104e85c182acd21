// Quantisation: x to data, with scales that are given or found.
//
// Data movement. Where a team or a block has all elements of a scale, it reads them once, 16 bytes a lane and several on their
// way, keeps them in registers while it finds their range, and writes data: rows of 2^14 elements and more, groups, blocks. Where
// many blocks share a scale (a tensor, columns), a first launch finds its range, blocks meeting by atomic maxima, which have no
// order to depend on, and a second one quantises. With a scale that is given there is one launch and one pass. Instructions, not
// bytes, are what is scarce: extremes of 16-bit elements are those of two at once, integers are rounded by a sum and saturate as
// they are packed, and what a scale costs is shared by 32 elements of a lane, also where groups are smaller than that.
#pragma once

#include "quantize/sm80/regions.cuh"

namespace cutplan::quantize::sm80 {

/// What is one launch of several: ranges, that go to where blocks meet; data, by a scale that is given or met at, from the last
/// region to the first, of which L2 has the last. A kernel that is complete does both.
enum class Step : std::uint8_t { range, data };

/// Of a launch that does both steps, which keeps up to 2^14 float32 elements; of one of several. Of columns: rows of a lane.
inline constexpr int most_pieces_of_lane = 8, pieces_of_lane = 4, rows_of_lane = 8;

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
template <typename Element, typename Code, int kWidth, bool kComplete>
__global__ __launch_bounds__(most_threads, 2) void sm80_quantize(const __grid_constant__ Problem p,
                                                                 const __grid_constant__ Regions regions,
                                                                 const __grid_constant__ Encoder encoder, Step step,
                                                                 void* workspace) {
  __shared__ Range of_warps[most_threads / 32];
  constexpr int kPieces = kComplete ? most_pieces_of_lane : pieces_of_lane;
  constexpr DType kType = type_of<Code>;
  const std::uint32_t index = blockIdx.x * (blockDim.x >> regions.team) + (threadIdx.x >> regions.team);
  const int lane = threadIdx.x & ((1 << regions.team) - 1);
  const auto count_of_regions = static_cast<std::uint32_t>(regions.count);
  const bool there = index < count_of_regions, by_data = !kComplete && step == Step::data;
  const Regions::Place place = regions.at(!there ? 0 : by_data ? count_of_regions - 1 - index : index);
  const Spread& pieces = regions.pieces;

  Coder coder{};
  if (by_data) {
    coder = p.given ? given_scale(p, kType, place.batch, place.row, place.column)
                    : found_scale(p, kType, *meeting(workspace, p, place.batch, place.column), place.batch, place.row,
                                  place.column, blockIdx.x == 0 && threadIdx.x == 0);
  }
  const bool takes_range = !by_data || (p.given && p.amax);

  Piece<Element, kWidth> kept[kPieces];
  // Calls use(place, row, column, left) for this lane's first piece of a chunk.
  const auto for_chunk = [&](int chunk, const auto& use) {
    Regions::Place region = place;
    for (int* x : {&chunk, &region.batch, &region.row, &region.column}) forget(*x);
    const Spread::Spot spot = pieces.at(lane, chunk);
    const int row = static_cast<int>(spot.row), column = static_cast<int>(spot.column) * kWidth;
    use(region, row, column, Left{there ? regions.rows(region) - row : 0, regions.columns(region) - column});
  };
  const auto load = [&](int chunk) {
    for_chunk(chunk, [&](const Regions::Place& region, int row, int column, Left left) {
      const Element* from = region.in<const Element>(p.x, regions.x) + times(row, p.x.row) + column;
#pragma unroll
      for (int i = 0; i < kPieces; ++i, from += pieces.x_step, left.step(pieces)) kept[i].load(from, left.of_row());
    });
  };
  const auto store = [&](int chunk) {
    const std::int32_t shift = encoder.shift(coder);
    for_chunk(chunk, [&](const Regions::Place& region, int row, int column, Left left) {
      std::uint8_t* to = region.in<std::uint8_t>(p.data, regions.data) + times(row, p.data.row) + column / per_byte<Code>;
#pragma unroll
      for (int i = 0; i < kPieces; ++i, to += pieces.data_step, left.step(pieces)) {
        if (left.of_row() <= 0) continue;
        float values[kWidth];
        kept[i].get(values);
        encode<Code>(
            values, encoder, [&](int) { return coder.inverse; }, [&](int) { return shift; })
            .store(to, left.of_row());
      }
    });
  };

  Extremes<Element, kWidth> extremes;
  for (int chunk = 0; chunk < pieces.chunks; ++chunk) {
    load(chunk);
    if (takes_range) {
#pragma unroll
      for (const auto& piece : kept) extremes.extend(piece);
    }
    if (by_data) store(chunk);
  }
  Range range{};
  if (takes_range) range = range_of_team(extremes.all(), regions.team, of_warps);
  if constexpr (kComplete) {
    coder = found_scale(p, kType, range, place.batch, place.row, place.column, there && lane == 0);
    for (int chunk = pieces.chunks - 1;; load(chunk)) {
      store(chunk);
      if (--chunk < 0) break;
    }
  } else if (takes_range && there && lane == 0) {
    leave_range(p, step, workspace, range, place.batch, place.row, place.column);
  }
}

/// Regions that have one scale, and no more pieces than a team has lanes: a team takes several regions, each lane a piece of each,
/// and finds the scale of one.
template <typename Element, typename Code, int kWidth>
__global__ __launch_bounds__(threads, 4) void sm80_quantize_small(const __grid_constant__ Problem p,
                                                                  const __grid_constant__ SmallRegions regions,
                                                                  const __grid_constant__ Encoder encoder) {
  constexpr int kRegions = regions_of_team;
  constexpr DType kType = type_of<Code>;
  const Spread& spread = regions.spread;
  const int lanes = 1 << regions.team, lane = threadIdx.x & (lanes - 1);
  int batch, chunk, row, column;  // of the piece in its region
  regions.chunks(batch, chunk, static_cast<int>(blockIdx.x));
  regions.pieces_of_row(row, column, lane);
  column *= kWidth;
  const Spread::Spot spot = spread.at(static_cast<int>(threadIdx.x) >> regions.team, chunk);
  const int first_row = static_cast<int>(spot.row) * regions.height + row,
            first_column = static_cast<int>(spot.column) * regions.width + column, most = regions.width - column;
  const Left first{row < regions.height ? static_cast<int>(p.rows) - first_row : 0,
                   static_cast<int>(p.columns) - first_column};

  Piece<Element, kWidth> kept[kRegions];
  const Element* from =
      static_cast<const Element*>(p.x.data) + times(batch, p.x.batch) + times(first_row, p.x.row) + first_column;
  Left left = first;
#pragma unroll
  for (int i = 0; i < kRegions; ++i, from += spread.x_step, left.step(spread)) kept[i].load(from, min(left.of_row(), most));

  // Of the region whose scale this lane finds.
  const int own = lane % kRegions, scale_row = static_cast<int>(spot.row) + own * regions.scale_row_step,
            scale_column = static_cast<int>(spot.column) + own * regions.scale_column_step;
  const bool there = scale_row < p.scales_down && scale_column < p.scales_across, writes = there && lane < kRegions;
  Range range{};
  if (!p.given || p.amax) {
    Range ranges[kRegions];
#pragma unroll
    for (int i = 0; i < kRegions; ++i) {
      Extremes<Element, kWidth> extremes;
      extremes.extend(kept[i]);
      ranges[i] = extremes.all();
    }
    range = range_of_one(ranges, lane, lanes);
  }
  Coder coder{};
  if (!p.given) {
    coder = found_scale(p, kType, range, batch, scale_row, scale_column, writes);
  } else if (there) {
    coder = given_scale(p, kType, batch, scale_row, scale_column);
    if (p.amax && writes) leave_range(p, Step::data, nullptr, range, batch, scale_row, scale_column);
  }

  float inverse[kRegions];
  std::int32_t shift[kRegions];
#pragma unroll
  for (int i = 0; i < kRegions; ++i) {
    inverse[i] = __shfl_sync(~0u, coder.inverse, i, lanes);
    shift[i] = __shfl_sync(~0u, encoder.shift(coder), i, lanes);
  }
  std::uint8_t* to = static_cast<std::uint8_t*>(p.data.data) + times(batch, p.data.batch) + times(first_row, p.data.row) +
                     first_column / per_byte<Code>;
  left = first;
#pragma unroll
  for (int i = 0; i < kRegions; ++i, to += spread.data_step, left.step(spread)) {
    const int count = min(left.of_row(), most);
    if (count <= 0) continue;
    float values[kWidth];
    kept[i].get(values);
    encode<Code>(values, encoder, [&](int) { return inverse[i]; }, [&](int) { return shift[i]; }).store(to, count);
  }
}

/// Regions whose columns have a scale each.
template <typename Element, typename Code, int kWidth, int kPieces, bool kComplete>
__global__ __launch_bounds__(threads, kComplete ? 2 : 3) void sm80_quantize_columns(const __grid_constant__ Problem p,
                                                                                    const __grid_constant__ Regions regions,
                                                                                    const __grid_constant__ Encoder encoder,
                                                                                    Step step, void* workspace) {
  constexpr int kColumns = lanes_across * kWidth, kMostRows = threads / lanes_across;
  __shared__ Range of_rows[kMostRows][kColumns];
  __shared__ Coder of_columns[kColumns];
  constexpr DType kType = type_of<Code>;
  const bool by_data = !kComplete && step == Step::data;
  const Regions::Place place = regions.at(by_data ? static_cast<int>(regions.count) - 1 - blockIdx.x : blockIdx.x);
  const int height = regions.rows(place), columns = regions.columns(place),
            column = static_cast<int>(threadIdx.x) % lanes_across * kWidth, count = columns - column,
            row = static_cast<int>(threadIdx.x) / lanes_across, rows_at_once = static_cast<int>(blockDim.x) / lanes_across,
            at_once = rows_at_once * kPieces;
  const Element* const x = place.in<const Element>(p.x, regions.x) + column;
  std::uint8_t* const data = place.in<std::uint8_t>(p.data, regions.data) + column / per_byte<Code>;
  const int first_column = place.column * regions.width;

  float inverse[kWidth];
  std::int32_t shift[kWidth];
  const auto read_coders = [&] {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      inverse[e] = of_columns[column + e].inverse;
      shift[e] = encoder.shift(of_columns[column + e]);
    }
  };
  // Calls use(column of the region) for those of this thread whose scales it finds or leaves.
  const auto for_columns = [&](const auto& use) {
    for (int c = threadIdx.x; c < columns; c += blockDim.x) use(c);
  };
  if (by_data) {
    for_columns([&](int c) {
      const int at = first_column + c;
      of_columns[c] = p.given ? given_scale(p, kType, place.batch, place.row, at)
                              : found_scale(p, kType, *meeting(workspace, p, place.batch, at), place.batch, place.row, at,
                                            place.row == 0);
    });
    read_coders();
  }
  const bool takes_range = !by_data || (p.given && p.amax);

  Piece<Element, kWidth> kept[kPieces];
  const auto load = [&](int first) {
    forget(first);
    int rows = height - first - row;
    const Element* from = x + times(first + row, p.x.row);
#pragma unroll
    for (int i = 0; i < kPieces; ++i, from += rows_at_once * p.x.row, rows -= rows_at_once)
      kept[i].load(from, rows > 0 ? count : 0);
  };
  const auto store = [&](int first) {
    forget(first);
    int rows = height - first - row;
    std::uint8_t* to = data + times(first + row, p.data.row);
#pragma unroll
    for (int i = 0; i < kPieces; ++i, to += rows_at_once * p.data.row, rows -= rows_at_once) {
      if (rows <= 0) continue;
      float values[kWidth];
      kept[i].get(values);
      encode<Code>(values, encoder, [&](int e) { return inverse[e]; }, [&](int e) { return shift[e]; }).store(to, count);
    }
  };

  Extremes<Element, kWidth> extremes;
  int first = 0;
  for (; first == 0 || first < height; first += at_once) {
    load(first);
    if (takes_range) {
#pragma unroll
      for (const auto& piece : kept) extremes.extend(piece);
    }
    if (by_data) store(first);
  }
  if (!takes_range) return;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) of_rows[row][column + e] = extremes.of(e);
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
  for (first -= at_once;; load(first)) {
    store(first);
    first -= at_once;
    if (first < 0) break;
  }
}

template <typename Element, typename Code, bool kWide>
void enqueue(const Problem& p, const Launch& launch) {
  constexpr int kWidth = width<Element, Code, kWide>;
  constexpr char what[] = "launch of the kernel that quantises";
  const bool parts = p.given || p.shared;
  const Encoder encoder(p.type, p.symmetric);
  const auto start = [&](const Regions& r, int of_block, auto kernel, Step step) {
    const std::int64_t blocks = p.by_columns ? r.count : ceil_div(r.count << r.team, std::int64_t{of_block});
    // What is without elements may have a scale.
    launch_kernel(what, launch.stream,
                  {p.whole && step == Step::data ? std::max<std::int64_t>(blocks, 1) : blocks, of_block}, kernel, p, r,
                  encoder, step, launch.workspace);
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
  if (const std::optional<SmallRegions> r = small_regions(p, kWidth)) {
    launch_kernel(what, launch.stream, {p.batch * r->spread.chunks, threads}, sm80_quantize_small<Element, Code, kWidth>, p,
                  *r, encoder);
    return;
  }
  const int of_lane = parts ? pieces_of_lane : most_pieces_of_lane;
  const Regions r = regions_with_one_scale(p, kWidth, threads * of_lane, of_lane);
  const int of_block = std::max(threads, 1 << r.team);
  parts ? start_parts(r, of_block, sm80_quantize<Element, Code, kWidth, false>)
        : start(r, of_block, sm80_quantize<Element, Code, kWidth, true>, Step::data);
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
