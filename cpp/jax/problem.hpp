// One call, as its text describes it: which operand each buffer is and how it lies there, scalars, options and preference. The
// text is made of words, name=value, with a semicolon between two:
//
//   a=float32:64,32:32,1    the next buffer is operand a, of this type, these extents and these strides in elements
//   -=                      the next buffer is none that the plan is told of: an input whose memory an output has
//   workspace=              the next buffer is scratch
//   loops=1                 that many leading dimensions of every operand count runs of the plan
//   activation=silu         anything else: see faces.hpp
//
// Buffers come in XLA's order, arguments before results.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "faces.hpp"
#include "values.hpp"

namespace cutplan::jax {

struct Buffer {
  void* data;
  std::size_t bytes;
};

template <typename P>
struct PlanTypes;
template <typename D, typename A>
struct PlanTypes<Plan<D, A>> {
  using Arguments = A;
};

template <typename P>
class Problem {
  using F = Face<P>;
  using Arguments = typename PlanTypes<P>::Arguments;

 public:
  /// Chooses a plan. Throws where no kernel serves the problem, or not with these operands.
  Problem(std::string_view text, Device device) : device_(device) {
    typename F::Options options;
    PlanPreference preference;
    while (!text.empty()) {
      std::string_view value = jax::next(text, ';');
      const std::string_view word = jax::next(value, '=');
      if (word == "loops") {
        parse(value, loops_);
      } else if (word == "-" || word == "workspace") {
        buffers_.emplace_back().is_workspace = word != "-";
      } else if (!add_operand(word, value) && !set(F::scalars, arguments_, word, value) &&
                 !set(F::options, options, word, value) && !set(preference_settings, preference, word, value)) {
        refuse_text("operand or option", word);
      }
    }
    settle_loops();
    place_anywhere();
    plan_ = P::select(cutplan::describe(arguments_, options), device, preference);
    check_operands();
  }

  const P& plan() const { return *plan_; }

  void run(const std::vector<Buffer>& given, Stream stream) const {
    if (given.size() != buffers_.size()) refuse_text("call with that number of buffers", std::to_string(given.size()));
    Arguments arguments = arguments_;
    Workspace workspace;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const Slot& slot = buffers_[i];
      if (given[i].bytes < slot.bytes)
        refuse_text("buffer that holds the operand", slot.member != nullptr ? F::operands[slot.operand].name : "");
      if (slot.member != nullptr) {
        (arguments.*slot.member).data = given[i].data;
      } else if (slot.is_workspace) {
        // XLA's buffers are less aligned than scratch has to be.
        const std::size_t skipped = (0 - reinterpret_cast<std::uintptr_t>(given[i].data)) % workspace_alignment;
        workspace = {static_cast<char*>(given[i].data) + skipped, given[i].bytes - std::min(given[i].bytes, skipped)};
      }
    }
    run_from(0, arguments, stream, workspace);
  }

 private:
  struct Slot {
    TensorView Arguments::* member = nullptr;  // null: no operand
    std::size_t operand = 0;
    std::size_t bytes = 0;                            // from the first element to the last
    std::int64_t extents[max_rank], steps[max_rank];  // of the loops; steps in bytes
    bool is_workspace = false;
  };

  bool add_operand(std::string_view word, std::string_view value) {
    for (std::size_t i = 0; i < std::size(F::operands); ++i) {
      if (word != F::operands[i].name) continue;
      Slot& slot = buffers_.emplace_back();
      slot.member = F::operands[i].member;
      slot.operand = i;
      TensorView& view = arguments_.*slot.member;
      view.device = device_;
      parse(jax::next(value, ':'), view.dtype);
      view.rank = parse(jax::next(value, ':'), view.shape);
      if (parse(value, view.strides) != view.rank) refuse_text("strides, one for each extent", value);
      std::int64_t last = 0;
      bool has_elements = true;
      for (int d = 0; d < view.rank; ++d) {
        if (view.shape[d] < 0 || view.strides[d] < 0) refuse_text("extent or stride of at least 0", word);
        has_elements = has_elements && view.shape[d] > 0;
        last += (view.shape[d] - 1) * view.strides[d];
      }
      if (has_elements) slot.bytes = static_cast<std::size_t>((last + 1) * bits(view.dtype) / 8);
      return true;
    }
    return false;
  }

  template <typename Settings, typename Object>
  static bool set(const Settings& settings, Object& object, std::string_view word, std::string_view value) {
    return std::apply(
        [&](const auto&... setting) { return ((word == setting.name && (parse(value, setting.at(object)), true)) || ...); },
        settings);
  }

  /// Takes the loops' dimensions off the operands: what is left is what one run sees.
  void settle_loops() {
    for (Slot& slot : buffers_) {
      if (slot.member == nullptr) continue;
      TensorView& view = arguments_.*slot.member;
      if (loops_ < 0 || loops_ > view.rank)
        refuse_text("operand with the dimensions of loops", F::operands[slot.operand].name);
      for (int d = 0; d < loops_; ++d) {
        slot.extents[d] = view.shape[d];
        slot.steps[d] = view.strides[d] * bits(view.dtype) / 8;
      }
      view.rank -= loops_;
      std::copy_n(view.shape + loops_, view.rank, view.shape);
      std::copy_n(view.strides + loops_, view.rank, view.strides);
    }
  }

  /// Addresses for what looks at operands before there are any: far apart, and as aligned as every run's are, XLA's buffers
  /// being aligned to 16 bytes at least.
  void place_anywhere() {
    std::uintptr_t place = 0;
    for (const Slot& slot : buffers_) {
      if (slot.member == nullptr) continue;
      std::uintptr_t offset = 0;
      for (int d = 0; d < loops_; ++d) {
        if (slot.extents[d] > 1) offset |= static_cast<std::uintptr_t>(slot.steps[d]);
      }
      place += std::uintptr_t{1} << 48;
      (arguments_.*slot.member).data = reinterpret_cast<void*>(place + offset % workspace_alignment);
    }
  }

  /// The host backend looks into lengths and offsets, which are not there yet: then scalars are checked by run() alone.
  void check_operands() const {
    Operands operands = plan_->operands();
    operands.caller = Caller::function;
    Places places;
    check(operands, F::operands, arguments_, places);
    const bool looks_inside =
        device_.type == DeviceType::cpu && std::any_of(buffers_.begin(), buffers_.end(), [&](const Slot& s) {
          const DType t = s.member != nullptr ? (arguments_.*s.member).dtype : DType::none;
          return t == DType::i32 || t == DType::i64;
        });
    if (!looks_inside) plan_->can_implement(arguments_);
  }

  void run_from(int loop, Arguments& arguments, Stream stream, Workspace workspace) const {
    if (loop == loops_) return plan_->run(arguments, stream, workspace);
    std::int64_t count = 0;
    for (const Slot& slot : buffers_) {
      if (slot.member != nullptr) count = std::max(count, slot.extents[loop]);
    }
    Arguments at = arguments;
    for (std::int64_t i = 0; i < count; ++i) {
      run_from(loop + 1, at, stream, workspace);
      for (const Slot& slot : buffers_) {
        if (slot.member != nullptr) at.*slot.member = (at.*slot.member).advanced(slot.steps[loop]);
      }
    }
  }

  Device device_;
  int loops_ = 0;
  Arguments arguments_;  // of the first run, without addresses
  std::vector<Slot> buffers_;
  std::optional<P> plan_;
};

}  // namespace cutplan::jax
