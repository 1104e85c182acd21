// The attention family as core/family.hpp wants it: one F for each pass. operands.cpp, support.cpp, choose.cpp and precision.cpp
// hold the functions, in the order of a call.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/family.hpp"
#include "fmha/kernel.hpp"
#include "fmha/operands.hpp"
#include "fmha/units.hpp"

namespace cutplan::fmha {

/// What is the same for both passes. `Descriptor` is that of either.
template <typename Descriptor>
struct Common {
  using Kernel = fmha::Kernel;
  using Request = Descriptor;  // resolved

  static constexpr char kind[] = "pass, operand type, head dimension";
  static constexpr char listing[] = "fmha_registry()";

  static constexpr const auto& tables = fmha::tables;
  static bool is_of_op(const Kernel&);
  static Request request(const Descriptor& resolved) { return resolved; }
  static std::string stem(const Kernel&);
  static int plain_split(const Kernel&);
  static std::string split_name(const Kernel&, int split);
  static std::optional<int> split_of(const Kernel&, std::string_view suffix);
  static bool fits(const Kernel&, const Request&, const Setting&);
  static std::string wanted(const Request&);
  static std::string obstacle(const Kernel&, const Request&, const Setting&, int split);
  static std::size_t workspace(const Kernel&, const Request&, int split, int sms);
  /// Kernels differ in their key tiles, and in what order these are met: each is an order of its own.
  static bool same_order(const Kernel& x, const Kernel& y, const DeviceProperties&) { return &x == &y; }
  static void write(tuning::Key&, const Request&);
  static void write_options(tuning::Key&, const Request&);
  static void describe(KernelSku&, const Kernel&, int split, const Request&);
  static bool is_empty(const Request&);
  static int alignment(const Request&) { return 1; }
  static DType multiplies(const Request&);
};

struct Forward : Common<FmhaDescriptor> {
  using Descriptor = FmhaDescriptor;
  using Arguments = FmhaArguments;
  using Problem = fmha::Problem;
  static constexpr char op[] = "fmha";
  static constexpr const auto& operands = fmha::operands;

  static void check(const FmhaDescriptor&);
  static void check(const FmhaDescriptor& g, const PlanPreference&) { check(g); }
  static FmhaDescriptor resolve(FmhaDescriptor);
  static void check_types(const FmhaDescriptor&, const Setting&);
  static std::vector<int> splits(const Kernel&, const FmhaDescriptor&, const Setting&);
  static double predict(const Kernel&, const FmhaDescriptor&, const Setting&, int split);
  static FmhaDescriptor stand_in(FmhaDescriptor);
  static PrecisionGuarantee precision(const Kernel&, int split, const FmhaDescriptor&);
  static Problem problem(const FmhaDescriptor&, const Selection<Kernel>&, const Operands&, const FmhaArguments&,
                         const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const FmhaArguments&, const CallSite&);
};

struct Backward : Common<FmhaBackwardDescriptor> {
  using Descriptor = FmhaBackwardDescriptor;
  using Arguments = FmhaBackwardArguments;
  using Problem = BackwardProblem;
  static constexpr char op[] = "fmha_backward";
  static constexpr const auto& operands = backward_operands;

  static void check(const FmhaBackwardDescriptor&);
  static void check(const FmhaBackwardDescriptor& g, const PlanPreference&) { check(g); }
  static FmhaBackwardDescriptor resolve(FmhaBackwardDescriptor);
  static void check_types(const FmhaBackwardDescriptor&, const Setting&);
  static std::vector<int> splits(const Kernel&, const FmhaBackwardDescriptor&, const Setting&);
  static double predict(const Kernel&, const FmhaBackwardDescriptor&, const Setting&, int split);
  static FmhaBackwardDescriptor stand_in(FmhaBackwardDescriptor);
  static PrecisionGuarantee precision(const Kernel&, int split, const FmhaBackwardDescriptor&);
  static Problem problem(const FmhaBackwardDescriptor&, const Selection<Kernel>&, const Operands&,
                         const FmhaBackwardArguments&, const Places&);
  static void run(const Selection<Kernel>&, const Problem&, const FmhaBackwardArguments&, const CallSite&);
};

/// Whether gradients are summed in one fixed order.
bool deterministic(const Kernel& kernel, int split);

inline const FmhaDescriptor& forward_of(const FmhaDescriptor& g) { return g; }
inline const FmhaDescriptor& forward_of(const FmhaBackwardDescriptor& g) { return g.forward; }

/// The order of the dimensions of Q, K, V, O and their gradients; batch is -1 where sequences are packed.
struct Axes {
  int rank, batch, head, row, dim;

  explicit constexpr Axes(const FmhaDescriptor& g)
      : rank(g.varlen ? 3 : 4),
        batch(g.varlen ? -1 : 0),
        head(batch + (g.layout == FmhaLayout::bhsd ? 1 : 2)),
        row(batch + (g.layout == FmhaLayout::bhsd ? 2 : 1)),
        dim(batch + 3) {}
};

}  // namespace cutplan::fmha

namespace cutplan {

template <>
struct FamilyOf<FmhaDescriptor> {
  using type = fmha::Forward;
};
template <>
struct FamilyOf<FmhaBackwardDescriptor> {
  using type = fmha::Backward;
};

}  // namespace cutplan
