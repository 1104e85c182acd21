// What the calls behind the functional face share: the caller's preference and names, and memory for results and scratch, from
// the exchange API of the operands' library or by its own functions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "common.hpp"
#include "core/operands.hpp"
#include "dlpack.hpp"
#include "fields.hpp"
#include "gil.hpp"

namespace cutplan::bindings {

template <>
inline constexpr auto fields<PlanPreference> =
    std::make_tuple(field("max_workspace_bytes", &PlanPreference::max_workspace_bytes,
                          "Most scratch that the plan may ask for; None: any amount."),
                    field("deterministic", &PlanPreference::deterministic, "Same inputs, same device: the same bits."),
                    field("batch_invariant", &PlanPreference::batch_invariant,
                          "A row's bits do not depend on how many rows or batches are computed with it."),
                    field("arch", &PlanPreference::arch, "Only kernels of this architecture; None: any."),
                    field("kernel", &PlanPreference::kernel, "Only the kernel of this SKU name; None: any."),
                    field("sm_count", &PlanPreference::sm_count, "Use at most this many SMs (threads on the host); 0: all."),
                    field("math", &PlanPreference::math, "Least accuracy of products of float32 operands."),
                    field("tune", &PlanPreference::tune, "Whether measured times choose the kernel."));

void settle(PlanPreference& preference, const Keywords& given);

struct FunctionPreference {
  nb::handle math, deterministic, preference;
};

/// The caller's preference, or the one that `math` and `deterministic` make.
PlanPreference to_preference(const FunctionPreference& given);

/// After a function has chosen a plan: logs it, and counts.
void note_chosen(nb::handle plan);
std::uint64_t chosen_plans() noexcept;

/// What the caller of a function calls its operands.
class Names {
 public:
  template <typename Table>
  Names(const Table& table, std::size_t result, const char* result_called, nb::handle given) {
    std::size_t i = 0;
    for (const auto& operand : table) {
      names_[i] = own_[i] = operand.name;
      ++i;
    }
    count_ = i;
    if (given.is_none()) {
      names_[result] = result_called;
    } else {
      rename(given);
    }
  }

  const char* operator[](std::size_t operand) const { return names_[operand]; }
  void set(std::size_t operand, const char* name) { names_[operand] = name; }

  /// An error about an operand, by the caller's name of it.
  [[noreturn]] void raise(const Error& error) const;

 private:
  void rename(nb::handle given);

  std::size_t count_;
  const char* names_[most_operands];
  const char* own_[most_operands];
};

/// With the GIL released; what there is to say of the files of measurements is said after.
template <typename Measure>
std::vector<KernelMeasurement> measured(const Measure& measure) {
  std::vector<KernelMeasurement> all;
  {
    const GilRelease release;
    all = measure();
  }
  warn_tuning_problems();
  return all;
}

TuningProgress to_progress(nb::object callback);

/// Whether a Lender can make memory beside this tensor.
bool can_allocate(nb::handle tensor, Device device);

/// Scratch for one call: its library may reuse the memory as soon as run() returns, in the order of the stream.
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(void* managed);  // a DLManagedTensorVersioned; is given back
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  Workspace workspace() const { return workspace_; }

 private:
  Loan managed_{nullptr, true};
  Workspace workspace_;
};

/// The tensor whose library makes the memory of a call.
class Lender {
 public:
  /// `like`: whose framework results are of. Both must outlive the lender.
  Lender(nb::handle tensor, nb::handle like, const TensorView& like_view);

  bool allocates() const { return allocates_; }
  bool is_direct() const { return api_ != nullptr; }

  /// A fresh contiguous tensor; fills `view` where the exchange API makes it, which is where `stream` is None.
  nb::object make(const std::int64_t* shape, int rank, DType dtype, nb::handle stream, TensorView& view) const;
  /// As the caller's framework has it.
  nb::object finish(const nb::object& made) const;

  Scratch scratch(std::size_t bytes) const;
  nb::object scratch_object(std::size_t bytes, nb::handle stream) const;  // None for none

 private:
  nb::handle tensor_, like_;
  const TensorView& like_view_;
  Framework framework_;
  bool allocates_;
  const ExchangeApi* api_;
};

}  // namespace cutplan::bindings
