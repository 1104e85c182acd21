// GEMM with float32 or float64 operands, for Ampere and everything after it: cp.async, and the arithmetic that the operands'
// type and the wanted accuracy call for.
//
//   tf32     mma.sync of operands rounded to nearest TF32
//   tf32x3   mma.sync of both halves of operands that are split into a big and a small TF32 number: three products, the
//            largest last
//   strict   fused multiply-adds on CUDA cores
//   float64  mma.sync m8n8k4, or m16n8k8 from compute capability 9.0 on: an H100 runs the former at half of its rate
//
// Data movement. Tiles of A and B go from global to shared memory through a ring of kStages slots, kStages - 1 of them in
// flight, 16 bytes a copy, or one element where the operands are no better aligned. Fragments go to registers some rows of
// instructions before they are multiplied. A tile lies in shared memory in runs, its contiguous direction in global memory
// (K, or M for A and N for B), cut into chunks of 16 bytes. Exclusive or with bits of the run's number permutes them, so
// that what a warp reads at once lies in different banks:
//   TF32, runs along K: ldmatrix reads a chunk of each of eight runs; its four floats are what the four lanes of a quad
//     want.
//   TF32, runs along M or N: there is no transposing ldmatrix of 32-bit elements; lanes read single floats, eight neighbours
//     of each of four runs.
//   float64: lanes read single elements, half a warp four neighbours of each of four runs. Pairs of them, read together,
//     would come into registers in another order than the instruction wants.
//   strict: a thread reads chunks, four k of a row or four rows of a k, which it shares with other lanes of its warp.
//
// Why these tiles. A warp tile of m by n reads (m + n) / (m n) elements of fragments a multiply-add, and shared memory gives
// 128 bytes a clock. TF32's 512 multiply-adds a clock (A100; mma.sync on an H100) need 64 x 64 to stay at half of that. The
// three products of tf32x3 share their fragments and are content with 64 x 32, whose sums and totals fit the registers.
// float64's 128 a clock (H100) take 3/8 with 32 x 64, whose sums take as many registers as float32's 64 x 64. CUDA cores do
// 128 a clock, with 64 x 32, 8 x 8 a thread. 64 x 64 tiles of D are for small problems; K is split across blocks when even
// those are too few.
//
// Few rows. B is read once, and is the first to leave L2 again; time is what memory takes to send it, if enough of it is on
// its way (some 48 KiB an SM) and no more is multiplied than there is: 64 rows of float64 take longer to multiply than to
// read. So the tile has 16 rows (CUDA cores: 32). It is narrow, 32 columns, so that 4096 of them keep the SMs of an H200 busy
// without splitting K, which costs a second launch, and the warps of a block cut each K step among them: their sums meet in
// shared memory, once a tile.
#pragma once

#include <cute/arch/mma_sm80.hpp>
#include <cute/arch/mma_sm90.hpp>

#include <algorithm>
#include <type_traits>

#include "core/launch.hpp"
#include "core/sm80/memory.cuh"
#include "gemm/epilogue.cuh"
#include "gemm/table.cuh"
#include "gemm/tiles.cuh"

namespace cutplan::gemm::sm80 {

template <Arch kArch_, typename Element_, Math kMath_, GemmLayout kLayout_, int kTileM_, int kTileN_, int kTileK_,
          int kStages_, int kWarpsM_, int kWarpsN_, int kWarpsK_, int kAlignment_>
struct WideConfig {
  using Element = Element_;
  static constexpr Arch kArch = kArch_;
  static constexpr Math kMath = kMath_;
  static constexpr GemmLayout kLayout = kLayout_;
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kTileK = kTileK_, kStages = kStages_, kWarpsM = kWarpsM_,
                       kWarpsN = kWarpsN_, kWarpsK = kWarpsK_;
  static constexpr int kAlignment = kAlignment_;  // bytes of a copy
  static constexpr int kThreads = 32 * kWarpsM * kWarpsN * kWarpsK;
  static constexpr int kWarpM = kTileM / kWarpsM, kWarpN = kTileN / kWarpsN;
  static constexpr bool kWide = sizeof(Element) == 8, kSimt = !kWide && kMath == Math::strict;
  static constexpr int kBlockK = kSimt ? 4 : 8;                // whose fragments are loaded together
  static constexpr int kBlocksK = kTileK / kBlockK / kWarpsK;  // of a warp, in a K step
  static constexpr bool kAlongKA = a_is_k_major(kLayout), kAlongKB = b_is_k_major(kLayout);
  static constexpr int kOffsetB = kTileM * kTileK * static_cast<int>(sizeof(Element));
  static constexpr int kSlotBytes = (kTileM + kTileN) * kTileK * static_cast<int>(sizeof(Element));
  // Sums pass through shared memory where the epilogue wants them in another order; a pitch of 4 more avoids bank conflicts.
  static constexpr int kPitch = kWarpN + 4;
  static constexpr int kSumsBytes = kWarpM * kWarpN * static_cast<int>(sizeof(Element));  // of a warp
  static constexpr int kStagingBytes = std::max(
      kWide || kSimt ? kWarpM * kPitch * static_cast<int>(sizeof(Element)) : staging_bytes, (kWarpsK - 1) * kSumsBytes);
  static constexpr int kSharedMemory = std::max(kSlotBytes * kStages, kStagingBytes * kWarpsM * kWarpsN);
  // Warps with 8 KiB of sums take up to 255 registers, so that 8 of them fill an SM; so do those with 4 KiB and as many
  // totals or fragments for CUDA cores, and with float64, whose epilogue would spill. Others take half; but with no more
  // blocks than the 228 KiB of an SM hold, of which each takes 1 for the system, registers have no other use.
  static constexpr int kWarpsOnSm =
      kWide || kSumsBytes >= 8192 || (kSumsBytes >= 4096 && (kMath == Math::tf32x3 || kSimt)) ? 8 : 16;
  static constexpr int kBlocksOnSm = std::min(kWarpsOnSm / (kThreads / 32), 228 * 1024 / (kSharedMemory + 1024));
  static_assert(kWarpN % 32 == 0 && kWarpM % 16 == 0 && kStages >= 3 && kBlocksOnSm >= 1);
  static_assert(kBlocksK >= 2 && (kBlocksK & (kBlocksK - 1)) == 0);
};

/// One operand's tile in one slot: `kExtent` (M or N) by kTileK elements, stored in runs along K or along the extent.
template <typename Config, int kExtent, bool kAlongK>
struct WideTile {
  static constexpr int kPerChunk = 16 / static_cast<int>(sizeof(typename Config::Element));
  static constexpr int kRunLength = kAlongK ? Config::kTileK : kExtent;
  static constexpr int kRuns = kAlongK ? kExtent : Config::kTileK;
  static constexpr int kChunks = kRunLength / kPerChunk;
  static constexpr int kRunBytes = kChunks * 16;
  static constexpr int kPermuted = kChunks < 8 ? kChunks : 8;

