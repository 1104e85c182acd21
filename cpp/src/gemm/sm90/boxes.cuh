// How results leave a kernel with TMA: through boxes of 64 rows of 128 bytes in shared memory.
#pragma once

#include "core/sm90/tma.cuh"
#include "core/sm90/warpgroup.cuh"
#include "gemm/epilogue.cuh"

namespace cutplan::gemm::sm90 {

using namespace cutplan::sm90;

/// `rows` lines of a box of 128 bytes each, 16 at most, of which `width` bytes lie inside D. A function of its own, since it is
/// seldom needed, and code in the way of the usual costs instruction fetches.
__device__ __noinline__ static void copy_lines(const char* box, char* to, std::int64_t pitch, int rows, int width) {
  const int lane = threadIdx.x % 32, chunk = lane % 8;
  __syncwarp();
#pragma unroll 1
  for (int i = lane / 8; i < rows; i += 4) {
    const char* from = box + i * 128 + (chunk ^ i % 8) * 16;
    char* chunk_to = to + i * pitch + chunk * 16;
    if (chunk * 16 + 16 <= width) {
      *reinterpret_cast<uint4*>(chunk_to) = *reinterpret_cast<const uint4*>(from);
    } else {
#pragma unroll 1
      for (int j = 0; j < width - chunk * 16; j += 2)
        *reinterpret_cast<std::uint16_t*>(chunk_to + j) = *reinterpret_cast<const std::uint16_t*>(from + j);
    }
  }
}

/// Interior results of a warp to shared memory, from where TMA takes them: the least work for a warp. Its 16 rows, from `row` on,
/// of a box of 64 rows of 128 bytes, whose chunks of 16 lie in the order of the 128-byte swizzle.
template <DType kType>
__device__ __forceinline__ void stage(const float (&x)[32], void* box, int row) {
  const int lane = threadIdx.x % 32, of_8 = lane % 8;
  const std::uint32_t to = static_cast<std::uint32_t>(__cvta_generic_to_shared(box)) + (row + of_8) * 128;
#pragma unroll
  for (int line = 0; line < 2; ++line) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      std::uint32_t word[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int i = Fragments<1, 2>::at(line, c, j, 0);
        word[j] = narrow_pair(kType, x[i], x[i + 1]);
      }
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                       to + line * 1024 + ((4 * c + lane / 8) ^ of_8) * 16),
                   "r"(word[0]), "r"(word[1]), "r"(word[2]), "r"(word[3])
                   : "memory");
    }
  }
}

/// The same of float32, 32 columns of it.
template <DType kType>
__device__ __forceinline__ void stage(const float (&x)[16], void* box, int row) {
  const int lane = threadIdx.x % 32, of_8 = lane / 4, quad = lane % 4;
  const std::uint32_t to = static_cast<std::uint32_t>(__cvta_generic_to_shared(box)) + (row + of_8) * 128 + quad % 2 * 8;
#pragma unroll
  for (int line = 0; line < 2; ++line) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int i = Fragments<1, 1>::at(line, 0, j, 0);
      asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(to + line * 1024 + ((2 * j + quad / 2) ^ of_8) * 16), "f"(x[i]),
                   "f"(x[i + 1])
                   : "memory");
    }
  }
}

/// f(type) with D's type as a constant.
template <typename F>
__device__ __forceinline__ void with_type(DType type, const F& f) {
  switch (type) {
    case DType::f16: return f(std::integral_constant<DType, DType::f16>{});
    case DType::bf16: return f(std::integral_constant<DType, DType::bf16>{});
    default: return f(std::integral_constant<DType, DType::f32>{});
  }
}

/// Of each output. Where all columns at which another begins are also those of a box, and types are the same, boxes of a tile may
/// go to several.
struct OutputMaps {
  CUtensorMap of[most_outputs];
  int begin[most_outputs];  // as begin_of(), in the 32 bits of TMA's coordinates
  bool cut_at_boxes;
};

/// Store: to boxes in shared memory, two to a warpgroup, and from there to D while the next box is filled and the next tile
/// begins: by TMA, or, where it does not know which rows are D's, by the warps themselves.
struct BoxStore {
  const OutputMaps& maps;
  const Problem& p;
  std::int64_t row_end;
  char* boxes;  // the warpgroup's
  int& filled;  // of them, so far
  int batch;    // of D

  /// kType: D's.
  template <DType kType, bool kByTma, int kCols, bool kQuantized>
  __device__ __forceinline__ void store(const Fragments<1, kCols, kQuantized>& x) const {
    constexpr int kBytes = kType == DType::f32 ? 4 : 2, kPieces = 128 / (32 * kBytes);  // of 32 columns, in a box
    const bool leads = threadIdx.x % 128 == 0;
    const int first = threadIdx.x % 128 / 32 * 16;  // row of the warp in a box
#pragma unroll
    for (int c = 0; c < kCols; c += kPieces) {
      char* box = boxes + filled++ % 2 * box_bytes;
      const std::int64_t col = x.col + 32 * c;
      if (leads) kByTma ? cute::tma_store_wait<1>() : cute::tma_store_wait<0>();  // until all but the latest are read
      sync_warpgroup();
      stage<kType>(reinterpret_cast<const float (&)[16 * kPieces]>(x.x[c * 16]), box, first);
      if constexpr (kByTma) {
        cutlass::arch::fence_view_async_shared();
        sync_warpgroup();
        if (leads) {
          const int column = static_cast<int>(col);
          int output = 0;
#pragma unroll
          for (int i = 1; i < most_outputs; ++i) output += maps.begin[i] <= column;
          store_box(maps.of[output], box, column - maps.begin[output], static_cast<int>(x.first_row), batch);
        }
      } else {
        const Matrix& d = matrix_of(p, output_of(p, col));
        copy_lines(box + first * 128,
                   static_cast<char*>(d.data) + (batch * d.batch_stride + x.first_row * d.ld + col) * kBytes, d.ld * kBytes,
                   static_cast<int>(min(row_end - x.first_row, std::int64_t{16})),
                   static_cast<int>(min((p.n - col) * kBytes, std::int64_t{128})));
      }
    }
  }
};

}  // namespace cutplan::gemm::sm90
