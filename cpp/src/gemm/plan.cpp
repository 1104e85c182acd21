#include <algorithm>
#include <chrono>
#include <tuple>

#include "core/operand.hpp"
#include "core/text.hpp"
#include "gemm/check.hpp"
#include "gemm/registry.hpp"
#include "gemm/support.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {

struct GemmPlan::Impl {
  GemmDescriptor descriptor;
  Device device;
  const gemm::Kernel* kernel;
  int split_k;
  int sm_count;
  bool sm_limited;
  std::size_t workspace_bytes;
  KernelSku sku;
  PrecisionGuarantee precision;
};

namespace {

/// The types of an operation against the support table, before any kernel is looked at: the reason names the type.
void check_supported(const GemmDescriptor& g, const DeviceProperties& device, const PlanPreference& preference) {
  if (g.a != g.b)
    throw Unsupported(text("operands a and b: one element type required, got ", name(g.a), " and ", name(g.b)));
  std::string operands, outputs;
  bool operand_known = false;
  const bool host = device.compute_capability == 0;
  for (const gemm::Support& row : gemm::support_table) {
    if ((row.arch == Arch::host) != host || (preference.arch && row.arch != *preference.arch)) continue;
    if (operands.find(name(row.operand)) == std::string::npos)
      operands += std::string(operands.empty() ? "" : ", ") + name(row.operand);
    if (row.operand != g.a) continue;
    operand_known = true;
    outputs = name(row.d[0]) + std::string(row.d[1] == DType::none ? "" : std::string(" or ") + name(row.d[1]));
    if (!gemm::is_output(row, g.d)) continue;
    for (const auto& [operand, used, type] :
         {std::tuple("c", g.epilogue.c, g.c), std::tuple("bias", g.epilogue.bias, g.bias)}) {
      if (used && !gemm::is_epilogue_input(g.a, g.d, type)) {
        throw Unsupported(text("operand ", operand, ": dtype ", name(g.d), g.a == g.d ? "" : std::string(", ") + name(g.a),
                               g.a == DType::f64 ? "" : " or float32", " required beside a ", name(g.a), " and d ",
                               name(g.d), ", got ", name(type)));
      }
    }
    return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the registry says so
  if (!operand_known)
    throw Unsupported(text("operands a and b: one of ", operands, " required on this device, got ", name(g.a)));
  throw Unsupported(text("operand d: dtype ", outputs, " required for ", name(g.a), " operands, got ", name(g.d)));
}

/// The hot path: no allocation, no string, no look-up.
void launch(const GemmPlan::Impl& plan, const GemmArguments& arguments, Stream stream, Workspace workspace, int repeats) {
  const gemm::Problem problem = gemm::check(plan.descriptor, plan.device, plan.kernel->alignment, arguments);
  check_workspace(workspace, plan.workspace_bytes);
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  const gemm::Launch launch{stream, workspace.data, plan.split_k, plan.sm_count, plan.sm_limited, repeats};
#if CUTPLAN_WITH_CUDA
  if (plan.device.type == DeviceType::cuda) {
    DeviceGuard guard(plan.device.id);
    plan.kernel->run(*plan.kernel, problem, launch);
    return;
  }
#endif
  plan.kernel->run(*plan.kernel, problem, launch);
}

}  // namespace

GemmPlan::GemmPlan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

GemmPlan GemmPlan::select(const GemmDescriptor& descriptor, Device device, const PlanPreference& preference) {
  gemm::check(descriptor);
  const GemmDescriptor g = gemm::resolve(descriptor);
  const DeviceProperties& properties = device_properties(device);
  if (preference.sm_count < 0)
    throw InvalidProblem(text("sm_count: 0 (all) or a positive count required, got ", preference.sm_count));
  check_supported(g, properties, preference);
  if (preference.batch_invariant && descriptor.alignment == 0 &&
      (g.layout == GemmLayout::crr || g.layout == GemmLayout::ccr)) {
    throw Unsupported(
        "batch_invariant: an explicit alignment required with a column-major a, whose own alignment depends on m; select "
        "with alignment=16, or less");
  }
  const std::vector<gemm::Choice> choices = gemm::rank(g, properties, preference, nullptr);
  if (choices.empty()) {
    std::string reasons;
    gemm::rank(g, properties, preference, &reasons);
    throw Unsupported(text("no kernel serves gemm ", name(g.a), " ", name(g.layout), " m=", g.m, " n=", g.n, " k=", g.k,
                           " alignment=", g.alignment, " on ", cutplan::describe(device), " (", properties.name,
                           ", compute capability ", properties.compute_capability / 10, ".",
                           properties.compute_capability % 10, "): ", reasons));
  }
  const gemm::Choice best = choices.front();
  auto impl = std::make_shared<Impl>();
  impl->descriptor = g;
  impl->device = device;
  impl->kernel = best.kernel;
  impl->split_k = best.split_k;
  impl->sm_count = preference.sm_count > 0 ? std::min(preference.sm_count, properties.sm_count) : properties.sm_count;
  impl->sm_limited = impl->sm_count < properties.sm_count;
  impl->workspace_bytes = gemm::workspace_size(g, best.split_k);
  impl->sku = gemm::sku(*best.kernel, best.split_k, g);
  impl->precision = gemm::precision(*best.kernel, best.split_k, g);
  impl->precision.batch_invariant = device.type == DeviceType::cpu || preference.batch_invariant;
#if CUTPLAN_WITH_CUDA
  if (best.kernel->prepare != nullptr) {
    DeviceGuard guard(device.id);
    best.kernel->prepare(*best.kernel);
  }
#endif
  return GemmPlan(std::move(impl));
}

void GemmPlan::can_implement(const GemmArguments& arguments) const {
  gemm::check(impl_->descriptor, impl_->device, impl_->kernel->alignment, arguments);
}

std::size_t GemmPlan::workspace_size() const noexcept { return impl_->workspace_bytes; }
const KernelSku& GemmPlan::sku() const noexcept { return impl_->sku; }
const PrecisionGuarantee& GemmPlan::precision_guarantee() const noexcept { return impl_->precision; }
const GemmDescriptor& GemmPlan::descriptor() const noexcept { return impl_->descriptor; }
Device GemmPlan::device() const noexcept { return impl_->device; }

void GemmPlan::run(const GemmArguments& arguments, Stream stream, Workspace workspace) const {
  launch(*impl_, arguments, stream, workspace, 1);
}

double GemmPlan::measure_launch(const GemmArguments& arguments, int launches, Stream stream, Workspace workspace) const {
  if (impl_->device.type == DeviceType::cpu)
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