  /// What the chunks of a run are permuted by: bits of the run's number. Runs 8 apart are permuted alike.
  __host__ __device__ static constexpr int permutation(int run) {
    if constexpr (kAlongK && !Config::kWide) {
      return run / (8 / kPermuted) % kPermuted;  // eight lanes read a chunk of each of eight runs; short runs share a line
    } else if constexpr (Config::kSimt) {
      return 0;  // a warp reads one run
    } else {
      return 2 * (run / (8 / kPermuted) % (kPermuted / 2));  // two chunks of each of four runs
    }
  }

  __device__ static constexpr int offset(int run, int chunk) { return (run * kChunks + (chunk ^ permutation(run))) * 16; }
};

/// Brings one operand's tiles from global memory, one K step after the other, Config::kAlignment bytes a copy.
/// What is read once does not drive anything else out of L2.
template <typename Config, int kExtent, bool kAlongK, bool kReadOnce = false>
class WideLoader {
  using Element = typename Config::Element;
  using Tile = WideTile<Config, kExtent, kAlongK>;
  static constexpr int kPerCopy = Config::kAlignment / static_cast<int>(sizeof(Element));
  static constexpr int kPerRun = Tile::kRunLength / kPerCopy;  // copies
  static constexpr int kRunStep = Config::kThreads / kPerRun;  // runs between two copies of a thread
  static_assert(Config::kThreads % kPerRun == 0 && Tile::kRuns % kRunStep == 0 && (kRunStep & (kRunStep - 1)) == 0);

 public:
  static constexpr int kCopies = Tile::kRuns / kRunStep;  // of a thread
  static_assert(kCopies <= 32);

  /// The tile at `extent0` of an operand with `extent` rows (A) or columns (B), from k0 on.
  __device__ WideLoader(const void* data, std::int64_t ld, std::int64_t extent0, std::int64_t extent, std::int64_t k0)
      : run_step_(kRunStep * ld),
        next_step_((kAlongK ? Config::kTileK : Config::kTileK * ld) - (kCopies - 1) * kRunStep * ld) {
    const int first = threadIdx.x % kPerRun * kPerCopy, run = threadIdx.x / kPerRun;
    to_ = Tile::offset(run, first / Tile::kPerChunk) + first % Tile::kPerChunk * static_cast<int>(sizeof(Element));
    from_ = static_cast<const Element*>(data) +
            (kAlongK ? (extent0 + run) * ld + k0 + first : (k0 + run) * ld + extent0 + first);
    // Along K: which of the thread's runs exist. Others are left as they are: they only reach rows and columns outside D.
    // Along the extent: how much of the thread's copy exists.
    const auto inside = [&](std::int64_t i) { return static_cast<int>(i < 0 ? 0 : i > kPerCopy ? kPerCopy : i); };
    elements_ = kAlongK ? kPerCopy : inside(extent - extent0 - first);
    runs_ = 0;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (kAlongK ? extent0 + run + i * kRunStep < extent : elements_ > 0) runs_ |= 1u << i;
    }
    if constexpr (kReadOnce) policy_ = evict_first_policy();
    // Hold on to these in registers rather than recompute them in each step.
    asm volatile("" : "+r"(runs_), "+r"(to_), "+l"(run_step_), "+l"(next_step_));
  }

  /// Whether every copy is whole or absent, for all threads.
  __device__ static bool whole_copies(std::int64_t extent) { return kAlongK || extent % kPerCopy == 0; }

  /// The thread's runs where `wanted`, else none: what copy() takes.
  __device__ std::uint32_t runs(bool wanted) const { return wanted ? runs_ : 0; }

  /// Starts copy i of a K step of whole copies; the last one moves on to the next step.
  __device__ __forceinline__ void copy(std::uint32_t slot, int i, std::uint32_t runs) {
    if (runs >> i & 1) {
      if constexpr (kReadOnce && Config::kAlignment == 16) {
        cp_async(slot + to(i), from_, policy_);
      } else {
        cp_async<Config::kAlignment>(slot + to(i), from_);
      }
    }
    from_ += i + 1 < kCopies ? run_step_ : next_step_;
  }

