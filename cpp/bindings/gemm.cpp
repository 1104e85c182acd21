// Matrix products: Epilogue, the descriptors, GemmPlan and GroupedGemmPlan.
#include "gemm/operands.hpp"

namespace cutplan {

/// What tensors do not tell.
struct GemmOptions : Epilogue {
  WeightPacking weights;
  OutColumns out_columns = {};
};
inline GemmDescriptor describe(const GemmArguments& arguments, const GemmOptions& options) {
  return describe(arguments, options, options.weights, options.out_columns);
}
inline GroupedGemmDescriptor describe(const GroupedGemmArguments& arguments, const GemmOptions& options) {
  return describe(arguments, options, options.weights);
}

}  // namespace cutplan

#include "plans.hpp"

namespace cutplan::bindings {

template <>
inline constexpr auto fields<WeightPacking> = std::make_tuple(
    field("format", &WeightPacking::format, "None: b is no packed weight."), field("n", &WeightPacking::n, "Columns."),
    field("group_size", &WeightPacking::group_size), field("scale", &WeightPacking::scale, "Type of scales and zeros."),
    field("zero", &WeightPacking::zero, "Whether there are zeros."),
    field("permutation", &WeightPacking::permutation, "Whether rows have an order of their own."));

template <>
inline constexpr auto fields<Epilogue> = std::make_tuple(
    field("bias", &Epilogue::bias, "\"n\": one value per column of D; \"m\": one per row."),
    field("c", &Epilogue::c, "A matrix of D's shape, scaled by beta."),
    field("residual", &Epilogue::residual, "A matrix of D's shape, added last."),
    field("row_scale", &Epilogue::row_scale, "A float32 factor per row of D."),
    field("column_scale", &Epilogue::column_scale, "A float32 factor per column of D."),
    field("activation", &Epilogue::activation),
    field("aux", &Epilogue::aux,
          "\"store\": the value before the activation is written; \"gradient\": the activation's derivative there is a "
          "factor."),
    field("gate", &Epilogue::gate, "\"separate\" or \"interleaved\"."),
    field("out_scale", &Epilogue::out_scale, "D, int8 or float8, is divided by one float32 number."),
    field("amax", &Epilogue::amax, "Of quantised operands: the greatest abs(D), before out_scale, is written."));

template <>
inline constexpr auto fields<GemmDescriptor> = std::make_tuple(
    required("m", &GemmDescriptor::m), required("n", &GemmDescriptor::n), required("k", &GemmDescriptor::k),
    required("a", &GemmDescriptor::a), settled("b", &GemmDescriptor::b), settled("d", &GemmDescriptor::d),
    field("layout", &GemmDescriptor::layout), field("epilogue", &GemmDescriptor::epilogue),
    field("batch", &GemmDescriptor::batch), field("c", &GemmDescriptor::c, "None: D's type."),
    field("bias", &GemmDescriptor::bias, "None: D's type."), field("residual", &GemmDescriptor::residual, "None: D's type."),
    field("aux", &GemmDescriptor::aux, "None: D's type."),
    field("out_columns", &GemmDescriptor::out_columns,
          "Columns of up to four outputs that D is cut into, n in all, all but the last multiples of 8; (): one D."),
    field("d2", &GemmDescriptor::d2, "Of the second output; None: D's type."),
    field("d3", &GemmDescriptor::d3, "Of the third output; None: D's type."),
    field("d4", &GemmDescriptor::d4, "Of the fourth output; None: D's type."),
    field("alignment", &GemmDescriptor::alignment, "Bytes; 0: what contiguous operands of these extents have, 16 at most."),
    field("a_scale", &GemmDescriptor::a_scale, "\"tensor\", \"row\" or \"group\": scales of a quantised A."),
    field("b_scale", &GemmDescriptor::b_scale, "\"tensor\", \"column\", \"group\" or \"block\": scales of a quantised B."),
    field("a_zero", &GemmDescriptor::a_zero, "\"tensor\" or \"row\": zeros of an int8 A."),
    field("b_zero", &GemmDescriptor::b_zero, "\"tensor\" or \"column\": zeros of an int8 B."),
    field("weights", &GemmDescriptor::weights, "B and b2 are packed weights."));

template <>
inline constexpr auto fields<GroupedGemmDescriptor> =
    std::make_tuple(required("groups", &GroupedGemmDescriptor::groups), required("m", &GroupedGemmDescriptor::m),
                    required("n", &GroupedGemmDescriptor::n), required("k", &GroupedGemmDescriptor::k),
                    required("a", &GroupedGemmDescriptor::a), settled("b", &GroupedGemmDescriptor::b),
                    settled("d", &GroupedGemmDescriptor::d),
                    field("over", &GroupedGemmDescriptor::over, "\"m\" or \"k\": the extent that the groups share out."),
                    field("layout", &GroupedGemmDescriptor::layout), field("epilogue", &GroupedGemmDescriptor::epilogue),
                    field("bias", &GroupedGemmDescriptor::bias, "None: D's type."),
                    field("alignment", &GroupedGemmDescriptor::alignment,
                          "Bytes; 0: what contiguous operands of these extents have, 16 at most."),
                    field("a_scale", &GroupedGemmDescriptor::a_scale, "As in GemmDescriptor."),
                    field("b_scale", &GroupedGemmDescriptor::b_scale, "As in GemmDescriptor."),
                    field("weights", &GroupedGemmDescriptor::weights, "As in GemmDescriptor."));

template <>
inline constexpr auto fields<GemmSupport> =
    std::make_tuple(field("arch", &GemmSupport::arch), settled("operand", &GemmSupport::operand, "Type of A."),
                    settled("operand_b", &GemmSupport::operand_b, "Type of B."),
                    field("d", &GemmSupport::d, "Output types."), field("layouts", &GemmSupport::layouts),
                    field("minimum_compute_capability", &GemmSupport::minimum_compute_capability, "0: none needed."),
                    field("note", &GemmSupport::note));

void settle(GemmDescriptor& g, const Keywords&) {
  if (g.weights.format) g.b = DType::u8;
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = gemm::default_result(g);
}
void settle(GroupedGemmDescriptor& g, const Keywords&) {
  if (g.weights.format) g.b = DType::u8;
  if (g.b == DType::none) g.b = g.a;
  if (g.d == DType::none) g.d = gemm::default_result(g);
}

template <>
struct Face<GemmPlan> : PlainFace {
  using A = GemmArguments;
  using Options = GemmOptions;
  static constexpr char name[] = "GemmPlan", family[] = "gemm", call[] = "gemm", kernels[] = "gemm_kernels",
                        describe[] = "describe", result_type_name[] = "out_dtype";
  static constexpr const auto& operands = gemm::operands;
  static constexpr auto scalars = std::make_tuple(field("alpha", &A::alpha), field("beta", &A::beta));
  static constexpr auto options = std::make_tuple(
      field("activation", &Epilogue::activation), field("aux_mode", &Epilogue::aux), field("gate", &Epilogue::gate),
      field("weights", &GemmOptions::weights), field("out_columns", &GemmOptions::out_columns));
  static constexpr auto like = &A::a, result = &A::d;
  static constexpr auto result_type = &GemmDescriptor::d;

