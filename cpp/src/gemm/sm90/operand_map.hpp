// TMA descriptors of a GEMM's matrices, one or a batch of them.
#pragma once

#include "core/sm90/tensor_map.hpp"
#include "gemm/kernel.hpp"

namespace cutplan::gemm::sm90 {

/// `runs` contiguous runs of `run_length` elements in `batch` copies, in boxes of `box_runs` runs.
inline CUtensorMap matrix_map(CUtensorMapDataType tma, const Matrix& x, std::int64_t run_length, std::int64_t runs,
                              std::int64_t batch, int box_runs) {
  return cutplan::sm90::tensor_map<3>(tma, x.type, x.data, {run_length, runs, batch}, {x.ld, x.batch_stride}, {box_runs, 1});
}

/// An operand's map. float32 is rounded to TF32 on its way.
inline CUtensorMap operand_map(const Matrix& x, std::int64_t run_length, std::int64_t runs, std::int64_t batch,
                               int box_runs) {
  return matrix_map(x.type == DType::f32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : cutplan::sm90::tma_type(x.type), x, run_length,
                    runs, batch, box_runs);
}

}  // namespace cutplan::gemm::sm90