  /// Starts the copies of a whole step of which only `k_left` elements, or parts of copies, exist; the rest becomes zero.
  /// Does not move on.
  __device__ __forceinline__ void copy_partial(std::uint32_t slot, int k_left) {
    const int first = threadIdx.x % kPerRun * kPerCopy, run = threadIdx.x / kPerRun;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      if (runs_ >> i & 1) {
        const int left = kAlongK ? k_left - first : run + i * kRunStep < k_left ? elements_ : 0;
        const int bytes = left <= 0 ? 0 : left < kPerCopy ? left * static_cast<int>(sizeof(Element)) : Config::kAlignment;
        const Element* from = bytes ? from_ + i * run_step_ : from_;
        cp_async_zfill<Config::kAlignment, false>(slot + to(i), from, bytes);
      }
    }
  }

 private:
  __device__ __forceinline__ int to(int i) const {
    return (to_ ^ (Tile::permutation(i * kRunStep) * 16)) + i * kRunStep * Tile::kRunBytes;
  }

  std::uint64_t policy_ = 0;
  const Element* from_;
  std::int64_t run_step_;   // elements from a copy to the thread's next
  std::int64_t next_step_;  // and from its last to its first of the next K step
  int to_, elements_;
  std::uint32_t runs_;
};

// ---- Arithmetic: fragments of one K block, their products, and where a lane's sums belong ----

/// A float32 number as TF32 tensor cores are given it: rounded to nearest, or, where split, as the sum of two such numbers.
/// The instruction ignores the 13 low bits, so that adding half of the last place it reads is all that rounding takes. It
/// would carry the largest numbers to infinity, and NaN into the sign: from 0x7f7ff000 on they are truncated, and infinity
/// stays what it is. Where split, the quick form leaves that out: of such a number it makes a small half that is infinite or
/// NaN, so that the sum of its products is NaN. There the small half is rounded by a product, to within 2/3 of its last place,
/// for an addition of integers would lose a NaN.
template <bool kSplit, bool kQuick>
struct Tf32Factor {
  std::uint32_t big, small;

  Tf32Factor() = default;
  __device__ __forceinline__ explicit Tf32Factor(std::uint32_t bits) : big(bits) {
    const float x = __uint_as_float(bits);
    if ((kSplit && kQuick) || fabsf(x) < __int_as_float(0x7f7ff000)) big += 0x1000u;
    if constexpr (kSplit) {
      const float rest = x - __uint_as_float(big & 0xffffe000u);
      small = kQuick ? __float_as_uint(rest * (1 + 0x1p-10f / 3)) : __float_as_uint(rest) + 0x1000u;
    }
  }
};

/// TF32 tensor cores, m16n8k8. Where split, a product is the sum of three: what is left out is that of the small halves.
/// Elements that come out as NaN are made again, with factors that keep the largest numbers. Where the product of the big
/// halves is infinite, be it that a factor is or that it overflows, the other two have any sign or are NaN, and so is the
/// sum: what is still NaN is made of big halves alone.
template <typename Config>
struct Tf32Cores {
  using Epilogue = gemm::Epilogue<>;
  static constexpr bool kSplit = Config::kMath == Math::tf32x3;
  static constexpr int kRows = Config::kWarpM / 16, kCols = Config::kWarpN / 8, kSums = kRows * kCols * 4;

  /// Tensor cores truncate when they add: a sum of 8192 positive products of three came out 1500 units too small. So these
  /// are summed over one K step only, and the sums added to totals, rounded to nearest.
  struct Sums {
    float x[kSums], total[kSplit ? kSums : 1];
  };
  using Values = float[kSums];

  using RowFragment = std::uint32_t[4];
  // Rows whose fragments are on their way: a K block, or half of one where the registers hold totals.
  static constexpr int kAhead = kSplit ? std::min(2, kRows) : kRows;
  using ColumnFragments = std::uint32_t[kCols / 2][4];  // a pair of column blocks in each

  /// Loads blocks of 16 (extent) by 8 (K): four 8 x 4 matrices, ordered as mma.sync wants them. A's second matrix is its
  /// lower half, B's its second half of K.
  template <bool kIsA>
  struct Operand {
    static constexpr bool kAlongK = kIsA ? Config::kAlongKA : Config::kAlongKB;
    using Tile = WideTile<Config, kIsA ? Config::kTileM : Config::kTileN, kAlongK>;

    /// Where this lane begins to read, in a slot.
    __device__ static int first(int extent0, int k0, int lane) {
      if constexpr (kAlongK) {
        const int run = kIsA ? lane % 16 : lane % 8 + lane / 16 * 8, chunk = kIsA ? lane / 16 : lane / 8 % 2;
        return Tile::offset(extent0 + run, k0 / 4 + chunk);
      } else {
        return Tile::offset(k0 + lane % 4, extent0 / 4 + lane / 16) + lane / 4 % 4 * 4;
      }
    }

