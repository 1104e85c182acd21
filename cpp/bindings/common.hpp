// What the binding files share: conversions from the many ways in which Python spells a dtype, a device or an option.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "cutplan/cutplan.hpp"

namespace cutplan::bindings {

namespace nb = nanobind;

void bind_errors(nb::module_& m);
void bind_common(nb::module_& m);
void bind_gemm(nb::module_& m);
void bind_fmha(nb::module_& m);
void bind_attention_ops(nb::module_& m);
void bind_quantize(nb::module_& m);
void bind_weights(nb::module_& m);
void bind_tuning(nb::module_& m);

/// Warns of what is wrong with the files of measured kernels, once each; costs an atomic load where nothing is.
void warn_tuning_problems();

/// Raises the class of an error.
[[noreturn]] void raise_error(ErrorCode code, const std::string& message);

/// Raises cutplan.ExportRefused. With a Python error pending, that error becomes the cause.
[[noreturn]] void raise_export_refused(const std::string& message);
nb::handle export_refused_type() noexcept;

/// The element type that a string or any library's dtype object names; nothing where it names none that cutplan knows.
std::optional<DType> find_dtype(nb::handle object);
/// Raises TypeError naming `argument` where find_dtype() finds nothing.
DType to_dtype(nb::handle object, const char* argument);

/// "cpu", "cuda", "cuda:1", a DLPack (type, id) pair, or a tensor.
Device to_device(nb::handle object);
/// DLPack's device pair in cutplan's terms; the DeviceMismatch for memory that no plan reads begins with `what`.
Device to_device(std::int32_t dlpack_type, std::int32_t id, const std::string& what);
std::string to_string(Device device);
/// The same as Python has it, made once for each device.
nb::object to_python(Device device);

/// None: the default.
PlanPreference to_preference(nb::handle object);

/// Scratch may be any contiguous tensor: it is read as bytes. Its size and alignment are the plan's to judge.
Workspace to_workspace(const TensorView& view, Device device);

/// Over the fields of a descriptor: one multiplication for each, for every call of matmul() hashes one.
class Hash {
 public:
  template <typename T, typename = std::enable_if_t<std::is_integral_v<T> || std::is_enum_v<T>>>
  Hash& operator<<(T field) {
    state_ = (state_ ^ static_cast<std::uint64_t>(static_cast<std::int64_t>(field))) * 0x9e3779b97f4a7c15u;
    state_ ^= state_ >> 32;  // the product's high bits are its good ones
    return *this;
  }
  Py_hash_t value() const { return static_cast<Py_hash_t>(state_ >> 1); }

 private:
  std::uint64_t state_ = 0;
};

/// Text that lives as long as the process: nanobind keeps pointers to signatures.
const char* keep(std::string text);

}  // namespace cutplan::bindings
