// A borrowed, strided view of somebody else's memory: what every plan takes as an operand.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cutplan/dtype.hpp"

namespace cutplan {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int id = 0;

  friend constexpr bool operator==(Device a, Device b) noexcept { return a.type == b.type && a.id == b.id; }
  friend constexpr bool operator!=(Device a, Device b) noexcept { return !(a == b); }
};

inline constexpr int max_rank = 8;

/// Owns nothing. `shape` and `strides` hold `rank` valid entries; strides count elements and may be zero (broadcast).
struct TensorView {
  void* data = nullptr;  // address of element [0, ..., 0]
  DType dtype = DType::none;
  bool read_only = false;
  Device device;
  int rank = 0;
  std::int64_t shape[max_rank];
  std::int64_t strides[max_rank];

  /// An operand that was not given has dtype none.
  constexpr bool present() const noexcept { return dtype != DType::none; }
};

/// A CUDA stream (`cudaStream_t`) without CUDA's headers. nullptr is CUDA's legacy default stream.
using Stream = void*;

/// Scratch memory on the operands' device, 256-byte aligned. Plans never allocate their own.
struct Workspace {
  void* data = nullptr;
  std::size_t bytes = 0;
};

inline constexpr std::size_t workspace_alignment = 256;

}  // namespace cutplan
