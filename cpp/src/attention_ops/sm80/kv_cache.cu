// New rows of K and V into caches, K and Q turned on their way.
//
// Data movement. Every element is read once and written once, 16 bytes of a new row a lane. A team of lanes has a row of the
// positions and some of its heads, of K, V and Q in turn; it looks up once where the row goes, and computes its lanes' angles
// once, since heads share them. Caches stay in L2: attention reads them next.
#include <cuda_fp8.h>

#include "attention_ops/sm80/rows.cuh"

namespace cutplan::attention_ops {
namespace {

using namespace attention_ops::sm80;

/// Of a quantised cache.
template <typename CacheElement>
__device__ __forceinline__ CacheElement quantised(float x) {
  if constexpr (std::is_same_v<CacheElement, std::int8_t>) {
    return static_cast<std::int8_t>(__float2int_rn(fminf(fmaxf(x == x ? x : 0.0f, -128.0f), 127.0f)));
  } else {
    constexpr auto kFormat = std::is_same_v<CacheElement, __nv_fp8_e4m3> ? __NV_E4M3 : __NV_E5M2;
    CacheElement y;
    y.__x = __nv_cvt_float_to_fp8(x, __NV_SATFINITE, kFormat);
    return y;
  }
}

/// As a cache has them: the elements themselves, or x / scale.
template <typename CacheElement, typename Element, int kWidth>
__device__ __forceinline__ void store_cached(CacheElement* to, const Piece<Element, kWidth>& piece, float scale) {
  if constexpr (std::is_same_v<CacheElement, Element>) {
    *reinterpret_cast<Piece<Element, kWidth>*>(to) = piece;
  } else {
    Piece<CacheElement, kWidth> narrow;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) narrow.x[e] = quantised<CacheElement>(to_float(piece.x[e]) / scale);
    *reinterpret_cast<Piece<CacheElement, kWidth>*>(to) = narrow;
  }
}

/// Where row `row` of a sequence's cache is: the first dimension of the cache, and the row in it; false: nowhere.
__device__ __forceinline__ bool find_row(const AppendProblem& p, std::int64_t sequence, std::int64_t row,
                                         std::int64_t& outer, std::int64_t& inner) {
  if (row < 0) return false;
  if (p.max_pages > 0) {
    const std::int64_t page = row / p.page_size;
    if (page >= p.max_pages) return false;
    outer = p.block_table[sequence * p.table_sequence + page * p.table_page];
    inner = row - page * p.page_size;
    return outer >= 0 && outer < p.pages;
  }
  outer = p.cache_batch_idx == nullptr ? sequence : std::int64_t{p.cache_batch_idx[sequence * p.index_stride]};
  inner = row;
  return row < p.capacity && outer >= 0 && outer < p.sequences;
}

__device__ __forceinline__ std::int64_t offset_of(const AppendProblem& p, std::int64_t sequence) {
  return integer_at(p.offsets, p.offsets_are_long, sequence * p.offsets_stride);
}

enum class Turn { none, halves, interleaved };

template <typename Element, typename CacheElement, int kWidth, Turn kTurn>
__global__ __launch_bounds__(threads) void sm80_kv_cache_append(const __grid_constant__ AppendProblem p,
                                                                const __grid_constant__ Shares shares) {
  using S = Arithmetic<Element>;
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
  for (std::int64_t i = thread; p.lengths_out != nullptr && i < p.batch; i += std::int64_t{gridDim.x} * threads) {
    const std::int64_t length = offset_of(p, i) + (p.packed ? p.cu_seqlens[i + 1] - p.cu_seqlens[i] : p.rows);
    if (p.offsets_are_long) {
      static_cast<std::int64_t*>(p.lengths_out)[i * p.lengths_stride] = length;
    } else {
      static_cast<std::int32_t*>(p.lengths_out)[i * p.lengths_stride] = static_cast<std::int32_t>(length);
    }
  }
  const std::int64_t index = thread >> shares.team;
  if (index >= shares.count) return;
  const int lane = threadIdx.x & ((1 << shares.team) - 1), heads = static_cast<int>(p.heads);
  const Shares::Place mine = shares.at(index, static_cast<int>(2 * p.heads + p.heads_q));
  std::int64_t sequence = mine.batch, own_row = mine.row, outer = 0, inner = 0;
  if (p.packed) find_sequence(p.cu_seqlens, p.batch, own_row, sequence);
  const std::int64_t position = offset_of(p, sequence) + own_row;
  const bool fits = find_row(p, sequence, position, outer, inner);
  if (!fits && mine.first_head == 0 && lane == 0 && p.rejected != nullptr) atomicAdd(p.rejected, 1);
  const Strides in_new{mine.batch, 0, mine.row}, in_cache{outer, 0, inner};
  const auto at = [](const Strides& s, const Strides& place, int head) {
    return place.batch * s.batch + head * s.head + place.row * s.row;
  };

  // Calls f(from, store): a head's new row, and what stores a piece of it at a column.
  const auto for_heads = [&](int first, int end, const auto& f) {
    for (int head = max(first, mine.first_head); head < min(end, mine.end_head); ++head) {
      const int own = head < heads ? head : head < 2 * heads ? head - heads : head - 2 * heads;
      if (head >= 2 * heads) {
        Element* const to = static_cast<Element*>(p.q_out.data) + at(p.q_out.strides, in_new, own);
        f(static_cast<const Element*>(p.q.data) + at(p.q.strides, in_new, own),
          [=](std::int64_t c, const Piece<Element, kWidth>& piece) { store<Element, kWidth>(to + c, piece); });
      } else if (fits) {
        const bool of_k = head < heads;
        const Heads &x = of_k ? p.k : p.v, &cache = of_k ? p.k_cache : p.v_cache;
        const float* const scales = of_k ? p.k_scale : p.v_scale;
        const float scale = scales == nullptr ? 1.0f : scales[own * (of_k ? p.k_scale_stride : p.v_scale_stride)];
        CacheElement* const to = static_cast<CacheElement*>(cache.data) + at(cache.strides, in_cache, own);
        f(static_cast<const Element*>(x.data) + at(x.strides, in_new, own),
          [=](std::int64_t c, const Piece<Element, kWidth>& piece) { store_cached<CacheElement>(to + c, piece, scale); });
      }
    }
  };
  const auto copy = [&](int first, int end, std::int64_t begin, std::int64_t columns) {
    for (std::int64_t c = begin + lane * kWidth; c < columns; c += kWidth << shares.team)
      for_heads(first, end, [=](const Element* from, const auto& to) { to(c, load<Element, kWidth>(from + c)); });
  };

  if constexpr (kTurn == Turn::none) {
    copy(0, heads, 0, p.dim);
  } else {
    constexpr int kPieces = kTurn == Turn::interleaved && kWidth > 1 ? 1 : 2, kPairs = kPieces * kWidth / 2;
    const bool inside = position >= 0 && position < p.table_rows;
    for (int pair = lane * kPairs; pair < p.pairs; pair += kPairs << shares.team) {
      S sine[kPairs], cosine[kPairs];
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        sine[i] = inside ? static_cast<S>(__ldg(p.sin + position * p.sin_stride + pair + i)) : static_cast<S>(NAN);
        cosine[i] = inside ? static_cast<S>(__ldg(p.cos + position * p.cos_stride + pair + i)) : static_cast<S>(NAN);
      }
      const std::int64_t first = kTurn == Turn::interleaved ? 2 * pair : pair,
                         second = kTurn == Turn::interleaved ? first + 1 : pair + p.pairs;
      const auto turn_head = [&](const Element* from, const auto& to) {
        Piece<Element, kWidth> piece[kPieces];
        piece[0] = load<Element, kWidth>(from + first);
        if constexpr (kPieces == 2) piece[1] = load<Element, kWidth>(from + second);
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          if constexpr (kPieces == 2) {
            turn(piece[0].x[i], piece[1].x[i], sine[i], cosine[i]);
          } else {
            turn(piece[0].x[2 * i], piece[0].x[2 * i + 1], sine[i], cosine[i]);
          }
        }
        to(first, piece[0]);
        if constexpr (kPieces == 2) to(second, piece[1]);
      };
      for_heads(0, heads, turn_head);
      for_heads(2 * heads, mine.end_head, turn_head);
    }
    copy(0, heads, 2 * p.pairs, p.dim);
    copy(2 * heads, mine.end_head, 2 * p.pairs, p.dim);
  }
  copy(heads, 2 * heads, 0, p.dim_v);
}

