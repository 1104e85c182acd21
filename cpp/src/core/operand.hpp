// What every family checks of an operand, and the words in which it refuses one. The checks are inline and cheap; only what
// throws builds strings.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/fixed_vector.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

/// "float16 [2, 3] with strides 3, 1"
std::string describe(const TensorView& view);

[[noreturn]] void refuse_missing(const char* operand);
[[noreturn]] void refuse_rank(const char* operand, const TensorView& view);
[[noreturn]] void refuse_element_type(const char* operand, DType expected, const TensorView& view);
[[noreturn]] void refuse_fixed_type(const char* operand, DType required, const TensorView& view);
[[noreturn]] void refuse_device(const char* operand, Device expected, const TensorView& view);
[[noreturn]] void refuse_address(const char* operand, const TensorView& view);
[[noreturn]] void refuse_null(const char* operand, const TensorView& view);
[[noreturn]] void refuse_read_only(const char* operand, const TensorView& view);
[[noreturn]] void refuse_workspace(const Workspace& workspace, std::size_t needed);

/// Before anything else is read of an operand: whether it is there, and its extents and strides are all within the view.
inline void check_given(const char* operand, const TensorView& view) {
  if (!view.present()) refuse_missing(operand);
  if (static_cast<unsigned>(view.rank) > max_rank) refuse_rank(operand, view);  // also a negative one
}

inline void check_element_type(const char* operand, DType expected, const TensorView& view) {
  if (view.dtype != expected) refuse_element_type(operand, expected, view);
}

/// For an operand that has one type in every plan.
inline void check_fixed_type(const char* operand, DType required, const TensorView& view) {
  if (view.dtype != required) refuse_fixed_type(operand, required, view);
}

inline void check_device(const char* operand, Device expected, const TensorView& view) {
  if (view.device != expected) refuse_device(operand, expected, view);
}

/// Elements are read whole: on a CUDA device an address within one is a fault that ends the context. Strides count elements,
/// so that the others begin where elements may, if the first does.
inline void check_address(const char* operand, const TensorView& view) {
  const auto element = static_cast<std::uintptr_t>(std::max(bits(view.dtype), 8) / 8);  // a power of two
  if ((reinterpret_cast<std::uintptr_t>(view.data) & (element - 1)) != 0) refuse_address(operand, view);
}

inline void check_writable(const char* operand, const TensorView& view) {
  if (view.read_only) refuse_read_only(operand, view);
}

inline void check_workspace(const Workspace& workspace, std::size_t needed) {
  if (needed == 0) return;
  if (workspace.data == nullptr || workspace.bytes < needed ||
      reinterpret_cast<std::uintptr_t>(workspace.data) % workspace_alignment != 0) {
    refuse_workspace(workspace, needed);
  }
}

/// The memory of a strided operand: runs of `run` adjacent bytes, repeated by each step.
struct Footprint {
  struct Step {
    std::int64_t count, bytes;
  };

  std::uintptr_t begin = 0;
  std::int64_t run = 0;
  std::int64_t reach = 0;  // from the first run to the last
  FixedVector<Step, 4> steps;

  /// Dimensions that are not stepped through need not be told; neither do those of extent 1.
  void repeat(std::int64_t extent, std::int64_t bytes_apart) {
    if (extent <= 1) return;
    steps.add() = {extent, bytes_apart};
    reach += (extent - 1) * bytes_apart;
  }

  std::uintptr_t end() const { return begin + static_cast<std::uintptr_t>(reach + run); }
};

/// Whether two operands may share memory. Slices of one buffer that interleave (the columns of a matrix; Q, K and V of one
/// projection) are told apart where their steps allow it.
bool overlap(const Footprint& x, const Footprint& y);

/// Throws Overlap unless every element of an output has memory of its own.
void check_elements_apart(const char* operand, const Footprint& output, const TensorView& view);

/// Throws Overlap where an output shares memory with another operand. `advice` ends the message.
void check_apart(const char* output, const Footprint& written, const char* other, const Footprint& touched,
                 const char* advice);

}  // namespace cutplan
