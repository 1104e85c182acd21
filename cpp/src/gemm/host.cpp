// Host backend of the GEMM family: D = activation(alpha * A B + beta * C + bias) in portable C++.
//
// Data movement, one task per block of D (at most 192 x 512), tasks shared out over threads:
//   for each slice of 256 k:
//     A's rows of the block are packed into panels of `rows` rows, k by k, widened to the accumulator type;
//     B's columns into panels of `columns` columns likewise;
//     a register tile of rows x columns multiplies one panel pair and adds its sum to the block's sums in L2;
//   the epilogue then goes over the sums row by row and writes D.
// f16, bf16 and f32 are summed in f32, f64 in f64. The register tile is two vectors wide and as high as the vector registers
// allow; which instruction set it uses is found out at run time.
//
// Order of summation: within a slice products are added one after another in k, starting from zero, and slices are added one
// after another. Panels at the edge of D are padded with zeros and go through the same code, multiply-add contraction
// included. So an element's bits depend on its row of A, its column of B and K alone: not on M, N, batch, threads or its
// place in a block. The result is deterministic and batch-invariant.
//
// Scratch is one allocation per thread and call.
#include "gemm/host.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <new>
#include <type_traits>

#include "core/half.hpp"
#include "core/parallel.hpp"

namespace cutplan::gemm {
namespace {

constexpr std::int64_t block_m = 192;  // a multiple of every register tile's height
constexpr std::int64_t block_n = 512;

// ---- the register tile ----

template <typename T>
struct MicroKernel {
  int rows, columns;
  /// sums[rows, columns] (leading dimension ld) = or += the product of a packed panel pair.
  void (*run)(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld, bool accumulate);
};

// GCC and Clang vectors: arithmetic on them is element-wise, and the compiler emits one instruction each.
template <typename T, int kBytes>
struct Vector {
  typedef T type __attribute__((vector_size(kBytes), may_alias));
};

#if defined(__clang__)
#define CUTPLAN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CUTPLAN_UNROLL _Pragma("GCC unroll 16")
#endif

template <typename T, int kBytes, int kRows>
__attribute__((always_inline)) inline void multiply_panels(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld,
                                                           bool accumulate) {
  using V = typename Vector<T, kBytes>::type;
  constexpr int lanes = kBytes / static_cast<int>(sizeof(T));
  V sum[kRows][2] = {};
  for (std::int64_t p = 0; p < k; ++p) {
    const V b0 = *reinterpret_cast<const V*>(b);
    const V b1 = *reinterpret_cast<const V*>(b + lanes);
    CUTPLAN_UNROLL
    for (int i = 0; i < kRows; ++i) {
      sum[i][0] += a[i] * b0;
      sum[i][1] += a[i] * b1;
    }
    a += kRows;
    b += 2 * lanes;
  }
  CUTPLAN_UNROLL
  for (int i = 0; i < kRows; ++i) {
    V* out = reinterpret_cast<V*>(sums + i * ld);
    out[0] = accumulate ? out[0] + sum[i][0] : sum[i][0];
    out[1] = accumulate ? out[1] + sum[i][1] : sum[i][1];
  }
}

#if defined(__x86_64__)

template <typename T>
__attribute__((target("avx512f"))) void multiply_avx512(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld,
                                                        bool accumulate) {
  multiply_panels<T, 64, 12>(k, a, b, sums, ld, accumulate);
}

template <typename T>
__attribute__((target("avx2,fma"))) void multiply_avx2(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld,
                                                       bool accumulate) {
  multiply_panels<T, 32, 6>(k, a, b, sums, ld, accumulate);
}

template <typename T>
void multiply_sse2(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld, bool accumulate) {
  multiply_panels<T, 16, 6>(k, a, b, sums, ld, accumulate);
}

template <typename T>
MicroKernel<T> choose_micro_kernel() {
  constexpr int size = static_cast<int>(sizeof(T));
  if (__builtin_cpu_supports("avx512f")) return {12, 128 / size, multiply_avx512<T>};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return {6, 64 / size, multiply_avx2<T>};
  return {6, 32 / size, multiply_sse2<T>};
}

#else

template <typename T>
void multiply_128_bit(std::int64_t k, const T* a, const T* b, T* sums, std::int64_t ld, bool accumulate) {
  multiply_panels<T, 16, 12>(k, a, b, sums, ld, accumulate);
}

template <typename T>
MicroKernel<T> choose_micro_kernel() {
  return {12, 32 / static_cast<int>(sizeof(T)), multiply_128_bit<T>};
}

#endif

template <typename T>
const MicroKernel<T>& micro_kernel() {
  static const MicroKernel<T> chosen = choose_micro_kernel<T>();
  return chosen;
}

// ---- packing ----

/// Copies `extent` rows (or columns) x `k` of a matrix into panels of `width`, [panel][k][width], padding with zeros.
template <typename S, typename T>
void pack(const S* source, std::int64_t stride, std::int64_t stride_k, std::int64_t extent, std::int64_t k, int width,
          T* packed) {
  for (std::int64_t first = 0; first < extent; first += width, packed += k * width) {
    const int used = static_cast<int>(std::min<std::int64_t>(width, extent - first));
    const S* panel = source + first * stride;
    if (used < width) std::fill_n(packed, k * width, T(0));
    if (stride == 1) {
      for (std::int64_t p = 0; p < k; ++p) {
        const S* line = panel + p * stride_k;
        T* out = packed + p * width;
        for (int i = 0; i < used; ++i) out[i] = static_cast<T>(line[i]);
      }
    } else {
      for (int i = 0; i < used; ++i) {
        const S* line = panel + i * stride;
        for (std::int64_t p = 0; p < k; ++p) packed[p * width + i] = static_cast<T>(line[p * stride_k]);
      }
    }
  }
}

// ---- epilogue ----

// erfc rather than 1 + erf, and the sigmoid form rather than 1 + tanh: neither cancels where x is negative.
template <typename T>
T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::none: break;
    case Activation::relu: return x < T(0) ? T(0) : x;  // a NaN compares false and stays
    case Activation::gelu_erf: return T(0.5) * x * std::erfc(x * T(-0.70710678118654752440));
    case Activation::gelu_tanh: {
      const T u = T(0.79788456080286535588) * (x + T(0.044715) * x * x * x);
      return x / (T(1) + std::exp(T(-2) * u));
    }
    case Activation::silu: return x / (T(1) + std::exp(-x));
  }
  return x;
}