  /// Several outputs are a list.
  static const char* called(std::size_t operand, const A& x, const GemmOptions& o) {
    if (!x.d2.present() && o.out_columns[0] == 0) return nullptr;
    constexpr TensorView A::* outputs[] = {&A::d, &A::d2, &A::d3, &A::d4};
    constexpr const char* names[] = {"out[0]", "out[1]", "out[2]", "out[3]"};
    for (std::size_t i = 0; i < std::size(outputs); ++i) {
      if (operands[operand].member == outputs[i]) return names[i];
    }
    return nullptr;
  }

  /// Batches of rows over one b are more rows. What has other columns than the product, matmul() refuses by its whole shape.
  static bool fold(A& x, const GemmOptions& e) {
    // What a reduction with keepdim=True leaves of rows and columns, [m, 1] and [1, n].
    const auto squeeze = [](TensorView& t, const TensorView& of, int lines, int dimension) {
      if (t.rank != of.rank || of.rank < 2) return;
      if (t.shape[dimension] != 1 || t.shape[lines] != of.shape[lines]) return;
      for (int i = dimension; i + 1 < t.rank; ++i) t.shape[i] = t.shape[i + 1], t.strides[i] = t.strides[i + 1];
      --t.rank;
    };
    for (TensorView* t : {&x.a_scale, &x.a_zero}) squeeze(*t, x.a, x.a.rank - 2, x.a.rank - 1);
    for (TensorView* t : {&x.b_scale, &x.b2_scale, &x.b_zero}) squeeze(*t, x.b, x.b.rank - 1, x.b.rank - 2);
    const bool is_packed = e.weights.format.has_value();
    const std::int64_t columns = is_packed ? e.weights.n : x.b.rank == 2 ? x.b.shape[1] : 0;
    if (x.a.rank < 3 || x.b.rank != (is_packed ? 1 : 2) || x.row_scale.present() || (x.bias.present() && x.bias.rank != 1))
      return false;
    for (const TensorView* t : {&x.a_scale, &x.a_zero}) {
      if (t->present() && (t->rank > 1 || (t->rank == 1 && t->shape[0] != 1)))
        return false;  // of rows: matmul() lays them out
    }
    TensorView* const all[] = {&x.a, &x.c, &x.residual, &x.aux, &x.d, &x.d2, &x.d3, &x.d4};
    const std::size_t outputs = e.out_columns[0] != 0 || x.d2.present() ? 4 : std::size(all);  // each of its own columns
    TensorView views[std::size(all)];
    for (std::size_t i = 0; i < std::size(all); ++i) {
      const TensorView& t = *all[i];
      views[i] = t;
      if (!t.present()) continue;
      if (t.rank != x.a.rank) return false;
      if (i > 0 && i < outputs && t.shape[t.rank - 1] * gemm::halves(e) != columns) return false;
      std::int64_t count = 1, step = 0;
      for (int dimension = t.rank - 2; dimension >= 0; --dimension) {
        const std::int64_t extent = t.shape[dimension], stride = t.strides[dimension];
        if (extent == 1 && x.a.shape[dimension] == 1) continue;
        if (extent != x.a.shape[dimension] || extent == 0 || stride <= 0 || (count > 1 && stride != count * step))
          return false;
        if (count == 1) step = stride;
        count *= extent;
      }
      TensorView& view = views[i];
      view.rank = 2;
      view.shape[0] = count;
      view.strides[0] = step == 0 ? t.shape[t.rank - 1] : step;
      view.shape[1] = t.shape[t.rank - 1];
      view.strides[1] = t.strides[t.rank - 1];
    }
    for (std::size_t i = 0; i < std::size(all); ++i) *all[i] = views[i];
    return true;
  }

