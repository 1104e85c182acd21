// The GEMM family as core/family.hpp wants it: one F for single products, one for grouped ones, which differ in their operands
// and share everything else. operands.cpp, support.cpp, choose.cpp and precision.cpp hold the functions, in the order of a call.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/family.hpp"
#include "gemm/kernel.hpp"
#include "gemm/operands.hpp"
#include "gemm/units.hpp"

namespace cutplan::gemm {

/// What any plan of the family asks for.
struct Request {
  Request(const GemmDescriptor& resolved, std::optional<GroupedOver> over);

  GemmDescriptor asked;             // over groups: these are its batch, and the extent that they share counts all of them
  std::optional<GroupedOver> over;  // none: not grouped
  GemmDescriptor g;                 // with a row-major D, which is what kernels write
  GemmDescriptor average;           // g, or one group of average size as often as there are groups: what the model looks at
};

/// The same product with a row-major D: a column-major D is the row-major D^T = B^T A^T. problem() has that of this one.
GemmDescriptor canonical(GemmDescriptor descriptor);

/// What is the same for single and grouped products.
struct Common {
  using Kernel = gemm::Kernel;
  using Request = gemm::Request;
  using Problem = gemm::Problem;

  static constexpr char kind[] = "operand type, layout, gate";
  static constexpr char listing[] = "gemm_registry()";

  static constexpr const auto& tables = gemm::tables;
  static constexpr bool is_of_op(const Kernel&) { return true; }
  static void check_types(const Request&, const Setting&);
  static std::string stem(const Kernel&);
  static constexpr int plain_split(const Kernel&) { return 1; }
  static std::string split_name(const Kernel&, int split);
  static std::optional<int> split_of(const Kernel&, std::string_view suffix);
  static bool fits(const Kernel&, const Request&, const Setting&);
  static std::string wanted(const Request&);
  static std::vector<int> splits(const Kernel&, const Request&, const Setting&);
  static std::string obstacle(const Kernel&, const Request&, const Setting&, int split);
  static double predict(const Kernel&, const Request&, const Setting&, int split);
  static std::size_t workspace(const Kernel&, const Request&, int split, int sms);
  static Request stand_in(const Request&);
  static bool same_order(const Kernel&, const Kernel&, const DeviceProperties&);
  static void write(tuning::Key&, const Request&);
  static void write_options(tuning::Key&, const Request&);
  static void describe(KernelSku&, const Kernel&, int split, const Request&);
  static PrecisionGuarantee precision(const Kernel&, int split, const Request&);
  static bool is_empty(const Request& r) { return r.g.m == 0 || r.g.n == 0 || r.g.k == 0 || r.g.batch == 0; }
  static int alignment(const Request& r) { return r.g.alignment; }
  static DType multiplies(const Request& r) { return r.g.a; }

  /// Enqueues what has elements to write.
  static void launch(const Selection<Kernel>&, const Problem&, const CallSite&);
  template <typename Arguments>
  static void run(const Selection<Kernel>& s, const Problem& problem, const Arguments&, const CallSite& site) {
    launch(s, problem, site);
  }
};

struct Gemm : Common {
  using Descriptor = GemmDescriptor;
  using Arguments = GemmArguments;
  static constexpr char op[] = "gemm";
  static constexpr const auto& operands = gemm::operands;

  static void check(const GemmDescriptor&);
  static void check(const GemmDescriptor&, const PlanPreference&);
  static GemmDescriptor resolve(GemmDescriptor);
  static Request request(const GemmDescriptor& resolved) { return {resolved, std::nullopt}; }
  static Problem problem(const GemmDescriptor&, const Selection<Kernel>&, const Operands&, const GemmArguments&,
                         const Places&);
};

struct GroupedGemm : Common {
  using Descriptor = GroupedGemmDescriptor;
  using Arguments = GroupedGemmArguments;
  static constexpr char op[] = "grouped_gemm";
  static constexpr const auto& operands = grouped_operands;

  static void check(const GroupedGemmDescriptor&);
  static void check(const GroupedGemmDescriptor&, const PlanPreference&);
  static GroupedGemmDescriptor resolve(GroupedGemmDescriptor);
  static Request request(const GroupedGemmDescriptor& resolved);
  static Problem problem(const GroupedGemmDescriptor&, const Selection<Kernel>&, const Operands&,
                         const GroupedGemmArguments&, const Places&);
};

}  // namespace cutplan::gemm

namespace cutplan {

template <>
struct FamilyOf<GemmDescriptor> {
  using type = gemm::Gemm;
};
template <>
struct FamilyOf<GroupedGemmDescriptor> {
  using type = gemm::GroupedGemm;
};

}  // namespace cutplan