    __device__ __forceinline__ static void load(std::uint32_t (&r)[4], std::uint32_t first, int i, int k_block) {
      if constexpr (kAlongK) {
        ldmatrix((first ^ (k_block * 32)) + i * 16 * Tile::kRunBytes, r);
      } else {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int chunk = 4 * i + 2 * half;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            load_shared((first ^ (chunk % 8 * 16)) + chunk / 8 * 128 + (8 * k_block + 4 * k) * Tile::kRunBytes,
                        r[kIsA ? half + 2 * k : 2 * half + k]);
          }
        }
      }
    }
  };

  __device__ __forceinline__ static void load_row(RowFragment& a, std::uint32_t first, int i, int k_block) {
    Operand<true>::load(a, first, i, k_block);
  }

  __device__ __forceinline__ static void load_columns(ColumnFragments& b, std::uint32_t first, int k_block) {
#pragma unroll
    for (int j = 0; j < kCols / 2; ++j) Operand<false>::load(b[j], first, j, k_block);
  }

  /// What multiply_row() takes of columns.
  template <bool kQuick>
  struct Columns {
    Tf32Factor<kSplit, kQuick> x[kCols / 2][4];

    __device__ __forceinline__ explicit Columns(const ColumnFragments& b) {
#pragma unroll
      for (int j = 0; j < kCols / 2; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) x[j][e] = Tf32Factor<kSplit, kQuick>(b[j][e]);
      }
    }
  };

  /// `big_alone`: of two split factors the big halves alone, summed over all of K.
  template <bool kQuick>
  __device__ __forceinline__ static void multiply_row(Sums& sums, int i, int k_block, const RowFragment& fragment,
                                                      const Columns<kQuick>& columns, bool big_alone) {
    const bool three = kSplit && !big_alone;
    if (three && k_block == 0) add_row(sums, i);
    Tf32Factor<kSplit, kQuick> a[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) a[e] = Tf32Factor<kSplit, kQuick>(fragment[e]);
#pragma unroll
    for (int term = 0; term < 3; ++term) {
      if (term < 2 && !three) continue;
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        // Back and forth along N, so that neighbours in issue order share a fragment.
        const int n = (i + term) % 2 ? kCols - 1 - j : j;
        float* d = &sums.x[(i * kCols + n) * 4];
        const auto c = [&](int e) { return three && k_block == 0 && term == 0 ? 0.0f : d[e]; };
        const Tf32Factor<kSplit, kQuick>* b = &columns.x[n / 2][n % 2 * 2];
        const auto x = [&](int e) { return term == 0 ? a[e].small : a[e].big; };
        const auto y = [&](int e) { return term == 1 ? b[e].small : b[e].big; };
        cute::SM80_16x8x8_F32TF32TF32F32_TN::fma(d[0], d[1], d[2], d[3], x(0), x(1), x(2), x(3), y(0), y(1), c(0), c(1),
                                                 c(2), c(3));
      }
    }
  }

  /// All sums of a lane, complete.
  __device__ __forceinline__ static Values& values(Sums& sums) {
    if constexpr (kSplit) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) add_row(sums, i);
      return sums.total;
    } else {
      return sums.x;
    }
  }

  /// Whether any of `values` is NaN, of those in the first `rows` rows and `cols` columns of the warp tile: what lies beyond
  /// them may be anything.
  __device__ __forceinline__ static bool has_nan(const Values& values, std::int64_t rows, std::int64_t cols) {
    const int lane = threadIdx.x % 32;
    const auto rows_left = static_cast<int>(min(rows, std::int64_t{Config::kWarpM})) - lane / 4,
               cols_left = static_cast<int>(min(cols, std::int64_t{Config::kWarpN})) - lane % 4 * 2;
    bool found = false;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const bool inside = 16 * i + 8 * (e / 2) < rows_left && 8 * j + e % 2 < cols_left;
          found |= inside && isnan(values[(i * kCols + j) * 4 + e]);
        }
      }
    }
    return found;
  }

  /// Puts the products of big halves in the place of what is NaN.
  __device__ __forceinline__ static void replace_nan(Sums& sums) {
#pragma unroll
    for (int e = 0; e < kSums; ++e) {
      if (isnan(sums.total[e])) sums.total[e] = sums.x[e];
    }
  }

  __device__ __forceinline__ static void store(const Epilogue& epilogue, Values& sums, void* staging, std::int64_t row,
                                               std::int64_t col) {
    epilogue.template store_warp_tile<kRows, kCols / 4>(sums, staging, row, col);
  }

 private:
  __device__ __forceinline__ static void add_row(Sums& sums, int i) {
#pragma unroll
    for (int e = 4 * kCols * i; e < 4 * kCols * (i + 1); ++e) sums.total[e] += sums.x[e];
  }
};

/// SIMT: fused multiply-adds on CUDA cores. Lanes stand 8 x 4 on a warp tile; a thread has every eighth row, or four neighbours of every 32, and its
/// columns alike.
template <typename Config>
struct Simt {
  using Epilogue = gemm::Epilogue<>;
  static constexpr int kRows = Config::kWarpM / 32, kCols = Config::kWarpN / 4, kSums = kRows * 4 * kCols;

  using Sums = float[kSums];

  static constexpr int kAhead = 1;
  using RowFragment = float[4][4];  // rows by k
  using ColumnFragments = float[kCols][4];
  template <bool>
  using Columns = const ColumnFragments&;

  template <bool kIsA>
  struct Operand {
    static constexpr bool kAlongK = kIsA ? Config::kAlongKA : Config::kAlongKB;
    static constexpr int kLanes = kIsA ? 8 : 4;
    using Tile = WideTile<Config, kIsA ? Config::kTileM : Config::kTileN, kAlongK>;

    /// Which of the lanes along this operand. Lanes next to each other share A, lanes 2 apart share B: such reads of 16
    /// bytes are served together.
    __device__ static int lane_of(int lane) { return kIsA ? lane / 2 % 2 + lane / 8 * 2 : lane % 2 + lane / 4 % 2 * 2; }

    /// The thread's element i along the extent.
    __device__ static int element(int lane, int i) {
      return kAlongK ? lane_of(lane) + i * kLanes : i / 4 * 4 * kLanes + lane_of(lane) * 4 + i % 4;
    }

    __device__ static int first(int extent0, int k0, int lane) {
      return kAlongK ? Tile::offset(extent0 + lane_of(lane), k0 / 4) : Tile::offset(k0, extent0 / 4 + lane_of(lane));
    }