template <typename Element, typename CacheElement>
void enqueue(const AppendProblem& p, const Launch& launch) {
  const auto start = [&](auto kernel, int width) {
    const Shares shares = Shares::of(p.packed ? 1 : p.batch, p.rows, 2 * p.heads + p.heads_q,
                                     ceil_div(std::max(p.dim, p.dim_v), width), launch.sm_count);
    // One block at least: lengths are written also where there are no rows.
    const std::int64_t blocks = std::max<std::int64_t>(ceil_div(shares.count << shares.team, threads), 1);
    launch_kernel("launch of the kernel that appends to caches", launch.stream, {blocks, threads}, kernel, p, shares);
  };
  const auto choose = [&](auto wide) {
    constexpr int kWidth = width<Element, decltype(wide)::value>;
    if (p.pairs == 0) {
      start(sm80_kv_cache_append<Element, CacheElement, kWidth, Turn::none>, kWidth);
    } else if (p.interleaved) {
      start(sm80_kv_cache_append<Element, CacheElement, kWidth, Turn::interleaved>, kWidth);
    } else {
      start(sm80_kv_cache_append<Element, CacheElement, kWidth, Turn::halves>, kWidth);
    }
  };
  p.wide ? choose(std::true_type{}) : choose(std::false_type{});
}

template <typename Element>
void run(const AppendProblem& p, const Launch& launch) {
  if constexpr (!std::is_same_v<Element, double>) {
    switch (p.cache_type) {
      case DType::fp8_e4m3: return enqueue<Element, __nv_fp8_e4m3>(p, launch);
      case DType::fp8_e5m2: return enqueue<Element, __nv_fp8_e5m2>(p, launch);
      case DType::i8: return enqueue<Element, std::int8_t>(p, launch);
      default: break;
    }
  }
  enqueue<Element, Element>(p, launch);
}

constexpr Kernel table[] = {
    kernel(Op::kv_cache_append, Arch::sm80, DType::f16, run<__half>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::bf16, run<__nv_bfloat16>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::f32, run<float>),
    kernel(Op::kv_cache_append, Arch::sm80, DType::f64, run<double>),
};

}  // namespace

extern const KernelTable CUTPLAN_UNIT = {table, sizeof table / sizeof table[0]};

}  // namespace cutplan::attention_ops
