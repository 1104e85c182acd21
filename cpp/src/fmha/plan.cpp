// FmhaPlan and FmhaBackwardPlan.
#include "fmha/family.hpp"

#include "core/fill.hpp"
#include "core/plan.hpp"

namespace cutplan {

template class Plan<FmhaDescriptor, FmhaArguments>;
template class Plan<FmhaBackwardDescriptor, FmhaBackwardArguments>;

namespace fmha {

void Forward::run(const Selection<Kernel>& s, const Problem& problem, const FmhaArguments&, const CallSite& site) {
  if (problem.batch == 0 || problem.heads == 0 || problem.seq_q == 0) return;
  const Launch launch{site.stream, site.workspace, s.split, s.sm_count, s.l2_share};
  for (int i = 0; i < site.repeats; ++i) s.kernel->run_forward(*s.kernel, problem, launch);
}

void Backward::run(const Selection<Kernel>& s, const BackwardProblem& problem, const FmhaBackwardArguments& arguments,
                   const CallSite& site) {
  const fmha::Problem& forward = problem.forward;
  if (forward.batch == 0 || forward.heads == 0 || forward.seq_q == 0 || forward.seq_k == 0) {
    // No query meets a key: whatever gradient has elements is zero, and kernels see no empty problem.
    for (const TensorView* gradient :
         {&arguments.dq, &arguments.dk, &arguments.dv, &arguments.dbias, &arguments.dalibi_slopes, &arguments.dsink}) {
      if (gradient->present()) fill_zero(*gradient, site.stream);
    }
    return;
  }
  const Launch launch{site.stream, site.workspace, s.split, s.sm_count, s.l2_share};
  for (int i = 0; i < site.repeats; ++i) s.kernel->run_backward(*s.kernel, problem, launch);
}

}  // namespace fmha

std::vector<KernelSku> fmha_registry() {
  const auto of = [](const fmha::Kernel& k) {
    FmhaDescriptor g;
    g.dtype = k.operand;
    return g;
  };
  std::vector<KernelSku> all = Family<fmha::Forward>::registry(of);
  const std::vector<KernelSku> backward = Family<fmha::Backward>::registry([&](const fmha::Kernel& k) {
    FmhaBackwardDescriptor g;
    g.forward = of(k);
    return g;
  });
  all.insert(all.end(), backward.begin(), backward.end());
  return all;
}

}  // namespace cutplan