    /// Loads four elements along the extent by four k: group g of those that the thread has.
    __device__ __forceinline__ static void load(float (*r)[4], std::uint32_t first, int g, int k_block) {
      if constexpr (kAlongK) {
#pragma unroll
        for (int i = 4 * g; i < 4 * g + 4; ++i) {
          const int permutation = Tile::permutation(i * kLanes);
          load_shared((first ^ ((k_block ^ permutation) * 16)) + i * kLanes * Tile::kRunBytes, r[i - 4 * g]);
        }
      } else {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          float v[4];
          load_shared(first + (4 * k_block + k) * Tile::kRunBytes + 4 * g * kLanes * 4, v);
#pragma unroll
          for (int e = 0; e < 4; ++e) r[e][k] = v[e];
        }
      }
    }
  };

  __device__ __forceinline__ static void load_row(RowFragment& a, std::uint32_t first, int i, int k_block) {
    Operand<true>::load(a, first, i, k_block);
  }

  __device__ __forceinline__ static void load_columns(ColumnFragments& b, std::uint32_t first, int k_block) {
#pragma unroll
    for (int g = 0; g < kCols / 4; ++g) Operand<false>::load(&b[4 * g], first, g, k_block);
  }

  template <bool>
  __device__ __forceinline__ static void multiply_row(Sums& acc, int i, int, const RowFragment& a, const ColumnFragments& b,
                                                      bool) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int j = 0; j < kCols; ++j) {
          const int n = r % 2 ? kCols - 1 - j : j;
          float& c = acc[(4 * i + r) * kCols + n];
          c = fmaf(a[r][k], b[n][k], c);
        }
      }
    }
  }

  __device__ __forceinline__ static Sums& values(Sums& sums) { return sums; }

  /// The sums pass through shared memory into the order of mma.sync's accumulators.
  __device__ __forceinline__ static void store(const Epilogue& epilogue, Sums& acc, void* staging, std::int64_t row,
                                               std::int64_t col) {
    const int lane = threadIdx.x % 32;
    float* sums = static_cast<float*>(staging);
#pragma unroll
    for (int i = 0; i < 4 * kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
        sums[Operand<true>::element(lane, i) * Config::kPitch + Operand<false>::element(lane, j)] = acc[i * kCols + j];
      }
    }
    __syncwarp();
    constexpr int kMmaM = Config::kWarpM / 16, kMmaN = Config::kWarpN / 8;
#pragma unroll
    for (int i = 0; i < kMmaM; ++i) {
#pragma unroll
      for (int j = 0; j < kMmaN; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          acc[(i * kMmaN + j) * 4 + e] =
              sums[(16 * i + 8 * (e / 2) + lane / 4) * Config::kPitch + 8 * j + 2 * (lane % 4) + e % 2];
        }
      }
    }
    __syncwarp();
    epilogue.template store_warp_tile<kMmaM, kMmaN / 4>(acc, staging, row, col);
  }
};

// ---- float64 ----

struct WideFunctions : ExactMath<double> {
  __device__ __forceinline__ static double one_plus_erf(double x) { return 1 + erf(x); }  // erfc takes more registers
};

/// Not inlined: double precision takes hundreds of instructions, and there are several elements of a thread.
struct WideActivations {
  using Inlined = Activations<double, WideFunctions>;
  __device__ __noinline__ static double activate(Activation activation, double x) {
    return Inlined::activate(activation, x);
  }
  __device__ __noinline__ static double derivative(Activation activation, double x) {
    return Inlined::derivative(activation, x);
  }
};

/// Walk: `kCount` rows of one column in float64, of which `count` lie inside D. Rows by the handful, so that what is read for
/// one does not wait for what is read for another.
template <int kCount>
struct WideColumn {
  using Value = double;
  using Math = WideActivations;
  static constexpr bool kInRegisters = false, kQuantized = false;

  double (&x)[kCount];
  std::int64_t batch, row, col;
  int count;  // may be negative

  template <typename F>
  __device__ __forceinline__ void each(const F& f) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) f(x[i]);
    }
  }
  template <typename F>
  __device__ __forceinline__ void with(const Matrix& m, const F& f) {
    if (m.data == nullptr) return;
    double y[kCount] = {};
    const double* from = element(m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) y[i] = from[i * m.ld];
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) f(x[i], y[i]);
    }
  }
  __device__ __forceinline__ void write(const Matrix& m) const {
    double* to = element(m);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) to[i * m.ld] = x[i];
    }
  }

 private:
  __device__ __forceinline__ double* element(const Matrix& m) const {
    return static_cast<double*>(m.data) + batch * m.batch_stride + row * m.ld + col * m.step;
  }
};

/// The epilogue of one matrix of the batch, or one group, in float64: as Epilogue.
struct WideEpilogue {
  const Problem& p;
  std::int64_t batch, d_batch, row_end;

  /// Sums to results: `kCount` rows of one column, of which those inside D are stored.
  template <int kCount>
  __device__ __forceinline__ void finish(double (&sums)[kCount], std::int64_t row, std::int64_t col) const {
    if (col >= p.n) return;
    WideColumn<kCount> x{sums, batch, row, col, row_end - row < kCount ? static_cast<int>(row_end - row) : kCount};
    apply(p.terms, x);
    x.batch = d_batch;
    x.write(matrix_of(p, output_of(p, col)));
  }
};

/// float64 tensor cores. Of a block of 16 x 8 sums a lane holds, as in float32, two columns of rows g = lane / 4 and g + 8.
template <typename Config>
struct DoubleCores {
  using Epilogue = WideEpilogue;
  static constexpr int kRows = Config::kWarpM / 16, kCols = Config::kWarpN / 8, kSums = kRows * kCols * 4;

  using Sums = double[kSums];

  static constexpr int kAhead = std::min(2, kRows);
  using RowFragment = double[4];
  using ColumnFragments = double[kCols][2];
  template <bool>
  using Columns = const ColumnFragments&;

  template <bool kIsA>
  struct Operand {
    static constexpr bool kAlongK = kIsA ? Config::kAlongKA : Config::kAlongKB;
    using Tile = WideTile<Config, kIsA ? Config::kTileM : Config::kTileN, kAlongK>;

    __device__ static int first(int extent0, int k0, int lane) {
      const int row = lane / 4, k = k0 + lane % 4;
      return kAlongK ? Tile::offset(extent0 + row, k / 2) + k % 2 * 8 : Tile::offset(k, (extent0 + row) / 2) + row % 2 * 8;
    }

