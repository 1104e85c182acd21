// The peer of the mma.sync design: GEMM as CUTLASS's own 2.x device templates make it, float16, A row-major, B column-major.
// Compiled by benchmarks/mma_sync.py against the CUTLASS headers of a build.
#include <cutlass/epilogue/thread/linear_combination.h>
#include <cutlass/gemm/device/gemm.h>

namespace {

using Half = cutlass::half_t;

template <int kTileM, int kTileN, int kTileK, int kStages>
int multiply(int m, int n, int k, const void* a, const void* b, void* d, cudaStream_t stream) {
  using Gemm = cutlass::gemm::device::Gemm<
      Half, cutlass::layout::RowMajor, Half, cutlass::layout::ColumnMajor, Half, cutlass::layout::RowMajor, float,
      cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80, cutlass::gemm::GemmShape<kTileM, kTileN, kTileK>,
      cutlass::gemm::GemmShape<64, 64, kTileK>, cutlass::gemm::GemmShape<16, 8, 16>,
      cutlass::epilogue::thread::LinearCombination<Half, 8, float, float>,
      cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<8>, kStages>;
  const typename Gemm::Arguments arguments({m, n, k}, {static_cast<const Half*>(a), k}, {static_cast<const Half*>(b), k},
                                           {static_cast<Half*>(d), n}, {static_cast<Half*>(d), n}, {1.0f, 0.0f});
  return static_cast<int>(Gemm()(arguments, nullptr, stream));
}

}  // namespace

extern "C" int multiply_128x256x32_s3(int m, int n, int k, const void* a, const void* b, void* d, void* stream) {
  return multiply<128, 256, 32, 3>(m, n, k, a, b, d, static_cast<cudaStream_t>(stream));
}

extern "C" int multiply_256x128x64_s3(int m, int n, int k, const void* a, const void* b, void* d, void* stream) {
  return multiply<256, 128, 64, 3>(m, n, k, a, b, d, static_cast<cudaStream_t>(stream));
}
