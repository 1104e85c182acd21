// GroupedGemmPlan: what it checks, beyond what operands.hpp has for any plan.
#include "cutplan/grouped_gemm.hpp"

#include <algorithm>

#include "core/text.hpp"
#include "gemm/check.hpp"
#include "gemm/operands.hpp"
#include "gemm/plan.hpp"
#include "gemm/tune.hpp"

namespace cutplan {

using std::int64_t;

struct GroupedGemmPlan::Impl {
  GroupedGemmDescriptor descriptor;
  gemm::Selection selection;
};

namespace gemm {

void check(const GroupedGemmDescriptor& g) {
  check_extent("groups", g.groups);
  check_extent("m", g.m);
  check_extent("n", g.n);
  check_extent("k", g.k);
  const bool over_m = g.over == GroupedOver::m;
  const int64_t shared = over_m ? g.m : g.k;
  if (shared >= int64_t{1} << 31)
    throw InvalidProblem(text(name(g.over), ": an extent < 2^31 required, which int32 offsets can count, got ", shared));
  check_alignment(g.alignment);
  if (g.a == DType::none) throw InvalidProblem("a: an element type required, got none");
  const bool known_layout =
      over_m ? g.layout == GemmLayout::rcr || g.layout == GemmLayout::rrr : g.layout == GemmLayout::crr;
  if (!known_layout) {
    throw Unsupported(text("layout: ", over_m ? "rcr or rrr" : "crr", " required with groups over ", name(g.over), ", got ",
                           name(g.layout)));
  }
  const Epilogue& e = g.epilogue;
  const char* beside = e.c                                ? "c"
                       : e.residual                       ? "residual"
                       : e.aux != Auxiliary::none         ? "aux"
                       : e.bias == BiasOver::m            ? "a bias over m"
                       : over_m                           ? nullptr
                       : e.bias != BiasOver::none         ? "bias"
                       : e.row_scale                      ? "row_scale"
                       : e.column_scale                   ? "column_scale"
                       : e.gate != Gate::none             ? "gate"
                       : e.activation != Activation::none ? "activation"
                                                          : nullptr;
  if (beside != nullptr) {
    throw Unsupported(text("epilogue: ",
                           over_m ? "bias over n, row_scale, column_scale, a gate and an activation go with groups over m"
                                  : "none goes with groups over k, only alpha",
                           ", got ", beside));
  }
  check_epilogue(g.a, e);
}

GroupedGemmDescriptor resolve(GroupedGemmDescriptor g) {
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = g.a;
  if (g.bias == DType::none) g.bias = g.d;
  const int64_t b_cols = g.epilogue.gate == Gate::interleaved ? 2 * g.n : g.n;
  g.alignment = resolve_alignment(g.alignment, std::min(bits(g.a), bits(g.b)), a_is_row_major(g.layout) ? g.k : g.m,
                                  b_is_row_major(g.layout) ? b_cols : g.k);
  return g;
}

Request request(const GroupedGemmDescriptor& g) {
  GemmDescriptor all;
  all.m = g.m;
  all.n = g.n;
  all.k = g.k;
  all.batch = g.groups;
  all.a = g.a;
  all.b = g.b;
  all.d = all.c = all.residual = all.aux = g.d;
  all.bias = g.bias;
  all.layout = g.layout;
  all.epilogue = g.epilogue;
  all.alignment = g.alignment;
  return {all, g.over};
}

namespace {

/// The host reads offsets, so it can refuse them.
void check_offsets(const GroupedGemmDescriptor& g, const std::int32_t* offsets) {
  const int64_t extent = g.over == GroupedOver::m ? g.m : g.k;
  int64_t before = 0;
  for (int64_t i = 0; i <= g.groups; ++i) {
    if (offsets[i] < before || offsets[i] > extent) {
      throw InvalidProblem(text("operand offsets: entry ", i, ": a value from ", before,
                                i == 0 ? "" : ", the entry before it,", " to ", extent, ", the extent ", name(g.over),
                                ", required, got ", offsets[i]));
    }
    before = offsets[i];
  }
}

}  // namespace

Problem check(const GroupedGemmDescriptor& g, Device device, int alignment, const GroupedGemmArguments& args) {
  const Epilogue& e = g.epilogue;
  const bool over_m = g.over == GroupedOver::m;
  const int64_t halves = e.gate == Gate::interleaved ? 2 : 1, b_batch = over_m ? g.groups : 1;
  const int b_rank = over_m ? 3 : 2;
  const Matrix a{"a", g.m, g.k, 1, a_is_row_major(g.layout), false, g.a, 2};
  const Matrix b{"b", g.k, halves * g.n, b_batch, b_is_row_major(g.layout), false, g.b, b_rank};
  const Matrix b2{"b2", g.k, g.n, b_batch, b.row_major, false, g.b, b_rank};
  const Matrix d{"d", g.m, g.n, over_m ? 1 : g.groups, true, false, g.d, over_m ? 2 : 3};
  const Matrix bias{"bias", g.groups, halves * g.n, 1, true, false, g.bias, 2};
  const Matrix bias2{"bias2", g.groups, g.n, 1, true, false, g.bias, 2};
  const Matrix column_scale{"column_scale", g.groups, g.n, 1, true, false, DType::f32, 2};
  const Vector row_scale{"row_scale", g.m, false, DType::f32};
  const Vector offsets{"offsets", g.groups + 1, false, DType::i32};

  check_scalar("alpha", args.alpha);
  const Placed pa = place(a, device, alignment, args.a);
  const Placed pb = place(b, device, alignment, args.b);
  const Placed pd = place(d, device, 1, args.d);
  check_given("offsets", args.offsets);
  check_fixed_type("offsets", DType::i32, args.offsets);
  const Placed poffsets = place(offsets, device, args.offsets);
  Inputs inputs;
  inputs.add(a, pa);
  inputs.add(b, pb);
  inputs.add(offsets, poffsets);

  Placed pb2, pbias, pbias2, pcolumn, prow;
  if (e.gate == Gate::separate) {
    pb2 = place(b2, device, alignment, args.b2);
    inputs.add(b2, pb2);
  } else {
    check_absent("b2", "gate='separate'", args.b2);
  }
  if (e.bias != BiasOver::none) {
    pbias = place(bias, device, 1, args.bias);
    inputs.add(bias, pbias);
  } else {
    check_absent("bias", "bias=True", args.bias);
  }
  if (e.bias != BiasOver::none && e.gate == Gate::separate) {
    pbias2 = place(bias2, device, 1, args.bias2);
    if (pbias2.ld != pbias.ld) {
      throw LayoutMismatch(text("operand bias2: the strides of bias required, ", pbias.ld,
                                " elements from group to group, got ", pbias2.ld, "; pass contiguous copies of both"));
    }
    inputs.add(bias2, pbias2);
  } else {
    check_absent("bias2", "bias=True, gate='separate'", args.bias2);
  }
  if (e.row_scale) {
    prow = place(row_scale, device, args.row_scale);
    inputs.add(row_scale, prow);
  } else {
    check_absent("row_scale", "row_scale=True", args.row_scale);
  }
  if (e.column_scale) {
    pcolumn = place(column_scale, device, 1, args.column_scale);
    inputs.add(column_scale, pcolumn);
  } else {
    check_absent("column_scale", "column_scale=True", args.column_scale);
  }
  if (device.type == DeviceType::cpu) check_offsets(g, static_cast<const std::int32_t*>(poffsets.data));
  if (g.m > 0 && g.n > 0 && g.groups > 0) {
    check_writable("d", args.d);
    check_elements_apart("d", footprint(d, pd), args.d);
    inputs.check_apart(d, pd, "; pass an output with memory of its own");
  }

  Problem p{};
  p.m = g.m;
  p.n = g.n;
  p.k = g.k;
  p.batch = g.groups;
  p.a = pa.data;
  p.b = pb.data;
  p.b2 = pb2.data;
  p.bias = pbias.data;
  p.bias2 = pbias2.data;
  p.d = const_cast<void*>(pd.data);
  p.row_scale = static_cast<const float*>(prow.data);
  p.column_scale = static_cast<const float*>(pcolumn.data);
  p.lda = pa.ld;
  p.ldb = pb.ld;
  p.ldb2 = pb2.ld;
  p.ldd = pd.ld;
  p.batch_b = pb.batch_stride;
  p.batch_b2 = pb2.batch_stride;
  p.batch_d = pd.batch_stride;
  p.alpha = args.alpha;
  p.operand = g.a;
  p.d_type = p.c_type = p.residual_type = p.aux_type = g.d;
  p.bias_type = g.bias;
  p.activation = e.activation;
  p.offsets = static_cast<const std::int32_t*>(poffsets.data);
  p.grouped_over = g.over;
  p.batch_bias = pbias.ld;
  p.batch_column_scale = pcolumn.ld;
  p.c_step = p.residual_step = p.aux_step = 1;
  set_gate(p, e.gate, b.row_major);
  return p;
}

}  // namespace gemm

GroupedGemmPlan::GroupedGemmPlan(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

GroupedGemmPlan GroupedGemmPlan::select(const GroupedGemmDescriptor& descriptor, Device device,
                                        const PlanPreference& preference) {
  gemm::check(descriptor);
  const GroupedGemmDescriptor g = gemm::resolve(descriptor);
  if (preference.batch_invariant && descriptor.alignment == 0 && !gemm::a_is_row_major(g.layout)) {
    throw Unsupported(
        "batch_invariant: an explicit alignment required with a column-major a, whose own alignment depends on m; select "
        "with alignment=16, or less");
  }
  return GroupedGemmPlan(std::make_shared<Impl>(Impl{g, gemm::select(gemm::request(g), device, preference)}));
}

void GroupedGemmPlan::can_implement(const GroupedGemmArguments& arguments) const {
  gemm::check(impl_->descriptor, device(), impl_->selection.kernel->alignment, arguments);
}

std::size_t GroupedGemmPlan::workspace_size() const noexcept { return impl_->selection.workspace_bytes; }
const KernelSku& GroupedGemmPlan::sku() const noexcept { return impl_->selection.sku; }
const PrecisionGuarantee& GroupedGemmPlan::precision_guarantee() const noexcept { return impl_->selection.precision; }
const GroupedGemmDescriptor& GroupedGemmPlan::descriptor() const noexcept { return impl_->descriptor; }
Device GroupedGemmPlan::device() const noexcept { return impl_->selection.device; }
const PlanPreference& GroupedGemmPlan::preference() const noexcept { return impl_->selection.preference; }

void GroupedGemmPlan::run(const GroupedGemmArguments& arguments, Stream stream, Workspace workspace) const {
  const gemm::Selection& s = impl_->selection;
  const gemm::Problem problem = gemm::check(impl_->descriptor, s.device, s.kernel->alignment, arguments);
  check_workspace(workspace, s.workspace_bytes);
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  s.run(problem, stream, workspace);
}

GroupedGemmDescriptor describe(const GroupedGemmArguments& args, const Epilogue& epilogue) {
  using namespace gemm;
  check_rank("a", args.a, 2, 2);
  check_rank("b", args.b, 2, 3);
  GroupedGemmDescriptor g;
  g.over = args.b.rank == 3 ? GroupedOver::m : GroupedOver::k;
  const bool over_m = g.over == GroupedOver::m;
  if (over_m) {
    g.groups = args.b.shape[0];
  } else if (args.d.present()) {
    check_rank("d", args.d, 3, 3);
    g.groups = args.d.shape[0];
  } else {
    check_rank("offsets", args.offsets, 1, 1);
    g.groups = args.offsets.shape[0] - 1;
  }
  g.m = args.a.shape[0];
  g.k = args.a.shape[1];
  g.n = args.b.shape[args.b.rank - 1];
  g.a = args.a.dtype;
  g.b = args.b.dtype;
  g.d = args.d.present() ? args.d.dtype : g.a;
  g.bias = args.bias.dtype;
  // Where both orders fit, that which kernels with groups read.
  const bool a_row = reads_row_major(args.a, over_m), b_row = reads_row_major(args.b);
  g.layout = layout_of(a_row, b_row, true);
  g.alignment = std::min(alignment_of("a", args.a, a_row), alignment_of("b", args.b, b_row));
  if (args.b2.present()) {
    check_rank("b2", args.b2, 3, 3);
    g.alignment = std::min(g.alignment, alignment_of("b2", args.b2, b_row));
  }
  Epilogue& e = g.epilogue;
  e.bias = args.bias.present() ? BiasOver::n : BiasOver::none;
  e.row_scale = args.row_scale.present();
  e.column_scale = args.column_scale.present();
  e.activation = epilogue.activation;
  e.gate = gate_of(args.b2, epilogue.gate, &g.n);
  return g;
}

std::vector<KernelSku> grouped_gemm_kernels(const GroupedGemmDescriptor& descriptor, const DeviceProperties& properties,
                                            const PlanPreference& preference) {
  gemm::check(descriptor);
  const gemm::Request request = gemm::request(gemm::resolve(descriptor));
  std::vector<gemm::Choice> choices = gemm::rank(request, properties, preference, nullptr);
  gemm::apply_tuning(choices, request, properties, preference, nullptr);
  std::vector<KernelSku> skus;
  for (const gemm::Choice& choice : choices) skus.push_back(gemm::sku(*choice.kernel, choice.split_k, request));
  return skus;
}

}  // namespace cutplan