    /// Element (row, k) of block `block` of 8 (extent) by 4 (K).
    __device__ __forceinline__ static void load(double& to, std::uint32_t first, int block, int k_block) {
      if constexpr (kAlongK) {
        load_shared((first ^ (k_block * 32)) + block * 8 * Tile::kRunBytes, to);
      } else {
        load_shared((first ^ (block % 2 * 64)) + block / 2 * 128 + k_block * 4 * Tile::kRunBytes, to);
      }
    }
  };

  __device__ __forceinline__ static void load_row(RowFragment& a, std::uint32_t first, int i, int k_block) {
#pragma unroll
    for (int e = 0; e < 4; ++e) Operand<true>::load(a[e], first, 2 * i + e % 2, 2 * k_block + e / 2);
  }

  __device__ __forceinline__ static void load_columns(ColumnFragments& b, std::uint32_t first, int k_block) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) Operand<false>::load(b[j][e], first, j, 2 * k_block + e);
    }
  }

  template <bool>
  __device__ __forceinline__ static void multiply_row(Sums& acc, int i, int, const RowFragment& a,
                                                      const ColumnFragments& columns, bool) {
#pragma unroll
    for (int j = 0; j < kCols; ++j) {
      const int n = i % 2 ? kCols - 1 - j : j;
      const double (&b)[2] = columns[n];
      double* c = &acc[(i * kCols + n) * 4];
      if constexpr (Config::kArch == Arch::sm90) {
        cute::SM90::MMA_16x8x8_F64F64F64F64_TN::fma(c[0], c[1], c[2], c[3], a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1],
                                                    c[2], c[3]);
      } else {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
#pragma unroll
          for (int h = 0; h < 2; ++h)
            cute::SM80_8x8x4_F64F64F64F64_TN::fma(c[2 * h], c[2 * h + 1], a[2 * k + h], b[k], c[2 * h], c[2 * h + 1]);
        }
      }
    }
  }

  __device__ __forceinline__ static Sums& values(Sums& sums) { return sums; }

  /// The sums pass through shared memory, so that a warp reads and writes whole rows, and the code is there once.
  __device__ __forceinline__ static void store(const Epilogue& epilogue, Sums& acc, void* staging, std::int64_t row,
                                               std::int64_t col) {
    const int lane = threadIdx.x % 32, quad_row = lane / 4, quad = lane % 4;
    double* sums = static_cast<double*>(staging);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
#pragma unroll
      for (int j = 0; j < kCols; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          sums[(16 * i + 8 * (e / 2) + quad_row) * Config::kPitch + 8 * j + 2 * quad + e % 2] = acc[(i * kCols + j) * 4 + e];
        }
      }
    }
    __syncwarp();
    constexpr int kCount = 8;
#pragma unroll 1
    for (int r = 0; r < Config::kWarpM; r += kCount) {
#pragma unroll 1
      for (int c = lane; c < Config::kWarpN; c += 32) {
        double x[kCount];
#pragma unroll
        for (int i = 0; i < kCount; ++i) x[i] = sums[(r + i) * Config::kPitch + c];
        epilogue.finish(x, row + r, col + c);
      }
    }
  }
};

template <typename Config>
using WideArithmetic = std::conditional_t<Config::kWide, DoubleCores<Config>,
                                          std::conditional_t<Config::kSimt, Simt<Config>, Tf32Cores<Config>>>;

/// Adds the sums of the warps that share a warp tile of D to those of the first of them. False: this warp is another.
/// `exchange` is the warp tile's own shared memory.
template <typename Config, typename Value, int kSums>
__device__ __forceinline__ bool add_warps(Value (&sums)[kSums], Value* exchange, int warp_k) {
  if constexpr (Config::kWarpsK > 1) {
    Value* const mine = exchange + threadIdx.x % 32;
    if (warp_k > 0) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) mine[((warp_k - 1) * kSums + i) * 32] = sums[i];
    }
    __syncthreads();
    if (warp_k > 0) return false;
#pragma unroll
    for (int other = 0; other < Config::kWarpsK - 1; ++other) {
#pragma unroll
      for (int i = 0; i < kSums; ++i) sums[i] += mine[(other * kSums + i) * 32];
    }
    __syncwarp();
  }
  return true;
}

