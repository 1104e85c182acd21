// TMA descriptors for the matrices of a GEMM: one or a batch of them, moved in boxes of 128 contiguous bytes (the widest
// swizzle) by `box_runs` runs.
#pragma once

#include <cuda.h>

#include <stdexcept>

#include "core/cuda.hpp"

namespace cutplan::gemm::sm90 {

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                                 const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/// The driver's encoder, found through the runtime so that nothing links against the driver.
inline EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* address = nullptr;
    cudaDriverEntryPointQueryResult found;
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &address, 12000, cudaEnableDefault, &found),
               "cudaGetDriverEntryPointByVersion");
    if (found != cudaDriverEntryPointSuccess)
      throw DeviceError("the CUDA driver has no cuTensorMapEncodeTiled; driver 525 or newer required");
    return reinterpret_cast<EncodeTiled>(address);
  }();
  return function;
}

inline CUtensorMapDataType tma_type(DType type) {
  switch (type) {
    case DType::f16: return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case DType::bf16: return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case DType::f32: return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    default: throw std::logic_error(text("cutplan: internal error: no tensor map of ", name(type)));
  }
}

/// Whether the address and the steps are multiples of 16 bytes, as TMA wants them.
inline bool can_map(DType type, const void* data, std::int64_t ld, std::int64_t batch_stride) {
  const std::int64_t element = bits(type) / 8;
  return (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(ld * element) |
          static_cast<std::uintptr_t>(batch_stride * element)) %
             16 ==
         0;
}

/// `runs` contiguous runs of `run_length` elements, `ld` apart, in `batch` copies `batch_stride` apart (0: shared). Without
/// elements there is nothing to move, and no map.
inline CUtensorMap tensor_map(CUtensorMapDataType tma, DType type, const void* data, std::int64_t run_length,
                              std::int64_t runs, std::int64_t ld, std::int64_t batch, std::int64_t batch_stride,
                              int box_runs) {
  if (run_length == 0 || runs == 0) return {};
  const bool shared = batch_stride == 0;
  const cuuint64_t element = bits(type) / 8;
  const cuuint64_t dims[3] = {static_cast<cuuint64_t>(run_length), static_cast<cuuint64_t>(runs),
                              static_cast<cuuint64_t>(shared ? 1 : batch)};
  const cuuint64_t pitches[2] = {static_cast<cuuint64_t>(ld) * element,
                                 shared ? 16 : static_cast<cuuint64_t>(batch_stride) * element};
  const cuuint32_t box[3] = {static_cast<cuuint32_t>(128 / element), static_cast<cuuint32_t>(box_runs), 1};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map;
  const CUresult status =
      encode_tiled()(&map, tma, 3, const_cast<void*>(data), dims, pitches, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    throw DeviceError(text("cuTensorMapEncodeTiled refused (CUresult ", static_cast<int>(status), ") a matrix of ", runs,
                           " runs of ", run_length, " elements, ", ld, " apart, batch ", batch, ", ", batch_stride,
                           " apart"));
  }
  return map;
}

/// An operand's map. float32 is rounded to TF32 on its way.
inline CUtensorMap operand_map(DType type, const void* data, std::int64_t run_length, std::int64_t runs, std::int64_t ld,
                               std::int64_t batch, std::int64_t batch_stride, int box_runs) {
  return tensor_map(type == DType::f32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : tma_type(type), type, data, run_length, runs, ld,
                    batch, batch_stride, box_runs);
}

}  // namespace cutplan::gemm::sm90
