// GemmPlan, and the choice of a kernel for any plan of the family.
#include "gemm/plan.hpp"

#include <algorithm>
#include <chrono>
#include <tuple>

#include "core/kernels.hpp"
#include "core/operand.hpp"
#include "core/text.hpp"
#include "gemm/check.hpp"
#include "gemm/operands.hpp"
#include "gemm/support.hpp"
#include "gemm/tune.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {

namespace gemm {
namespace {

/// The types of an operation against the support table, before any kernel is looked at: the reason names the type.
void check_supported(const GemmDescriptor& g, const DeviceProperties& device, const PlanPreference& preference) {
  if (g.a != g.b)
    throw Unsupported(text("operands a and b: one element type required, got ", name(g.a), " and ", name(g.b)));
  const Epilogue& e = g.epilogue;
  std::string operands, outputs;
  bool operand_known = false;
  const bool host = device.compute_capability == 0;
  for (const Support& row : support_table) {
    if ((row.arch == Arch::host) != host || (preference.arch && row.arch != *preference.arch)) continue;
    if (operands.find(name(row.operand)) == std::string::npos)
      operands += std::string(operands.empty() ? "" : ", ") + name(row.operand);
    if (row.operand != g.a) continue;
    operand_known = true;
    if (!is_output(row, g.d)) {
      outputs.clear();
      for (DType t : row.d) {
        if (t != DType::none) outputs += (outputs.empty() ? "" : " or ") + std::string(name(t));
      }
      continue;
    }
    for (const auto& [operand, used, type] :
         {std::tuple("c", e.c, g.c), std::tuple("bias", e.bias != BiasOver::none, g.bias),
          std::tuple("residual", e.residual, g.residual), std::tuple("aux", e.aux != Auxiliary::none, g.aux)}) {
      if (used && !is_epilogue_input(g.a, g.d, type)) {
        const bool f32_too = g.a != DType::f64 && g.a != DType::f32 && g.d != DType::f32;
        throw Unsupported(text("operand ", operand, ": dtype ", name(g.d), g.a == g.d ? "" : std::string(" or ") + name(g.a),
                               f32_too ? " or float32" : "", " required beside a ", name(g.a), " and d ", name(g.d),
                               ", got ", name(type)));
      }
    }
    return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the registry says so
  if (!operand_known)
    throw Unsupported(text("operands a and b: one of ", operands, " required on this device, got ", name(g.a)));
  throw Unsupported(text("operand d: dtype ", outputs, " required for ", name(g.a), " operands, got ", name(g.d)));
}

[[noreturn, gnu::cold]] void refuse(const Request& request, Device device, const DeviceProperties& properties,
                                    const PlanPreference& preference) {
  std::string reasons;
  rank(request, properties, preference, &reasons);
  const GemmDescriptor& g = request.g;
  throw Unsupported(
      text("no kernel serves ", request.over ? "grouped gemm " : "gemm ", name(g.a), " ", name(g.layout), " m=", g.m,
           " n=", g.n, " k=", g.k, request.over ? text(" groups=", g.batch, " over ", name(*request.over)) : "",
           " alignment=", g.alignment, " on ", describe(device), " (", properties.name, ", compute capability ",
           properties.compute_capability / 10, ".", properties.compute_capability % 10, "): ", reasons));
}

}  // namespace

Selection select(const Request& request, Device device, const PlanPreference& preference) {
  const GemmDescriptor& g = request.g;
  const DeviceProperties& properties = device_properties(device);
  if (preference.sm_count < 0)
    throw InvalidProblem(text("sm_count: 0 (all) or a positive count required, got ", preference.sm_count));
  check_supported(g, properties, preference);
  std::vector<Choice> choices = rank(request, properties, preference, nullptr);
  if (choices.empty()) refuse(request, device, properties, preference);
  apply_tuning(choices, request, properties, preference, &device);
  const Choice best = choices.front();

  Selection s;
  s.device = device;
  s.kernel = best.kernel;
  s.split_k = best.split_k;
  s.sm_count = occupied_sms(preference, properties);
  s.sm_limited = s.sm_count < properties.sm_count;
  s.workspace_bytes = workspace_size(*best.kernel, best.split_k, g, s.sm_count);
  s.sku = sku(*best.kernel, best.split_k, request);
  s.precision = precision(*best.kernel, best.split_k, request);
  s.precision.batch_invariant = device.type == DeviceType::cpu || preference.batch_invariant;
  s.preference = preference;
#if CUTPLAN_WITH_CUDA
  if (best.kernel->prepare != nullptr) {
    DeviceGuard guard(device.id);
    best.kernel->prepare(*best.kernel);
  }
#endif
  return s;
}

void Selection::run(const Problem& problem, Stream stream, Workspace workspace, int repeats) const {
  const Launch launch{stream, workspace.data, split_k, sm_count, sm_limited, repeats};
#if CUTPLAN_WITH_CUDA
  if (device.type == DeviceType::cuda) {
    DeviceGuard guard(device.id);
    kernel->run(*kernel, problem, launch);
    return;
  }
#endif
  kernel->run(*kernel, problem, launch);
}

}  // namespace gemm

struct GemmPlan::Impl {
  GemmDescriptor descriptor;
  gemm::Selection selection;
};

namespace {

/// The hot path: no allocation, no string, no look-up.
void launch(const GemmPlan::Impl& plan, const GemmArguments& arguments, Stream stream, Workspace workspace, int repeats) {
  const gemm::Selection& s = plan.selection;
  const gemm::Problem problem = gemm::check(plan.descriptor, s.device, s.kernel->alignment, arguments);
  check_workspace(workspace, s.workspace_bytes);
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  s.run(problem, stream, workspace, repeats);
}

}  // namespace

GemmPlan::GemmPlan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

GemmPlan GemmPlan::select(const GemmDescriptor& descriptor, Device device, const PlanPreference& preference) {
  gemm::check(descriptor);
  const GemmDescriptor g = gemm::resolve(descriptor);
  if (preference.batch_invariant && descriptor.alignment == 0 && !gemm::a_is_row_major(g.layout)) {
    throw Unsupported(
        "batch_invariant: an explicit alignment required with a column-major a, whose own alignment depends on m; select "
        "with alignment=16, or less");
  }
  return GemmPlan(std::make_shared<Impl>(Impl{g, gemm::select(g, device, preference)}));
}

void GemmPlan::can_implement(const GemmArguments& arguments) const {
  gemm::check(impl_->descriptor, device(), impl_->selection.kernel->alignment, arguments);
}

std::size_t GemmPlan::workspace_size() const noexcept { return impl_->selection.workspace_bytes; }
const KernelSku& GemmPlan::sku() const noexcept { return impl_->selection.sku; }
const PrecisionGuarantee& GemmPlan::precision_guarantee() const noexcept { return impl_->selection.precision; }
const GemmDescriptor& GemmPlan::descriptor() const noexcept { return impl_->descriptor; }
Device GemmPlan::device() const noexcept { return impl_->selection.device; }
const PlanPreference& GemmPlan::preference() const noexcept { return impl_->selection.preference; }

void GemmPlan::run(const GemmArguments& arguments, Stream stream, Workspace workspace) const {
  launch(*impl_, arguments, stream, workspace, 1);
}

double GemmPlan::measure_launch(const GemmArguments& arguments, int launches, Stream stream, Workspace workspace) const {
  if (device().type == DeviceType::cpu)
    throw Unsupported("measure_launch: a plan for a CUDA device required, got one for the host, which launches nothing");
  if (launches < 2) throw InvalidProblem(text("launches: at least 2 required, got ", launches));
  // The difference of two runs: what is done once cancels.
  const auto seconds = [&](int repeats) {
    const auto start = std::chrono::steady_clock::now();
    launch(*impl_, arguments, stream, workspace, repeats);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double once = seconds(1);
  return (seconds(launches) - once) / (launches - 1);
}

}  // namespace cutplan