template <typename Config>
__global__ __launch_bounds__(Config::kThreads, Config::kBlocksOnSm) void wide_gemm(const __grid_constant__ Problem p,
                                                                                   const __grid_constant__ TileGrid grid) {
  using Element = typename Config::Element;
  using Arithmetic = WideArithmetic<Config>;
  using LoadA = WideLoader<Config, Config::kTileM, Config::kAlongKA>;
  using LoadB = WideLoader<Config, Config::kTileN, Config::kAlongKB, Config::kTileM <= 32>;  // few rows read B once
  constexpr int kStages = Config::kStages, kTileK = Config::kTileK, kBlocksK = Config::kBlocksK, kRows = Arithmetic::kRows,
                kAhead = Arithmetic::kAhead, kPlaces = kBlocksK * kRows;
  constexpr bool kSplit = !Config::kWide && Config::kMath == Math::tf32x3;
  static_assert(kBlocksK % 2 == 0 && kPlaces % (2 * kAhead) == 0 &&
                kAhead <= kRows);  // fragments take turns in their buffers
  extern __shared__ __align__(1024) char shared[];
  const auto ring = shared_address(shared);
  constexpr std::uint32_t kRingBytes = kStages * Config::kSlotBytes, kOffsetB = Config::kOffsetB;
  constexpr int kWarpTiles = Config::kWarpsM * Config::kWarpsN;
  const int lane = threadIdx.x % 32, warp_k = Config::kWarpsK == 1 ? 0 : threadIdx.x / 32 / kWarpTiles,
            warp = threadIdx.x / 32 - warp_k * kWarpTiles;
  const int warp_m = warp % Config::kWarpsM * Config::kWarpM, warp_n = warp / Config::kWarpsM * Config::kWarpN;
  const int k0 = warp_k * (kTileK / Config::kWarpsK);
  const std::uint32_t first_a = ring + Arithmetic::template Operand<true>::first(warp_m, k0, lane),
                      first_b = ring + kOffsetB + Arithmetic::template Operand<false>::first(warp_n, k0, lane);

  TileWalk<Config::kTileM, Config::kTileN> walk(p, grid);
  Tile tile;
  for (std::uint32_t index = blockIdx.x; walk.find(index, tile); index += gridDim.x) {
    const int steps = static_cast<int>((tile.k_end - tile.k + kTileK - 1) / kTileK);
    const int k_last =
        static_cast<int>(tile.k_end - tile.k - static_cast<std::int64_t>(steps - 1) * kTileK);  // of the last step

    typename Arithmetic::Sums acc = {};
    const auto multiply = [&](auto quick, bool big_alone) {
      constexpr bool kQuick = decltype(quick)::value;
      LoadA load_a(static_cast<const Element*>(p.a.data) + tile.batch * p.a.batch_stride, p.a.ld, tile.row, tile.row_end,
                   tile.k);
      LoadB load_b(static_cast<const Element*>(p.b.data) + tile.batch * p.b.batch_stride, p.b.ld, tile.col, p.n, tile.k);
      // Steps whose copies all exist whole; others are filled up with zeros.
      const int full_steps = k_last == kTileK ? steps : steps - 1;
      const int whole_steps = load_a.whole_copies(p.m) && load_b.whole_copies(p.n) ? full_steps : 0;
      const auto start_ragged_copy = [&](int step, std::uint32_t slot) {
        const int k_left = step < full_steps ? kTileK : k_last;
        load_a.copy_partial(slot, k_left);
        load_b.copy_partial(slot + kOffsetB, k_left);
      };
      const auto copy = [&](int i, std::uint32_t slot, std::uint32_t runs_a, std::uint32_t runs_b) {
        if (i < LoadA::kCopies) {
          load_a.copy(slot, i, runs_a);
        } else {
          load_b.copy(slot + kOffsetB, i - LoadA::kCopies, runs_b);
        }
      };
      constexpr int kCopies = LoadA::kCopies + LoadB::kCopies;
      const auto wait_for_slot = [&] {
        cp_async_wait<kStages - 2>();
        __syncthreads();
      };

      __syncthreads();  // the ring is still read by the previous tile
#pragma unroll
      for (int stage = 0; stage < kStages - 1; ++stage) {
        if (stage < steps) {
          const std::uint32_t slot = ring + stage * Config::kSlotBytes;
          const bool whole = stage < whole_steps;
          if (!whole) start_ragged_copy(stage, slot);
#pragma unroll
          for (int i = 0; i < kCopies; ++i) copy(i, slot, load_a.runs(whole), load_b.runs(whole));
        }
        cp_async_commit();
      }

      typename Arithmetic::RowFragment a[2 * kAhead];
      typename Arithmetic::ColumnFragments b[2];
      if (steps > 0) {
        wait_for_slot();
#pragma unroll
        for (int row = 0; row < kAhead; ++row) Arithmetic::load_row(a[row], first_a, row % kRows, row / kRows);
        Arithmetic::load_columns(b[0], first_b, 0);
      }
      std::uint32_t slot = 0, free_slot = (kStages - 1) * Config::kSlotBytes;  // free_slot: read in the previous step
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        const std::uint32_t next_slot = slot + Config::kSlotBytes == kRingBytes ? 0 : slot + Config::kSlotBytes;
        const int incoming = step + kStages - 1;
        const bool whole = incoming < whole_steps;
        const std::uint32_t runs_a = load_a.runs(whole), runs_b = load_b.runs(whole);
        if (!whole && incoming < steps) start_ragged_copy(incoming, ring + free_slot);
#pragma unroll
        for (int k_block = 0; k_block < kBlocksK; ++k_block) {
          typename Arithmetic::template Columns<kQuick> columns(b[k_block % 2]);
#pragma unroll
          for (int row = 0; row < kRows; ++row) {
            const int place = k_block * kRows + row, ahead = (place + kAhead) % kPlaces;
            if (place == kPlaces - kAhead) {
              cp_async_commit();
              wait_for_slot();
            }
            // After the last step this reads a slot that nobody needs: cheaper than a branch.
            const std::uint32_t from = place + kAhead < kPlaces ? slot : next_slot;
            Arithmetic::load_row(a[(place + kAhead) % (2 * kAhead)], first_a + from, ahead % kRows, ahead / kRows);
            if (row == kRows - kAhead)
              Arithmetic::load_columns(b[(k_block + 1) % 2], first_b + from, (k_block + 1) % kBlocksK);
            // Copies are spread between the rows of products, so that neither these nor the fragments wait for a burst of
            // them.
            constexpr int kCopyPlaces = kPlaces - kAhead;
            if (place < kCopyPlaces) {
#pragma unroll
              for (int i = place * kCopies / kCopyPlaces; i < (place + 1) * kCopies / kCopyPlaces; ++i)
                copy(i, ring + free_slot, runs_a, runs_b);
            }
            Arithmetic::template multiply_row<kQuick>(acc, row, k_block, a[place % (2 * kAhead)], columns, big_alone);
          }
        }
        free_slot = slot;
        slot = next_slot;
      }
      cp_async_wait<0>();
    };
    multiply(std::true_type{}, false);
    auto& sums = Arithmetic::values(acc);
    if constexpr (kSplit) {
      const bool found = Arithmetic::has_nan(sums, tile.row_end - tile.row - warp_m, p.n - tile.col - warp_n);
      if (__syncthreads_or(found)) {
        acc = {};
#pragma unroll 1
        for (const bool big_alone : {false, true}) {
          multiply(std::false_type{}, big_alone);
          if (big_alone) break;
          Arithmetic::values(acc);
          for (float& x : acc.x) x = 0;
        }
        Arithmetic::replace_nan(acc);
        __syncthreads();
      }
    } else {
      __syncthreads();
    }

    // The epilogue reuses the ring.
    char* const staging = shared + warp * Config::kStagingBytes;
    if (!add_warps<Config>(sums, reinterpret_cast<Element*>(staging), warp_k)) continue;
    Arithmetic::store(typename Arithmetic::Epilogue{p, tile.batch, tile.slice * p.batch + tile.batch, tile.row_end}, sums,
                      staging, tile.row + warp_m, tile.col + warp_n);
  }
}

