// What the binding files share: conversions from the many ways in which Python spells a dtype, a device or an option.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>

#include "cutplan/cutplan.hpp"

namespace cutplan::bindings {

namespace nb = nanobind;

void bind_errors(nb::module_& m);
void bind_common(nb::module_& m);
void bind_gemm(nb::module_& m);

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

/// A member of an option enum, or its name. Raises ValueError listing the names.
GemmLayout to_layout(nb::handle object);
Activation to_activation(nb::handle object);
Arch to_arch(nb::handle object);

/// None for the absent type.
inline std::optional<DType> optional(DType dtype) { return dtype == DType::none ? std::nullopt : std::optional(dtype); }

}  // namespace cutplan::bindings