const char* advance(const void* base, DType type, std::int64_t elements) {
  return static_cast<const char*>(base) + elements * (bits(type) / 8);
}

/// Widens `count` elements at `base + first`.
template <typename T>
void load(const void* base, DType type, std::int64_t first, std::int64_t count, T* out) {
  const auto widen = [&](auto* typed) {
    for (std::int64_t j = 0; j < count; ++j) out[j] = static_cast<T>(typed[j]);
  };
  const char* data = advance(base, type, first);
  switch (type) {
    case DType::f16: return widen(reinterpret_cast<const Half*>(data));
    case DType::bf16: return widen(reinterpret_cast<const BFloat16*>(data));
    case DType::f32: return widen(reinterpret_cast<const float*>(data));
    default: return widen(reinterpret_cast<const double*>(data));
  }
}

template <typename T>
void store(void* base, DType type, std::int64_t first, std::int64_t count, const T* values) {
  char* data = const_cast<char*>(advance(base, type, first));
  const auto narrow = [&](auto* typed) {
    using D = std::remove_pointer_t<decltype(typed)>;
    for (std::int64_t j = 0; j < count; ++j)
      typed[j] = D(static_cast<std::conditional_t<sizeof(D) == 2, float, D>>(values[j]));
  };
  switch (type) {
    case DType::f16: return narrow(reinterpret_cast<Half*>(data));
    case DType::bf16: return narrow(reinterpret_cast<BFloat16*>(data));
    case DType::f32: return narrow(reinterpret_cast<float*>(data));
    default: return narrow(reinterpret_cast<double*>(data));
  }
}

// ---- the blocked product ----

constexpr std::int64_t round_up(std::int64_t x, std::int64_t to) { return (x + to - 1) / to * to; }
constexpr std::int64_t divide_up(std::int64_t x, std::int64_t by) { return (x + by - 1) / by; }

struct Blocks {
  std::int64_t m, n;          // extents of one block
  std::int64_t down, across;  // blocks per matrix
  std::int64_t count(std::int64_t batch) const { return down * across * batch; }
};

