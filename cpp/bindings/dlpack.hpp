// Operands from Python: any object that speaks DLPack becomes a TensorView, without a copy, and what the producer lent is
// given back when the call is over.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

#include "cutplan/tensor.hpp"
#include "loans.hpp"

struct DLPackExchangeAPI;

namespace cutplan::bindings {

namespace nb = nanobind;

/// Libraries whose export needs rules of its own.
enum class Framework : std::uint8_t { other, torch, numpy, cupy, jax };

const char* name(Framework framework) noexcept;
/// The name as Python has it, made once for each: it is compared on the way of every call.
nb::object to_python(Framework framework);

/// The library that a tensor's type comes from; found once per type. A TensorViewObject answers for what it wraps.
Framework framework_of(nb::handle object);

/// Whether it is a TensorInfo, or a view of one.
bool stands_in(nb::handle object);

/// A tensor, no view itself, seen with another element type, or other extents and strides. Made by as_dtype() for types that
/// the producer cannot name, and by matmul() to lay batches out.
struct TensorViewObject {
  nb::object tensor;
  DType dtype = DType::none;  // none: the tensor's own
  int rank = -1;              // -1: the tensor's own shape and strides
  std::int64_t offset = 0;    // elements from the tensor's first
  std::int64_t shape[max_rank] = {};
  std::int64_t strides[max_rank] = {};
};

/// What an import found, for Python code that arranges operands. It can stand for the tensor where none is computed with:
/// describe() and its like then need not ask the tensor's library again.
struct TensorInfo {
  TensorView view;
  Framework framework;
};

/// An attribute; None where there is none. What else goes wrong in looking for it is raised.
nb::object find_attribute(nb::handle object, const char* attribute);

/// Tells torch that these tensors, where they are its own, have been written: one that autograd has saved for a backward pass
/// is then refused there. None is skipped.
void mark_written(const nb::handle* outputs, int count);

/// A type's table of C functions, where it has one that also allocates.
using ExchangeApi = DLPackExchangeAPI;
const ExchangeApi* exchange_api_of(nb::handle tensor);

/// A fresh contiguous tensor of the table's library, its memory ordered with the library's current stream.
void* allocate_managed(const ExchangeApi& api, const std::int64_t* shape, int rank, DType dtype, Device device);
nb::object allocate(const ExchangeApi& api, const std::int64_t* shape, int rank, DType dtype, Device device,
                    TensorView& view);
TensorView view_of_managed(const void* managed);

/// Imports the operands of one call. Must be destroyed with the GIL held.
class Importer {
 public:
  /// For inspection: nothing is ordered with any stream.
  Importer() = default;

  /// For a call on `device`. `stream` is what the caller passed: an integer or an object with `__cuda_stream__`, before
  /// whose next work the caller has ordered its operands; or None, which takes the current stream of `first`'s producer and
  /// has every other producer order its operands before it.
  Importer(Device device, nb::handle stream, nb::handle first, const char* first_name);

  Importer(const Importer&) = delete;
  Importer& operator=(const Importer&) = delete;
  ~Importer();

  /// Fills `view`; None leaves it absent. `name` is the operand's name in errors.
  void import(nb::handle object, const char* name, TensorView& view);

  /// Whether all that was imported came borrowed, through one library's exchange API: it is in order on that library's current
  /// stream, and nothing has to be given back.
  bool is_direct() const noexcept { return borrowed_ && api_ != nullptr; }
  /// Of that library; null on the host.
  void* current_stream(Device device) const;

  /// Whether a producer that may have run Python code came after torch: where that code has resized a storage, which even a
  /// loan does not prevent, what torch has shown is gone, and its operands have to be imported again.
  bool is_stale() const noexcept { return stale_; }

  /// The CUDA stream of this call.
  void* stream() const noexcept { return stream_; }

  /// After the work of this call is on its stream. What is lent by a library that does not order its memory by this stream
  /// stays lent until the device has passed that work; everything else is given back with the importer. In a capture there
  /// is no such point, and whoever replays the graph keeps its operands.
  void enqueued(Device device);

 private:
  enum class Order : std::uint8_t { unordered, host, on_stream };
  enum class Tangents : std::uint8_t { not_asked, none, possible };
  // An attention backward: 9 operands, 8 of options, 3 more gradients, workspace; each may be imported twice.
  static constexpr int max_loans = 42;

  void import_capsule(nb::handle object, Framework framework, const char* name, DType dtype, TensorView& view);
  nb::object export_capsule(nb::handle object, Framework framework, const char* name);
  void import_view(const TensorViewObject& object, const char* name, TensorView& view);
  void import_as(nb::handle object, const char* name, DType dtype, TensorView& view);
  bool outlasts_call(Framework framework) const noexcept;
  void lend(void* managed, bool versioned, bool kept);
  bool check_torch(nb::handle object, const char* name);

  Order order_ = Order::unordered;
  bool explicit_stream_ = false;
  Tangents tangents_ = Tangents::not_asked;
  int loan_count_ = 0;
  std::uint64_t kept_ = 0;                         // loans, one bit each, that outlast the call
  Framework stream_framework_ = Framework::other;  // whose current stream this is
  void* stream_ = nullptr;
  bool borrowed_ = true;  // all so far
  bool torch_seen_ = false, stale_ = false;
  const ExchangeApi* api_ = nullptr;  // of what was borrowed
  const void* stream_api_ = nullptr;  // exchange API of the producer whose current stream this is
  Loan loans_[max_loans];
};

}  // namespace cutplan::bindings
