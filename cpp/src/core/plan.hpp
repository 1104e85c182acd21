// The members of every plan, once: a family's plan.cpp, which includes its family.hpp first, instantiates them for its F.
// On the way of a call there is no allocation, no string and no look-up.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "core/family.hpp"

namespace cutplan {

/// What is computed once a plan, for every call: an F may have Constants, made by constants(descriptor), and use(problem, constants).
template <typename F, typename = void>
struct ConstantsOf {
  ConstantsOf(const typename F::Descriptor&) {}
  void use(typename F::Problem&) const {}
};
template <typename F>
struct ConstantsOf<F, std::void_t<typename F::Constants>> {
  ConstantsOf(const typename F::Descriptor& descriptor) : constants(F::constants(descriptor)) {}
  void use(typename F::Problem& problem) const { F::use(problem, constants); }
  typename F::Constants constants;
};

template <typename Descriptor, typename Arguments>
struct Plan<Descriptor, Arguments>::Impl {
  using F = typename FamilyOf<Descriptor>::type;

  Descriptor descriptor;
  Selection<typename F::Kernel> selection;
  Operands operands;
  ConstantsOf<F> constants;

  typename F::Problem check(const Arguments& arguments) const {
    Places places;
    cutplan::check(operands, F::operands, arguments, places);
    typename F::Problem problem = F::problem(descriptor, selection, operands, arguments, places);
    constants.use(problem);
    return problem;
  }

  void run(const Arguments& arguments, Stream stream, Workspace workspace, int repeats) const {
    const typename F::Problem problem = check(arguments);
    check_workspace(workspace, selection.workspace_bytes);
    on_device(selection.device, [&] { F::run(selection, problem, arguments, {stream, workspace.data, repeats}); });
  }
};

template <typename Descriptor, typename Arguments>
Plan<Descriptor, Arguments>::Plan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

template <typename Descriptor, typename Arguments>
Plan<Descriptor, Arguments> Plan<Descriptor, Arguments>::select(const Descriptor& descriptor, Device device,
                                                                const PlanPreference& preference) {
  using F = typename Impl::F;
  F::check(descriptor, preference);
  const Descriptor resolved = F::resolve(descriptor);
  auto selection = Family<F>::select(resolved, device, preference);
  const int alignment = selection.kernel->alignment;
  return Plan(std::make_shared<Impl>(Impl{resolved, std::move(selection),
                                          operands_of(F::operands, resolved, device, alignment), ConstantsOf<F>(resolved)}));
}

template <typename Descriptor, typename Arguments>
void Plan<Descriptor, Arguments>::can_implement(const Arguments& arguments) const {
  impl_->check(arguments);
}

template <typename Descriptor, typename Arguments>
std::size_t Plan<Descriptor, Arguments>::workspace_size() const noexcept {
  return impl_->selection.workspace_bytes;
}

template <typename Descriptor, typename Arguments>
const KernelSku& Plan<Descriptor, Arguments>::sku() const noexcept {
  return impl_->selection.sku;
}

template <typename Descriptor, typename Arguments>
const PrecisionGuarantee& Plan<Descriptor, Arguments>::precision_guarantee() const noexcept {
  return impl_->selection.precision;
}

template <typename Descriptor, typename Arguments>
const Descriptor& Plan<Descriptor, Arguments>::descriptor() const noexcept {
  return impl_->descriptor;
}

template <typename Descriptor, typename Arguments>
Device Plan<Descriptor, Arguments>::device() const noexcept {
  return impl_->selection.device;
}

template <typename Descriptor, typename Arguments>
const PlanPreference& Plan<Descriptor, Arguments>::preference() const noexcept {
  return impl_->selection.preference;
}

template <typename Descriptor, typename Arguments>
const Operands& Plan<Descriptor, Arguments>::operands() const noexcept {
  return impl_->operands;
}

template <typename Descriptor, typename Arguments>
void Plan<Descriptor, Arguments>::run(const Arguments& arguments, Stream stream, Workspace workspace) const {
  impl_->run(arguments, stream, workspace, 1);
}

template <typename Descriptor, typename Arguments>
double Plan<Descriptor, Arguments>::measure_launch(const Arguments& arguments, int launches, Stream stream,
                                                   Workspace workspace) const {
  if (device().type == DeviceType::cpu)
    throw Unsupported("measure_launch: a plan for a CUDA device required, got one for the host, which launches nothing");
  if (launches < 2) throw InvalidProblem(text("launches: at least 2 required, got ", launches));
  // The difference of two runs: what is done once cancels.
  const auto seconds = [&](int repeats) {
    const auto start = std::chrono::steady_clock::now();
    impl_->run(arguments, stream, workspace, repeats);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const double once = seconds(1);
  return (seconds(launches) - once) / (launches - 1);
}

template <typename Descriptor, typename Arguments>
std::vector<KernelSku> Plan<Descriptor, Arguments>::kernels(const Descriptor& descriptor, const DeviceProperties& properties,
                                                            const PlanPreference& preference) {
  return Family<typename Impl::F>::kernels(descriptor, properties, preference);
}

template <typename Descriptor, typename Arguments>
std::vector<KernelMeasurement> Plan<Descriptor, Arguments>::measure(const Descriptor& descriptor, Device device,
                                                                    const PlanPreference& preference, int candidates,
                                                                    const TuningProgress& progress) {
  return Family<typename Impl::F>::measure(descriptor, device, preference, candidates, progress);
}

template <typename Descriptor, typename Arguments>
std::vector<KernelMeasurement> Plan<Descriptor, Arguments>::tune(const Descriptor& descriptor, Device device,
                                                                 const PlanPreference& preference,
                                                                 const TuningProgress& progress) {
  return Family<typename Impl::F>::tune(descriptor, device, preference, progress);
}

template <typename Descriptor, typename Arguments>
std::optional<TuningEntry> Plan<Descriptor, Arguments>::tuned(const Descriptor& descriptor,
                                                              const DeviceProperties& properties,
                                                              const PlanPreference& preference) {
  return Family<typename Impl::F>::tuned(descriptor, properties, preference);
}

}  // namespace cutplan
