// GemmPlan and GroupedGemmPlan.
#include "gemm/family.hpp"

#include "core/fill.hpp"
#include "core/plan.hpp"

namespace cutplan {

template class Plan<GemmDescriptor, GemmArguments>;
template class Plan<GroupedGemmDescriptor, GroupedGemmArguments>;

namespace gemm {

void Common::launch(const Selection<Kernel>& s, const Problem& problem, const CallSite& site) {
  // What kernels raise; of a D without elements it is the result.
  if (float* amax = problem.terms.amax; amax != nullptr) {
    TensorView view;
    view.data = amax;
    view.dtype = DType::f32;
    view.device = s.device;
    fill_zero(view, site.stream);
  }
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  const Launch launch{site.stream, site.workspace, s.split, s.sm_count, s.sm_limited, site.repeats};
  s.kernel->run(*s.kernel, problem, launch);
}

}  // namespace gemm

std::vector<KernelSku> gemm_registry() {
  return Family<gemm::Gemm>::registry([](const gemm::Kernel& k) {
    GemmDescriptor g;
    g.a = k.operand;
    g.b = k.operand_b;
    g.d = gemm::default_result(g);
    g.layout = k.layout;
    g.epilogue.gate = k.gate;
    return gemm::Gemm::request(g);
  });
}

}  // namespace cutplan