  /// Two matrices, or two batches of one length, that nothing has to be broadcast to, nor can be made one longer matrix of: what
  /// else there is, matmul() lays out.
  static bool serves(const A& x) {
    const int rank = x.a.rank;
    if (x.b.rank == 1 && x.b.dtype == DType::u8) return rank == 2;  // packed weights
    if (!x.a.present() || x.b.rank != rank || (rank != 2 && rank != 3)) return false;
    if (x.a.shape[rank - 1] != x.b.shape[rank - 2]) return false;
    for (const TensorView* t : {&x.b2, &x.c, &x.residual, &x.d, &x.d2, &x.d3, &x.d4, &x.aux}) {
      if (t->present() && t->rank != rank) return false;
    }
    for (const TensorView* t : {&x.c, &x.residual}) {
      if (t->present() && (t->shape[rank - 2] != x.a.shape[rank - 2] || t->shape[rank - 1] != x.b.shape[rank - 1]))
        return false;
    }
    if (rank == 2) return true;
    for (const TensorView* t : {&x.a, &x.b, &x.b2, &x.c, &x.residual, &x.d, &x.d2, &x.d3, &x.d4, &x.aux}) {
      if (t->present() && (t->shape[0] != x.a.shape[0] || t->shape[0] < 2 || t->strides[0] <= 0)) return false;
    }
    return true;
  }
  static bool keeps_batch(const A& x) { return x.a.rank == 3 || x.b.rank == 3; }
  /// The alignment is that of contiguous operands: that of a's rows, one row does not tell. Nor does it tell that the others
  /// would be columns of what lies in memory.
  static void forget_rows(GemmDescriptor& g) {
    if (!gemm::a_is_row_major(g.layout)) {
      throw Unsupported(
          "operand a: row-major required with batch_invariant, got a column-major one, whose rows alone would not be; pass "
          "one "
          "that is contiguous");
    }
    g.alignment = 0;
  }
};

template <>
struct Face<GroupedGemmPlan> : PlainFace {
  using A = GroupedGemmArguments;
  using Options = GemmOptions;
  static constexpr char name[] = "GroupedGemmPlan", family[] = "gemm", call[] = "grouped_gemm",
                        kernels[] = "grouped_gemm_kernels", describe[] = "describe_grouped",
                        result_type_name[] = "out_dtype";
  static constexpr const auto& operands = gemm::grouped_operands;
  static constexpr auto scalars = std::make_tuple(field("alpha", &A::alpha));
  static constexpr auto options = std::make_tuple(field("activation", &Epilogue::activation), field("gate", &Epilogue::gate),
                                                  field("weights", &GemmOptions::weights));
  static constexpr auto like = &A::a, result = &A::d;
  static constexpr auto result_type = &GroupedGemmDescriptor::d;

