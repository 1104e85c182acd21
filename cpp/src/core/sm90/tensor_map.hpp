// TMA descriptors: arrays in global memory, and the boxes in which they move to and from shared memory.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>

#include "core/cuda.hpp"
#include "cutplan/dtype.hpp"

namespace cutplan::sm90 {

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
    case DType::i32: return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case DType::i8:
    case DType::fp8_e4m3:
    case DType::fp8_e5m2: return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    default: throw std::logic_error(text("cutplan: internal error: no tensor map of ", name(type)));
  }
}

/// Whether the address and the strides, in elements, are multiples of 16 bytes, as TMA wants them.
template <int kStrides>
bool can_map(DType type, const void* data, const std::int64_t (&strides)[kStrides]) {
  auto all = reinterpret_cast<std::uintptr_t>(data);
  for (const std::int64_t stride : strides) all |= static_cast<std::uintptr_t>(stride * (bits(type) / 8));
  return all % 16 == 0;
}

/// An array of `extents`, the innermost first and contiguous, the others `strides` elements apart (0: the outermost is shared, extent 1),
/// moved in boxes whose innermost extent is 128 bytes, the widest swizzle. Without elements there is nothing to move, and no
/// map.
template <int kRank>
CUtensorMap encode_map(CUtensorMapDataType tma, DType type, const void* data, const std::int64_t (&extents)[kRank],
                       const std::int64_t (&strides)[kRank - 1], const int (&box_extents)[kRank - 1]) {
  const cuuint64_t element = bits(type) / 8;
  cuuint64_t dims[kRank], pitches[kRank - 1];
  cuuint32_t box[kRank], steps[kRank];
  for (int i = 0; i < kRank; ++i) {
    if (extents[i] == 0) return {};
    const bool shared = i == kRank - 1 && strides[i - 1] == 0;
    dims[i] = shared ? 1 : static_cast<cuuint64_t>(extents[i]);
    if (i > 0) pitches[i - 1] = shared ? 16 : static_cast<cuuint64_t>(strides[i - 1]) * element;
    box[i] = i == 0 ? static_cast<cuuint32_t>(128 / element) : static_cast<cuuint32_t>(box_extents[i - 1]);
    steps[i] = 1;
  }
  CUtensorMap map;
  const CUresult status =
      encode_tiled()(&map, tma, kRank, const_cast<void*>(data), dims, pitches, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                     CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status == CUDA_SUCCESS) return map;
  std::string array = text(extents[0]);
  for (int i = 1; i < kRank; ++i) array += text(" x ", extents[i], " (", strides[i - 1], " apart)");
  throw DeviceError(
      text("cuTensorMapEncodeTiled refused (CUresult ", static_cast<int>(status), ") an array of ", array, " elements"));
}

/// The same, from what this thread has encoded of late: programs run on the same tensors over and over, and the driver takes
/// longer to encode a map than all else takes that is done for an operand.
template <int kRank>
const CUtensorMap& tensor_map(CUtensorMapDataType tma, DType type, const void* data, const std::int64_t (&extents)[kRank],
                              const std::int64_t (&strides)[kRank - 1], const int (&box_extents)[kRank - 1]) {
  constexpr int kKeptBits = 5;
  struct Kept {
    std::array<std::int64_t, 3 * kRank + 1> key;
    CUtensorMap map;
  };
  thread_local Kept kept[1 << kKeptBits] = {};  // no map has a key of zeros: its boxes are of an element at least
  std::array<std::int64_t, 3 * kRank + 1> key;
  auto* to = key.data();
  *to++ = static_cast<std::int64_t>(reinterpret_cast<std::intptr_t>(data));
  *to++ = tma;
  to = std::copy(std::begin(extents), std::end(extents), to);
  to = std::copy(std::begin(strides), std::end(strides), to);
  *std::copy(std::begin(box_extents), std::end(box_extents), to) = static_cast<std::int64_t>(type);
  const std::uint64_t hash = reinterpret_cast<std::uintptr_t>(data) * 0x9E3779B97F4A7C15u;  // addresses share low bits
  Kept& slot = kept[hash >> (64 - kKeptBits)];
  if (slot.key != key) slot = {key, encode_map(tma, type, data, extents, strides, box_extents)};
  return slot.map;
}

}  // namespace cutplan::sm90