/// Largest blocks that still give every thread several tasks.
Blocks choose_blocks(const Problem& problem, int threads, int rows, int columns) {
  Blocks blocks{std::min(block_m, round_up(problem.m, rows)), std::min(block_n, round_up(problem.n, columns)), 0, 0};
  for (;;) {
    blocks.down = divide_up(problem.m, blocks.m);
    blocks.across = divide_up(problem.n, blocks.n);
    const bool can_halve_n = blocks.n >= 4 * columns, can_halve_m = blocks.m >= 4 * rows;
    if (threads == 1 || blocks.count(problem.batch) >= 4 * std::int64_t{threads} || !(can_halve_n || can_halve_m))
      return blocks;
    if (can_halve_n && (blocks.n >= blocks.m || !can_halve_m)) {
      blocks.n = round_up(blocks.n / 2, columns);
    } else {
      blocks.m = round_up(blocks.m / 2, rows);
    }
  }
}

/// A thread's panels, sums and one row for the epilogue, in one cache-line aligned allocation.
template <typename T>
class Scratch {
 public:
  Scratch(std::int64_t a_size, std::int64_t b_size, std::int64_t sums_size, std::int64_t row_size) {
    a_size = padded(a_size), b_size = padded(b_size), sums_size = padded(sums_size);
    const auto bytes = static_cast<std::size_t>(a_size + b_size + sums_size + row_size) * sizeof(T);
    panel_a = static_cast<T*>(::operator new(bytes, alignment));
    panel_b = panel_a + a_size;
    sums = panel_b + b_size;
    row = sums + sums_size;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(panel_a, alignment); }

  T *panel_a, *panel_b, *sums, *row;

 private:
  static constexpr std::align_val_t alignment{64};
  static std::int64_t padded(std::int64_t count) { return round_up(count, 64 / static_cast<std::int64_t>(sizeof(T))); }
};

template <typename S, typename T>
void multiply_block(const Problem& problem, GemmLayout layout, const MicroKernel<T>& micro, std::int64_t batch,
                    std::int64_t first_m, std::int64_t first_n, std::int64_t m, std::int64_t n, const Scratch<T>& scratch) {
  const bool a_row_major = layout == GemmLayout::rcr || layout == GemmLayout::rrr;
  const bool b_row_major = layout == GemmLayout::rrr || layout == GemmLayout::crr;
  const std::int64_t a_stride_m = a_row_major ? problem.lda : 1, a_stride_k = a_row_major ? 1 : problem.lda;
  const std::int64_t b_stride_k = b_row_major ? problem.ldb : 1, b_stride_n = b_row_major ? 1 : problem.ldb;
  const std::int64_t ld = round_up(n, micro.columns);

  if (problem.k == 0) std::fill_n(scratch.sums, m * ld, T(0));
  const S* a = static_cast<const S*>(problem.a);
  const S* b = static_cast<const S*>(problem.b);
  for (std::int64_t first_k = 0; first_k < problem.k; first_k += host_slice_k) {
    const std::int64_t k = std::min(host_slice_k, problem.k - first_k);
    pack(a + batch * problem.batch_a + first_m * a_stride_m + first_k * a_stride_k, a_stride_m, a_stride_k, m, k, micro.rows,
         scratch.panel_a);
    pack(b + batch * problem.batch_b + first_n * b_stride_n + first_k * b_stride_k, b_stride_n, b_stride_k, n, k,
         micro.columns, scratch.panel_b);
    for (std::int64_t j = 0; j < n; j += micro.columns) {
      for (std::int64_t i = 0; i < m; i += micro.rows) {
        micro.run(k, scratch.panel_a + i * k, scratch.panel_b + j * k, scratch.sums + i * ld + j, ld, first_k > 0);
      }
    }
  }

  const T alpha = static_cast<T>(problem.alpha), beta = static_cast<T>(problem.beta);
  for (std::int64_t i = 0; i < m; ++i) {
    T* values = scratch.sums + i * ld;
    const std::int64_t row = first_m + i;
    for (std::int64_t j = 0; j < n; ++j) values[j] *= alpha;
    if (problem.c != nullptr && problem.beta != 0) {
      load(problem.c, problem.c_type, batch * problem.batch_c + row * problem.ldc + first_n, n, scratch.row);
      for (std::int64_t j = 0; j < n; ++j) values[j] += beta * scratch.row[j];
    }
    if (problem.bias != nullptr) {
      load(problem.bias, problem.bias_type, first_n, n, scratch.row);
      for (std::int64_t j = 0; j < n; ++j) values[j] += scratch.row[j];
    }
    if (problem.activation != Activation::none) {
      for (std::int64_t j = 0; j < n; ++j) values[j] = activate(problem.activation, values[j]);
    }
    store(problem.d, problem.d_type, batch * problem.batch_d + row * problem.ldd + first_n, n, values);
  }
}