/// Adds up the slices of a split K in float64, in order, and runs the epilogue on the sum. A thread for each element.
template <typename Sum>
__global__ void wide_split_k_reduce(const __grid_constant__ Problem p, const Sum* partial, int split_k) {
  const std::int64_t elements = p.batch * p.m * p.n;
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < elements;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    Sum x[1] = {};
    for (int split = 0; split < split_k; ++split) x[0] += partial[split * elements + i];
    const std::int64_t batch = i / (p.m * p.n);
    WideEpilogue{p, batch, batch, p.m}.finish(x, i / p.n % p.m, i % p.n);
  }
}

template <typename Config>
void prepare_wide(const Kernel&) {
  allow_shared_memory(wide_gemm<Config>, Config::kSharedMemory);
  if constexpr (Config::kWide) {
    load_kernel(wide_split_k_reduce<double>);
  } else {
    load_kernel(split_k_reduce);
  }
}

template <typename Config>
void run_wide(const Kernel&, const Problem& p, const Launch& launch) {
  const Problem main = launch.split_k > 1 ? partial_sums(p, launch.workspace, Config::kWide ? DType::f64 : DType::f32) : p;
  const TileGrid grid = tile_grid(p, Config::kTileM, Config::kTileN, Config::kTileK, launch.split_k);
  const std::uint32_t blocks =
      launch.sm_limited ? std::min(static_cast<std::uint32_t>(launch.sm_count), grid.tiles) : grid.tiles;
  for (int i = 0; i < launch.repeats; ++i) {
    launch_kernel("launch of the sm80 GEMM kernel for wide operands", launch.stream,
                  {blocks, Config::kThreads, Config::kSharedMemory}, wide_gemm<Config>, main, grid);
    if (launch.split_k == 1) continue;
    if constexpr (Config::kWide) {
      const std::int64_t reduction =
          std::min<std::int64_t>((p.batch * p.m * p.n + 255) / 256, std::int64_t{8} * launch.sm_count);
      launch_kernel("launch of the split K reduction in float64", launch.stream, {reduction, 256},
                    wide_split_k_reduce<double>, p, static_cast<const double*>(launch.workspace), launch.split_k);
    } else {
      reduce_split_k(p, launch);
    }
  }
}

template <Arch kArch, typename Element, Math kMath, GemmLayout kLayout, int kTileM, int kTileN, int kTileK, int kStages,
          int kWarpsM, int kWarpsN, int kWarpsK, int kAlignment>
constexpr Kernel wide_kernel(double peak_fraction) {
  using C =
      WideConfig<kArch, Element, kMath, kLayout, kTileM, kTileN, kTileK, kStages, kWarpsM, kWarpsN, kWarpsK, kAlignment>;
  Kernel k{};
  k.arch = kArch;
  k.summation.multiplier = kMath == Math::strict && !C::kWide ? Multiplier::simt : Multiplier::mma_sync;
  k.summation.k = C::kWide ? (kArch == Arch::sm90 ? 8 : 4) : kMath == Math::strict ? 1 : 8;
  k.summation.step_k = kMath == Math::tf32x3 || kWarpsK > 1 ? kTileK : 0;
  k.summation.shares = kWarpsK;
  k.operand = k.operand_b = C::kWide ? DType::f64 : DType::f32;
  k.math = kMath;
  k.layout = kLayout;
  k.tile_m = kTileM;
  k.tile_n = kTileN;
  k.tile_k = kTileK;
  k.stages = kStages;
  k.cluster_m = k.cluster_n = 1;
  k.schedule = "multistage";
  k.alignment = kAlignment;
  k.threads = C::kThreads;
  k.blocks_by_registers = C::kBlocksOnSm;
  k.shared_memory = C::kSharedMemory;
  k.minimum_compute_capability = kArch == Arch::sm90 ? 90 : 80;
  k.maximum_compute_capability = kArch == Arch::sm90 ? 90 : any_newer;
  k.splits_k = true;
  k.groups = true;
  k.peak_fraction = peak_fraction;
  k.exposed_seconds = kTileM * kTileN >= 128 * 128 ? 5e-6 : 3e-6;
  k.run = run_wide<C>;
  k.prepare = prepare_wide<C>;
  return k;
}

/// A table: one tile, in each of the layouts.
template <Arch kArch, typename Element, Math kMath, int kTileM, int kTileN, int kTileK, int kStages, int kWarpsM,
          int kWarpsN, int kWarpsK, int kAlignment, GemmLayout... kLayouts>
constexpr std::array<Kernel, sizeof...(kLayouts)> wide_kernels(Layouts<kLayouts...>, double peak_fraction) {
  return {
      wide_kernel<kArch, Element, kMath, kLayouts, kTileM, kTileN, kTileK, kStages, kWarpsM, kWarpsN, kWarpsK, kAlignment>(
          peak_fraction)...};
}

}  // namespace cutplan::gemm::sm80
