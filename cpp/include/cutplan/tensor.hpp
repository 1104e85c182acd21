// A borrowed, strided view of somebody else's memory: what every plan takes as an operand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <utility>

#include "cutplan/dtype.hpp"
#include "cutplan/export.hpp"

namespace cutplan {

enum class DeviceType : std::uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int id = 0;

  friend constexpr bool operator==(Device a, Device b) noexcept { return a.type == b.type && a.id == b.id; }
  friend constexpr bool operator!=(Device a, Device b) noexcept { return !(a == b); }
};

inline constexpr int max_rank = 8;

/// Extents or strides as a call takes them: {m, n}, or a container such as std::vector<std::int64_t>.
class Extents {
 public:
  Extents(std::initializer_list<std::int64_t> values) noexcept : Extents(values.begin(), values.size()) {}
  template <typename Container, typename = std::enable_if_t<std::is_convertible_v<
                                    decltype(std::declval<const Container&>().data()), const std::int64_t*>>>
  Extents(const Container& container) noexcept : Extents(container.data(), container.size()) {}
  Extents(const std::int64_t* values, std::size_t size) noexcept : size_(size) {
    for (std::size_t i = 0; i < size && i < max_rank; ++i) values_[i] = values[i];
  }

  /// As many as were given; those beyond max_rank are not kept.
  std::size_t size() const noexcept { return size_; }
  std::int64_t operator[](int dimension) const noexcept { return values_[dimension]; }

 private:
  std::size_t size_;
  std::int64_t values_[max_rank] = {};
};

/// Owns nothing. `shape` and `strides` hold `rank` valid entries; strides count elements and may be zero (broadcast).
///
/// The functions that make one throw InvalidProblem for more than max_rank dimensions, for a negative extent, and where
/// extents and strides differ in number. Memory behind a const pointer becomes a read-only view.
struct CUTPLAN_API TensorView {
  void* data = nullptr;  // address of element [0, ..., 0]
  DType dtype = DType::none;
  bool read_only = false;
  Device device;
  int rank = 0;
  std::int64_t shape[max_rank];
  std::int64_t strides[max_rank];

  /// An operand that was not given has dtype none.
  constexpr bool present() const noexcept { return dtype != DType::none; }

  /// Contiguous, the last dimension innermost.
  static TensorView row_major(void* data, DType dtype, const Extents& shape, Device device = {});
  static TensorView row_major(const void* data, DType dtype, const Extents& shape, Device device = {});

  /// Contiguous matrices, one after the other where there are more than two dimensions, each column by column.
  static TensorView column_major(void* data, DType dtype, const Extents& shape, Device device = {});
  static TensorView column_major(const void* data, DType dtype, const Extents& shape, Device device = {});

  /// As `strides` say, in elements.
  static TensorView strided(void* data, DType dtype, const Extents& shape, const Extents& strides, Device device = {});
  static TensorView strided(const void* data, DType dtype, const Extents& shape, const Extents& strides, Device device = {});

  /// The same view of memory that begins `bytes` further on, as DLPack's byte_offset tells it.
  TensorView advanced(std::int64_t bytes) const noexcept;
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