template <typename S, typename T>
void run(const Kernel& kernel, const Problem& problem, const Launch& launch) {
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  const MicroKernel<T>& micro = micro_kernel<T>();

  // A thread costs some 20 us to start: let each have ten times that to do. An element of D counts like 32 products.
  constexpr double products_per_thread = 4e6;
  const double work = static_cast<double>(problem.m) * static_cast<double>(problem.n) * static_cast<double>(problem.batch) *
                      static_cast<double>(problem.k + 32);
  const int available = launch.sm_count > 0 ? launch.sm_count : hardware_threads();
  const int threads = static_cast<int>(std::max(1.0, std::min<double>(available, work / products_per_thread)));

  const Blocks blocks = choose_blocks(problem, threads, micro.rows, micro.columns);
  const std::int64_t slice = std::min(problem.k, host_slice_k);
  parallel_tasks(blocks.count(problem.batch), threads, [&](const std::function<std::int64_t()>& next) {
    const Scratch<T> scratch(blocks.m * slice, blocks.n * slice, blocks.m * blocks.n, blocks.n);
    for (std::int64_t task = next(); task >= 0; task = next()) {
      const std::int64_t across = task % blocks.across, down = task / blocks.across % blocks.down;
      const std::int64_t first_m = down * blocks.m, first_n = across * blocks.n;
      multiply_block<S, T>(problem, kernel.layout, micro, task / (blocks.across * blocks.down), first_m, first_n,
                           std::min(blocks.m, problem.m - first_m), std::min(blocks.n, problem.n - first_n), scratch);
    }
  });
}

// ---- the table ----

constexpr Kernel entry(DType operand, GemmLayout layout, void (*run)(const Kernel&, const Problem&, const Launch&)) {
  Kernel kernel{};  // what the host has no use for stays zero
  kernel.arch = Arch::host;
  kernel.backend = Backend::host;
  kernel.operand = operand;
  kernel.layout = layout;
  kernel.tile_m = static_cast<int>(block_m);
  kernel.tile_n = static_cast<int>(block_n);
  kernel.tile_k = static_cast<int>(host_slice_k);
  kernel.cluster_m = kernel.cluster_n = 1;
  kernel.blocks_by_registers = 1;
  kernel.schedule = "blocked";
  kernel.alignment = bits(operand) / 8;
  kernel.peak_fraction = 1.0;
  kernel.run = run;
  return kernel;
}

constexpr Kernel kernels[] = {
    entry(DType::f16, GemmLayout::rcr, run<Half, float>),      entry(DType::f16, GemmLayout::rrr, run<Half, float>),
    entry(DType::f16, GemmLayout::crr, run<Half, float>),      entry(DType::f16, GemmLayout::ccr, run<Half, float>),
    entry(DType::bf16, GemmLayout::rcr, run<BFloat16, float>), entry(DType::bf16, GemmLayout::rrr, run<BFloat16, float>),
    entry(DType::bf16, GemmLayout::crr, run<BFloat16, float>), entry(DType::bf16, GemmLayout::ccr, run<BFloat16, float>),
    entry(DType::f32, GemmLayout::rcr, run<float, float>),     entry(DType::f32, GemmLayout::rrr, run<float, float>),
    entry(DType::f32, GemmLayout::crr, run<float, float>),     entry(DType::f32, GemmLayout::ccr, run<float, float>),
    entry(DType::f64, GemmLayout::rcr, run<double, double>),   entry(DType::f64, GemmLayout::rrr, run<double, double>),
    entry(DType::f64, GemmLayout::crr, run<double, double>),   entry(DType::f64, GemmLayout::ccr, run<double, double>),
};

}  // namespace

const KernelTable gemm_host_kernels = {kernels, sizeof kernels / sizeof kernels[0]};

}  // namespace cutplan::gemm
