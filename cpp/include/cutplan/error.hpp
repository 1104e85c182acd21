// One exception type per cause, so that callers can tell them apart without reading text. Every message names the operand,
// what is required, what came, and the nearest thing that works.
#pragma once

#include <stdexcept>
#include <string>

#include "cutplan/export.hpp"

namespace cutplan {

enum class ErrorCode {
  invalid_problem,      // descriptor or scalar that no kernel could ever serve: negative extent, NaN alpha
  unsupported,          // a legal problem, but no kernel built in serves it, or a preference cannot be honoured
  missing_operand,      // an operand that the descriptor asks for is absent, or one that it does not know is present
  dtype_mismatch,       // operand's element type is not the descriptor's
  shape_mismatch,       // operand's rank or extents are not the descriptor's
  layout_mismatch,      // operand's strides are not of the descriptor's layout
  device_mismatch,      // operand lives on another device than the plan
  misaligned,           // operand's address or strides are less aligned than the kernel reads
  read_only,            // output operand may not be written
  overlap,              // output shares memory with an input, or with itself
  workspace_too_small,  // scratch is missing, short or misaligned
  device_error,         // the CUDA runtime reported a failure
};

class CUTPLAN_API Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <ErrorCode kCode>
class CUTPLAN_API ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(kCode, message) {}
};

using InvalidProblem = ErrorOf<ErrorCode::invalid_problem>;
using Unsupported = ErrorOf<ErrorCode::unsupported>;
using MissingOperand = ErrorOf<ErrorCode::missing_operand>;
using DTypeMismatch = ErrorOf<ErrorCode::dtype_mismatch>;
using ShapeMismatch = ErrorOf<ErrorCode::shape_mismatch>;
using LayoutMismatch = ErrorOf<ErrorCode::layout_mismatch>;
using DeviceMismatch = ErrorOf<ErrorCode::device_mismatch>;
using Misaligned = ErrorOf<ErrorCode::misaligned>;
using ReadOnly = ErrorOf<ErrorCode::read_only>;
using Overlap = ErrorOf<ErrorCode::overlap>;
using WorkspaceTooSmall = ErrorOf<ErrorCode::workspace_too_small>;
using DeviceError = ErrorOf<ErrorCode::device_error>;

}  // namespace cutplan
