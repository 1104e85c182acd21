#include <algorithm>

#include "core/fill.hpp"
#include "core/operand.hpp"
#include "core/text.hpp"
#include "fmha/check.hpp"
#include "fmha/registry.hpp"
#include "fmha/support.hpp"
#if CUTPLAN_WITH_CUDA
#include "core/cuda.hpp"
#endif

namespace cutplan {
namespace {

/// What a plan of either pass keeps.
template <typename Descriptor>
struct Selected {
  Descriptor descriptor;
  Device device;
  const fmha::Kernel* kernel;
  int splits;
  int sm_count;
  std::size_t workspace_bytes;
  KernelSku sku;
  PrecisionGuarantee precision;
  PlanPreference preference;
};

const FmhaDescriptor& forward_of(const FmhaDescriptor& g) { return g; }
const FmhaDescriptor& forward_of(const FmhaBackwardDescriptor& g) { return g.forward; }

/// The types of an operation against the support table, before any kernel is looked at: the reason names the type.
void check_supported(const FmhaDescriptor& g, const char* written, DType written_type, const DeviceProperties& device,
                     const PlanPreference& preference) {
  std::string operands, outputs;
  const bool host = device.compute_capability == 0;
  for (const fmha::Support& row : fmha::support_table) {
    if ((row.arch == Arch::host) != host || (preference.arch && row.arch != *preference.arch)) continue;
    if (operands.find(name(row.operand)) == std::string::npos)
      operands += std::string(operands.empty() ? "" : ", ") + name(row.operand);
    if (row.operand != g.dtype) continue;
    outputs = name(row.o[0]) + std::string(row.o[1] == DType::none ? "" : std::string(" or ") + name(row.o[1]));
    if (fmha::is_output(row, g.o) && fmha::is_output(row, written_type)) return;
  }
  if (operands.empty()) return;  // the preferred architecture does not run on this device: the registry says so
  if (outputs.empty())
    throw Unsupported(text("operands q, k and v: one of ", operands, " required on this device, got ", name(g.dtype)));
  const bool o_at_fault = written_type == g.o;
  throw Unsupported(text(o_at_fault ? "operand o" : written, ": dtype ", outputs, " required for ", name(g.dtype),
                         " operands, got ", name(o_at_fault ? g.o : written_type)));
}

void check_types(const FmhaDescriptor& g, const DeviceProperties& device, const PlanPreference& preference) {
  check_supported(g, "operand o", g.o, device, preference);
}
void check_types(const FmhaBackwardDescriptor& g, const DeviceProperties& device, const PlanPreference& preference) {
  check_supported(g.forward, "operand o", g.forward.o, device, preference);
  check_supported(g.forward, "operands dq, dk and dv", g.grad, device, preference);
}

template <typename Descriptor>
Selected<Descriptor> choose(const Descriptor& descriptor, Device device, const PlanPreference& preference) {
  fmha::check(descriptor);
  const Descriptor g = fmha::resolve(descriptor);
  const DeviceProperties& properties = device_properties(device);
  if (preference.sm_count < 0)
    throw InvalidProblem(text("sm_count: 0 (all) or a positive count required, got ", preference.sm_count));
  if (preference.tune == Tune::measure)
    throw Unsupported(
        "tune: 'off' or 'cached' required for attention, whose kernels are chosen by the cost model, got 'measure'");
  check_types(g, properties, preference);
  const std::vector<fmha::Choice> choices = fmha::rank(g, properties, preference, nullptr);
  if (choices.empty()) {
    std::string reasons;
    fmha::rank(g, properties, preference, &reasons);
    const FmhaDescriptor& f = forward_of(g);
    throw Unsupported(text("no kernel serves attention ", name(f.dtype), " batch=", f.batch, " heads=", f.heads,
                           " heads_k=", f.heads_k, " seq_q=", f.seq_q, " seq_k=", f.seq_k, " dim=", f.dim,
                           " dim_v=", f.dim_v, " on ", describe(device), " (", properties.name, ", compute capability ",
                           properties.compute_capability / 10, ".", properties.compute_capability % 10, "): ", reasons));
  }
  const fmha::Choice& best = choices.front();
  Selected<Descriptor> plan;
  plan.descriptor = g;
  plan.device = device;
  plan.kernel = best.kernel;
  plan.splits = best.splits;
  plan.sm_count = occupied_sms(preference, properties);
  plan.workspace_bytes = best.workspace;
  plan.sku = fmha::sku(*best.kernel, best.splits, g);
  plan.precision = fmha::precision(*best.kernel, best.splits, g);
  plan.precision.batch_invariant = device.type == DeviceType::cpu || preference.batch_invariant;
  plan.preference = preference;
#if CUTPLAN_WITH_CUDA
  if (best.kernel->prepare != nullptr) {
    DeviceGuard guard(device.id);
    best.kernel->prepare(*best.kernel);
  }
#endif
  return plan;
}

/// Calls `work` with the plan's device current.
template <typename Work>
void on_device([[maybe_unused]] Device device, const Work& work) {
#if CUTPLAN_WITH_CUDA
  if (device.type == DeviceType::cuda) {
    DeviceGuard guard(device.id);
    work();
    return;
  }
#endif
  work();
}

}  // namespace

struct FmhaPlan::Impl : Selected<FmhaDescriptor> {};
struct FmhaBackwardPlan::Impl : Selected<FmhaBackwardDescriptor> {};

FmhaPlan::FmhaPlan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

FmhaPlan FmhaPlan::select(const FmhaDescriptor& descriptor, Device device, const PlanPreference& preference) {
  return FmhaPlan(std::make_shared<Impl>(Impl{choose(descriptor, device, preference)}));
}

void FmhaPlan::can_implement(const FmhaArguments& arguments) const {
  fmha::check(impl_->descriptor, impl_->device, arguments);
}

std::size_t FmhaPlan::workspace_size() const noexcept { return impl_->workspace_bytes; }
const KernelSku& FmhaPlan::sku() const noexcept { return impl_->sku; }
const PrecisionGuarantee& FmhaPlan::precision_guarantee() const noexcept { return impl_->precision; }
const FmhaDescriptor& FmhaPlan::descriptor() const noexcept { return impl_->descriptor; }
Device FmhaPlan::device() const noexcept { return impl_->device; }
const PlanPreference& FmhaPlan::preference() const noexcept { return impl_->preference; }

void FmhaPlan::run(const FmhaArguments& arguments, Stream stream, Workspace workspace) const {
  const Impl& plan = *impl_;
  const fmha::Problem problem = fmha::check(plan.descriptor, plan.device, arguments);
  check_workspace(workspace, plan.workspace_bytes);
  if (problem.batch == 0 || problem.heads == 0 || problem.seq_q == 0) return;
  const fmha::Launch launch{stream, workspace.data, plan.splits, plan.sm_count};
  on_device(plan.device, [&] { plan.kernel->run_forward(*plan.kernel, problem, launch); });
}

FmhaBackwardPlan::FmhaBackwardPlan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

FmhaBackwardPlan FmhaBackwardPlan::select(const FmhaBackwardDescriptor& descriptor, Device device,
                                          const PlanPreference& preference) {
  return FmhaBackwardPlan(std::make_shared<Impl>(Impl{choose(descriptor, device, preference)}));
}

void FmhaBackwardPlan::can_implement(const FmhaBackwardArguments& arguments) const {
  fmha::check(impl_->descriptor, impl_->device, arguments);
}

std::size_t FmhaBackwardPlan::workspace_size() const noexcept { return impl_->workspace_bytes; }
const KernelSku& FmhaBackwardPlan::sku() const noexcept { return impl_->sku; }
const PrecisionGuarantee& FmhaBackwardPlan::precision_guarantee() const noexcept { return impl_->precision; }
const FmhaBackwardDescriptor& FmhaBackwardPlan::descriptor() const noexcept { return impl_->descriptor; }
Device FmhaBackwardPlan::device() const noexcept { return impl_->device; }
const PlanPreference& FmhaBackwardPlan::preference() const noexcept { return impl_->preference; }

void FmhaBackwardPlan::run(const FmhaBackwardArguments& arguments, Stream stream, Workspace workspace) const {
  const Impl& plan = *impl_;
  fmha::BackwardProblem problem = fmha::check(plan.descriptor, plan.device, arguments);
  check_workspace(workspace, plan.workspace_bytes);
  problem.deterministic = fmha::deterministic(*plan.kernel, plan.splits);
  const fmha::Problem& forward = problem.forward;
  on_device(plan.device, [&] {
    if (forward.batch == 0 || forward.heads == 0 || forward.seq_q == 0 || forward.seq_k == 0) {
      // No query meets a key: whatever gradient has elements is zero, and kernels see no empty problem.
      for (const TensorView* gradient :
           {&arguments.dq, &arguments.dk, &arguments.dv, &arguments.dbias, &arguments.dalibi_slopes, &arguments.dsink}) {
        if (gradient->present()) fill_zero(*gradient, stream);
      }
      return;
    }
    const fmha::Launch launch{stream, workspace.data, plan.splits, plan.sm_count};
    plan.kernel->run_backward(*plan.kernel, problem, launch);
  });
}

}  // namespace cutplan
