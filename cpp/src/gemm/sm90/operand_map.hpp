// TMA descriptors of a GEMM's matrices, one or a batch of them.
#pragma once

#include "core/sm90/tensor_map.hpp"

namespace cutplan::gemm::sm90 {

/// `runs` contiguous runs of `run_length` elements, `ld` apart, in `batch` copies `batch_stride` apart (0: shared), in boxes of
/// `box_runs` runs.
inline CUtensorMap matrix_map(CUtensorMapDataType tma, DType type, const void* data, std::int64_t run_length,
                              std::int64_t runs, std::int64_t ld, std::int64_t batch, std::int64_t batch_stride,
                              int box_runs) {
  return cutplan::sm90::tensor_map<3>(tma, type, data, {run_length, runs, batch}, {ld, batch_stride}, {box_runs, 1});
}

/// An operand's map. float32 is rounded to TF32 on its way.
inline CUtensorMap operand_map(DType type, const void* data, std::int64_t run_length, std::int64_t runs, std::int64_t ld,
                               std::int64_t batch, std::int64_t batch_stride, int box_runs) {
  return matrix_map(type == DType::f32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : cutplan::sm90::tma_type(type), type, data,
                    run_length, runs, ld, batch, batch_stride, box_runs);
}

}  // namespace cutplan::gemm::sm90