  /// Groups over k have as many rows as the weights whose gradients they are.
  static void forget_rows(GroupedGemmDescriptor& g) {
    if (g.over == GroupedOver::m) g.alignment = 0;
  }
};

void bind_gemm(nb::module_& m) {
  bind_value<Epilogue>(
      m, "Epilogue",
      "What is done to A B before it is stored.\n\n"
      "    x = alpha row_scale_i column_scale_j (A B)_ij + beta C_ij + bias\n"
      "    D = activation(x) + residual                                  aux=\"store\": also writes x to aux\n"
      "    D = x activation'(aux) + residual                             aux=\"gradient\", for a backward pass\n"
      "    D = activation(x) x2 + residual                               gated: x2 is x of b2 and bias2",
      "`bias` is True or \"n\" for one value per column of D, \"m\" for one per row. `aux` is \"store\" or \"gradient\". "
      "`gate`\n"
      "is \"separate\", with B and b2 two matrices, or \"interleaved\", with the columns of both taking turns in one B [k, "
      "2 n].");
  bind_value<WeightPacking>(m, "WeightPacking", "What packed weights, a product's b, hold: as their header says.",
                            "Fields are those of PackedWeights.");
  bind_value<GemmDescriptor>(
      m, "GemmDescriptor", "One problem: D [m, n] = epilogue(A [m, k] B [k, n]), `batch` times. Epilogue has the formula.",
      "B's and D's types are A's unless given; those of C, bias, residual and aux are D's. `alignment` is in bytes and\n"
      "covers A's and B's addresses, leading dimensions and batch strides; None takes what contiguous operands have, 16 at\n"
      "most.");
  bind_value<GroupedGemmDescriptor>(
      m, "GroupedGemmDescriptor",
      "`groups` products of different sizes, which lie in device memory: offsets, int32 [groups + 1].\n\n"
      "Over m: rows offsets[g] to offsets[g + 1] of A times B[g] are those rows of D; `m` counts the rows of all. Over k:\n"
      "columns offsets[g] to offsets[g + 1] of A times those rows of B are D[g]; `k` counts the columns of all.",
      "`over` is \"m\" or \"k\". Types and alignment are as in GemmDescriptor. Over m an epilogue may have a bias over n, "
      "scales,\n"
      "an activation and a gate; over k nothing. Over m A is row-major, over k the layout is crr.");
  bind_record<GemmSupport>(m, "GemmSupport", "One row of the support table: what a kernel family serves.");
  m.def("gemm_support", &gemm_support, "The rows of the support table that this build holds.");
  m.def("gemm_registry", &gemm_registry, "Every GEMM kernel of this build.");

  CallsOf<GemmPlan>::bind(
      m, "A kernel chosen for one descriptor and device. Holds no device memory; safe to share between threads.",
      "D = epilogue(A B), written into `d`; Epilogue has the formula.\n\n"
      "Shapes: a [m, k], b and b2 [k, n] (an interleaved b [k, 2 n]), c, d, residual and aux [m, n]; bias and bias2 [n] "
      "(an\n"
      "interleaved bias [2 n]), a bias over m [m, 1]; row_scale [m] and column_scale [n], float32. With batch > 1 matrices\n"
      "have a leading dimension of `batch`, which all but d and a stored aux may leave out or give stride 0; vectors are\n"
      "shared by the batch. beta is 1 if c is given.\n\n"
      "Enqueues on `stream` (None: the current stream of d's library) and returns; on the host it computes before it\n"
      "returns. With an explicit stream the caller has ordered the operands before it. `workspace` is any contiguous "
      "tensor\n"
      "of at least workspace_size bytes, 256-byte aligned.\n\n"
      "Raises the error that names the operand at fault, and writes nothing then: MissingOperand, DTypeMismatch,\n"
      "ShapeMismatch, LayoutMismatch, DeviceMismatch, Misaligned, ReadOnly, Overlap, WorkspaceTooSmall, InvalidProblem "
      "(NaN\n"
      "alpha, or one that float32 cannot hold), ExportRefused (a tensor that requires grad), DeviceError.",
      "The descriptor that these operands fit: extents, layout, types and alignment read off the tensors.\n\n"
      "A bias [n] is one value per column of D, a bias [m, 1] one per row. `aux_mode` says what aux is for, \"store\" or\n"
      "\"gradient\"; b2 makes the gate \"separate\"; a b that holds the columns of both needs gate=\"interleaved\".");
  CallsOf<GroupedGemmPlan>::bind(
      m, "A kernel for products of different sizes, chosen for one descriptor and device. The host never reads the sizes.",
      "One product per group, written into `d`.\n\n"
      "Shapes over m: a [m, k], b and b2 [groups, k, n] (an interleaved b [groups, k, 2 n]), d [m, n], bias and bias2\n"
      "[groups, n] (an interleaved bias [groups, 2 n]), row_scale [m] and column_scale [groups, n], float32. Over k: a [m, "
      "k],\n"
      "b [k, n], d [groups, m, n]. offsets: int32 [groups + 1], on the operands' device.\n\n"
      "Over m, rows of d outside the groups are not written; over k an empty group gives zeros. Offsets are not read by "
      "the\n"
      "host, so that a CUDA graph can replay with other sizes: they must not decrease, and lie within the extent. A kernel\n"
      "clamps what breaks that; the host backend raises InvalidProblem. Stream, workspace and other errors are "
      "GemmPlan.run's.",
      "The descriptor that these operands fit: over m where b has three dimensions, over k where d has.\n\n"
      "`offsets` are not read, only counted. b2 makes the gate \"separate\"; a b that holds the columns of both needs "
      "gate=\"interleaved\".");
}

}  // namespace cutplan::bindings
