// Plans in Python, each from its family's table of operands: signatures, imports, run(), can_implement(), what describes and what
// measures; and the call behind the functional face, which describes, finds the plan, allocates and runs.
//
// nanobind matches keywords to arguments itself: a function here takes a pack of handles, one for each operand, so that nothing
// is looked up by name on the way of a call.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common.hpp"
#include "core/operands.hpp"
#include "dlpack.hpp"
#include "fields.hpp"
#include "functions.hpp"

namespace cutplan::bindings {

/// What the bindings have to be told of a plan beside its table. Specialised in the family's file:
///   name, family       "GemmPlan"; the kernels that it chooses among: "gemm"
///   call, kernels      in whose names functions of the module end and begin: "gemm" of call_gemm; "gemm_kernels"
///   describe           name of the function that describes; "": there is none
///   operands           the table
///   scalars, options   fields of Arguments; of Options, which holds what tensors do not tell a descriptor
///   like, result       the operand that a call's results resemble; the one that the caller may give as `out`
///   result_called      the function's argument for the result
///   called(operand, arguments, options)   what the caller of a function calls an operand; null: by the table's name
///   result_type        the descriptor's member for the result's type; result_type_name: the argument that sets it
///   fold(arguments, options)        makes one matrix of what has further dimensions, where that is the same; whether it has
///   serves(arguments)               whether one run computes what the function is asked for
///   resembles(operand, arguments)   the operand whose shape and type a result has; null: those of its rule
///   keeps_batch(arguments)          whether a result has the leading dimension of its rule that may be left out
///   settle(options, handles...)     what options say together
///   forget_rows(descriptor)         for batch invariance: what the number of rows tells; throws where it tells too much
///   asked_by(operand)               the function's argument, a bool, that asks for a result; null: no argument does
template <typename P>
struct Face;

/// What is so in most families.
struct PlainFace {
  static constexpr char describe[] = "", result_called[] = "out";
  static constexpr auto scalars = std::make_tuple();

  template <typename Arguments, typename Options>
  static bool fold(Arguments&, const Options&) {
    return false;
  }
  template <typename Arguments>
  static bool serves(const Arguments&) {
    return true;
  }
  template <typename Arguments, typename Options>
  static const char* called(std::size_t, const Arguments&, const Options&) {
    return nullptr;
  }
  template <typename Arguments>
  static const TensorView* resembles(std::size_t, const Arguments&) {
    return nullptr;
  }
  template <typename Arguments>
  static bool keeps_batch(const Arguments&) {
    return true;
  }
  template <typename Options, typename... Handles>
  static void settle(Options&, Handles...) {}
  template <typename Descriptor>
  static void forget_rows(Descriptor&) {}
  static const char* asked_by(std::size_t) { return nullptr; }
};

template <typename P>
struct PlanTypes;
template <typename D, typename A>
struct PlanTypes<Plan<D, A>> {
  using Descriptor = D;
  using Arguments = A;
};

template <typename P, typename OperandIndices, typename ScalarIndices, typename OptionIndices>
class Calls;

template <typename P, std::size_t... I, std::size_t... S, std::size_t... O>
class Calls<P, std::index_sequence<I...>, std::index_sequence<S...>, std::index_sequence<O...>> {
  using F = Face<P>;
  using Descriptor = typename PlanTypes<P>::Descriptor;
  using Arguments = typename PlanTypes<P>::Arguments;
  using Options = typename F::Options;
  template <std::size_t>
  using Handle = nb::handle;
  static constexpr std::size_t count = sizeof...(I);
  using Handles = std::array<nb::handle, count>;
  static constexpr const auto& operands = F::operands;

 public:
  static void bind(nb::module_& m, const char* doc, const char* run_doc, const char* describe_doc) {
    nb::class_<P> plan(m, F::name, doc);
    bind_plan(plan, run_doc);
    bind_state(plan);
    if constexpr (F::describe[0] != 0) {
      def(m, F::describe, &describe_operands, std::tuple_cat(operand_arguments(), option_arguments()),
          "(" + operand_parameters(true) + option_parameters() + ") -> " + class_of<Descriptor>(), describe_doc);
    }
    def(m, F::kernels, &kernels,
        std::make_tuple(nb::arg("descriptor"), nb::arg("properties"), nb::arg("preference") = nb::none()),
        "(descriptor: " + class_of<Descriptor>() +
            ", properties: cutplan.DeviceProperties, preference: cutplan.PlanPreference | None = None) -> "
            "list[cutplan.KernelSku]",
        "The kernels that can serve `descriptor` on a device of these properties, best first. No device is touched.");
    bind_measuring(m, F::family);
    // All may be given by position: of more than 15 names CPython makes a dict.
    def(m, keep(std::string("call_") + F::call), &call,
        std::tuple_cat(
            std::make_tuple(nb::arg(operands[I].name) = nb::none()...), scalar_arguments(), option_arguments(),
            std::make_tuple(nb::arg("out_dtype") = nb::none(), nb::arg("deterministic") = nb::none(),
                            nb::arg("preference") = nb::none(), nb::arg("stream") = nb::none(), nb::arg("math") = nb::none(),
                            nb::arg("names") = nb::none(), nb::arg("whole") = nb::none())),
        "(*args: typing.Any, **kwargs: typing.Any) -> typing.Any",
        "What the functions of the package run: describes the operands, finds the plan, makes the results that are not\n"
        "given (of optional ones those that a bool in their place asks for), and runs. Returns the plan and the results;\n"
        "None where one run cannot compute what is asked for. `names` is what the caller calls operands, for errors: who\n"
        "gives them has laid the operands out for one run. `whole`, of the first of several runs, has the operands of all\n"
        "of them: what outputs share memory with is refused before any.");
  }

 private:
  // ---- signatures ----

  template <typename T>
  static std::string class_of() {
    return "cutplan." + nb::cast<std::string>(nb::type<T>().attr("__name__"));
  }

  /// `outputs_optional`: of a function that makes what is not given.
  static std::string operand_parameters(bool outputs_optional) {
    constexpr char tensor[] = "cutplan._typing.Tensor";
    std::string all;
    bool positional = true;
    for (const auto& operand : operands) {
      if (positional && !operand.positional) all += ", *";
      positional = operand.positional;
      const bool optional = !positional || (outputs_optional && operand.member == F::result);
      // Before one that is required there is no default.
      const bool defaults = !positional || result_index() + 1 == positional_count();
      all += std::string(all.empty() ? "" : ", ") + operand.name + ": " + tensor +
             (!optional  ? ""
              : defaults ? " | None = None"
                         : " | None");
    }
    return all;
  }
  template <typename Fields, typename T>
  static std::string parameters_of(const Fields& fields, const T& without) {
    std::string all;
    std::apply(
        [&](const auto&... f) {
          ((all += std::string(", ") + f.name + ": " + As<typename std::decay_t<decltype(f)>::Member>::argument() +
                   " | None = " + repr_of(default_of(without.*f.member))),
           ...);
        },
        fields);
    return all;
  }
  static std::string scalar_parameters() { return parameters_of(F::scalars, Arguments()); }
  static std::string option_parameters() { return parameters_of(F::options, Options()); }

  static auto operand_arguments() {
    const auto one = [](std::size_t i) { return nb::arg(operands[i].name) = nb::none(); };
    constexpr std::size_t positional = positional_count();
    return split<positional>(one, std::make_index_sequence<positional>(), std::make_index_sequence<count - positional>());
  }
  static constexpr std::size_t positional_count() {
    std::size_t n = 0;
    while (n < count && operands[n].positional) ++n;
    return n;
  }
  static constexpr bool all_positional() { return positional_count() == count && sizeof...(S) == 0; }
  template <std::size_t kFirst, typename One, std::size_t... A, std::size_t... B>
  static auto split(const One& one, std::index_sequence<A...>, std::index_sequence<B...>) {
    if constexpr (all_positional()) {
      return std::make_tuple(one(A)...);
    } else {
      return std::make_tuple(one(A)..., nb::kw_only(), one(kFirst + B)...);
    }
  }
  static auto scalar_arguments() { return std::make_tuple(nb::arg(std::get<S>(F::scalars).name) = nb::none()...); }
  static auto option_arguments() { return std::make_tuple(nb::arg(std::get<O>(F::options).name) = nb::none()...); }
  static auto launch_arguments() {
    if constexpr (all_positional()) {
      return std::make_tuple(nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("workspace") = nb::none());
    } else {
      return std::make_tuple(nb::arg("stream") = nb::none(), nb::arg("workspace") = nb::none());
    }
  }

  template <typename Scope, typename Function, typename Arguments_>
  static void def(Scope& scope, const char* name, Function function, const Arguments_& arguments,
                  const std::string& signature, const char* doc) {
    std::apply([&](const auto&... a) { scope.def(name, function, a..., nb::sig(keep("def " + (name + signature))), doc); },
               arguments);
  }

  // ---- what is imported ----

  template <typename Names_>
  static void import(Importer& importer, const Handles& handles, const Names_& names, Arguments& arguments,
                     nb::handle workspace = nb::none(), TensorView* scratch = nullptr) {
    (importer.import(handles[I], names[I], arguments.*operands[I].member), ...);
    if (scratch != nullptr) importer.import(workspace, "workspace", *scratch);
    if (!importer.is_stale()) return;
    for (std::size_t i = 0; i < count; ++i) {
      if (framework_of(handles[i]) == Framework::torch) importer.import(handles[i], names[i], arguments.*operands[i].member);
    }
    if (scratch != nullptr && framework_of(workspace) == Framework::torch) importer.import(workspace, "workspace", *scratch);
  }
  struct OwnNames {
    const char* operator[](std::size_t i) const { return operands[i].name; }
  };
  template <typename Fields, typename T, typename... H>
  static void parse(const Fields& fields, T& to, H... given) {
    std::apply(
        [&](const auto&... f) {
          const auto one = [&](const auto& field, nb::handle value) {
            using M = typename std::decay_t<decltype(field)>::Member;
            if (!value.is_none()) to.*field.member = As<M>::parse(Where{nullptr, field.name}, value);
          };
          (void)one;
          (one(f, given), ...);
        },
        fields);
  }
  static void mark_outputs(const Handles& handles, std::uint32_t written) {
    nb::handle outputs[most_operands];
    int n = 0;
    for_each_bit(written, [&](std::size_t i) { outputs[n++] = handles[i]; });
    mark_written(outputs, n);
  }
  static constexpr std::size_t result_index() { return index_of(operands, F::result); }

  // ---- the plan ----

  static P select(nb::handle descriptor, nb::handle device, nb::handle preference) {
    if (!nb::isinstance<Descriptor>(descriptor)) {
      throw nb::type_error(
          ("descriptor: a " + class_of<Descriptor>().substr(8) + " required, got " + repr_of(descriptor)).c_str());
    }
    return select(nb::cast<const Descriptor&>(descriptor), to_device(device), to_preference(preference));
  }

  /// Without the GIL: tune='measure' waits for the device, and for measurements of other threads that call Python.
  static P select(const Descriptor& descriptor, Device device, const PlanPreference& preference) {
    std::optional<P> plan;
    {
      const GilRelease release;
      plan = P::select(descriptor, device, preference);
    }
    warn_tuning_problems();
    return *std::move(plan);
  }

  static void run(const P& plan, Handle<I>... given, Handle<S>... scalars, nb::handle stream, nb::handle workspace) {
    const Handles handles{given...};
    Arguments arguments;
    parse(F::scalars, arguments, scalars...);
    Importer importer(plan.device(), stream, handles[result_index()], operands[result_index()].name);
    TensorView scratch;
    import(importer, handles, OwnNames(), arguments, workspace, &scratch);
    run_imported(plan, arguments, importer, scratch);
    mark_outputs(handles, plan.operands().outputs);
  }

  static void run_imported(const P& plan, const Arguments& arguments, Importer& importer, const TensorView& workspace) {
    const Device device = plan.device();
    const Workspace scratch = to_workspace(workspace, device);
    {
      // The host computes here, and a launch waits where the stream's queue is full, perhaps for a callback into Python.
      const GilRelease release;
      plan.run(arguments, importer.stream(), scratch);
    }
    importer.enqueued(device);
  }

  static void can_implement(const P& plan, Handle<I>... given, Handle<S>... scalars) {
    const Handles handles{given...};
    Arguments arguments;
    parse(F::scalars, arguments, scalars...);
    Importer importer;
    import(importer, handles, OwnNames(), arguments);
    if (plan.device().type != DeviceType::cpu || (... && (handles[I].is_none() || !stands_in(handles[I]))))
      return plan.can_implement(arguments);
    // Of lengths and offsets, which the host reads, some are not there to be read: all are taken to be such as may be.
    const Operands& all = plan.operands();
    Places places;
    check(all, operands, arguments, places);
    std::vector<std::int32_t> contents[count];
    for_each_bit(all.with_elements, [&](std::size_t i) {
      const Rule& rule = all.rows.begin()[i].rule;
      if (rule.type != DType::i32) return;
      contents[i].resize(static_cast<std::size_t>(rule.extents[0]));
      if (rule.sample == Sample::even_offsets) contents[i].back() = static_cast<std::int32_t>(rule.most);
      (arguments.*operands[i].member).data = contents[i].data();
    });
    plan.can_implement(arguments);
  }

  static double measure_launch(const P& plan, Handle<I>... given, Handle<S>... scalars, int launches, nb::handle stream,
                               nb::handle workspace) {
    const Handles handles{given...};
    Arguments arguments;
    parse(F::scalars, arguments, scalars...);
    Importer importer(plan.device(), stream, handles[result_index()], operands[result_index()].name);
    TensorView view;
    import(importer, handles, OwnNames(), arguments, workspace, &view);
    const Workspace scratch = to_workspace(view, plan.device());
    const double seconds = [&] {
      const GilRelease release;
      return plan.measure_launch(arguments, launches, importer.stream(), scratch);
    }();
    mark_outputs(handles, plan.operands().outputs);
    return seconds;
  }

  static void bind_plan(nb::class_<P>& plan, const char* run_doc) {
    const std::string self = "(self, " + operand_parameters(false) + scalar_parameters(),
                      launch = std::string(all_positional() ? ", *" : "") +
                               ", stream: cutplan._typing.StreamLike | None = None, "
                               "workspace: cutplan._typing.Tensor | None = None";
    plan.def_static(
        "select", [](nb::handle d, nb::handle device, nb::handle p) { return select(d, device, p); },
        nb::arg("descriptor") = nb::none(), nb::arg("device") = nb::none(), nb::arg("preference") = nb::none(),
        nb::sig(keep("def select(descriptor: " + class_of<Descriptor>() + ", device: cutplan._typing.DeviceLike, " +
                     "preference: cutplan.PlanPreference | None = None) -> cutplan." + F::name)),
        "Chooses a kernel for `descriptor` on `device` (\"cpu\", \"cuda:0\", a DLPack pair, or a tensor on it).\n\n"
        "Raises InvalidProblem or Unsupported with the reason; succeeds only if run() can.");
    def(plan, "run", &run, std::tuple_cat(operand_arguments(), scalar_arguments(), launch_arguments()),
        self + launch + ") -> None", run_doc);
    def(plan, "can_implement", &can_implement, std::tuple_cat(operand_arguments(), scalar_arguments()), self + ") -> None",
        "Raises what run() would raise for these operands; touches no device. A TensorInfo stands for a tensor: lengths "
        "and\n"
        "offsets in host memory, which run() reads, are not read where one of the operands is one.");
    def(plan, "measure_launch", &measure_launch,
        std::tuple_cat(operand_arguments(), scalar_arguments(), std::make_tuple(nb::arg("launches")), launch_arguments()),
        self + ", launches: int" + launch + ") -> float",
        "Host seconds that one bare launch of the plan's kernels takes: the operands are imported and checked once, the\n"
        "kernels are enqueued `launches` times. What run() costs beyond this is cutplan's own.");
    plan.def_prop_ro("workspace_size", &P::workspace_size, "Bytes of scratch that run() needs, 256-byte aligned.")
        .def_prop_ro("sku", &P::sku, nb::rv_policy::reference_internal, "The kernel that runs.")
        .def_prop_ro("precision_guarantee", &P::precision_guarantee, nb::rv_policy::reference_internal,
                     "How exact the results are.")
        .def_prop_ro("descriptor", &P::descriptor, nb::rv_policy::reference_internal)
        .def_prop_ro(
            "device", [](const P& plan) { return to_python(plan.device()); }, nb::sig("def device(self) -> str"),
            "\"cpu\" or \"cuda:N\".")
        .def_prop_ro("preference", &P::preference, nb::rv_policy::reference_internal, "What it was selected with.")
        .def("__repr__", [](const P& plan) {
          return std::string(F::name) + "(" + plan.sku().name + " on " + to_string(plan.device()) + " for " +
                 repr_of(nb::cast(plan.descriptor())) + ")";
        });
  }

  /// A pickle holds what the plan was selected with, and selects again.
  static void bind_state(nb::class_<P>& plan) {
    plan.def(
            "__getstate__",
            [](const P& self) { return nb::make_tuple(self.descriptor(), to_python(self.device()), self.preference()); },
            nb::sig("def __getstate__(self) -> tuple[object, ...]"))
        .def(
            "__setstate__",
            [](P* self, const nb::tuple& state) {
              if (nb::len(state) != 3) throw nb::value_error("a plan's state is (descriptor, device, preference)");
              new (self) P(select(state[0], state[1], state[2]));
            },
            nb::sig("def __setstate__(self, state: tuple[object, ...], /) -> None"));
  }

  // ---- describing, listing, measuring ----

  static Descriptor describe_operands(Handle<I>... given, Handle<O>... options) {
    Importer importer;
    Arguments arguments;
    import(importer, {given...}, OwnNames(), arguments);
    return cutplan::describe(arguments, to_options(options...));
  }

  static Options to_options(Handle<O>... given) {
    Options options;
    parse(F::options, options, given...);
    F::settle(options, given...);
    return options;
  }

  static std::vector<KernelSku> kernels(const Descriptor& descriptor, const DeviceProperties& properties,
                                        std::optional<PlanPreference> preference) {
    return P::kernels(descriptor, properties, preference.value_or(PlanPreference()));
  }

  static void bind_measuring(nb::module_& m, const std::string& family) {
    const std::string descriptor = "(descriptor: " + class_of<Descriptor>(),
                      preference = ", preference: cutplan.PlanPreference | None = None",
                      measuring = ", device: cutplan._typing.DeviceLike" + preference,
                      progress =
                          "progress: collections.abc.Callable[[int, int], object] | None = None) -> "
                          "list[cutplan.KernelMeasurement]";
    def(
        m, keep("measure_" + family),
        [](const Descriptor& d, nb::handle device, std::optional<PlanPreference> p, nb::handle most, nb::object callback) {
          const Device where = to_device(device);
          const int candidates = most.is_none() ? 0 : to_small_integer(Where{nullptr, "candidates"}, most);
          if (candidates < 0)
            throw nb::value_error(("candidates: at least 0 (all) required, got " + std::to_string(candidates)).c_str());
          return measured([&, progress = to_progress(std::move(callback))] {
            return P::measure(d, where, p.value_or(PlanPreference()), candidates, progress);
          });
        },
        std::make_tuple(nb::arg("descriptor"), nb::arg("device"), nb::arg("preference") = nb::none(), nb::kw_only(),
                        nb::arg("candidates") = nb::none(), nb::arg("progress") = nb::none()),
        descriptor + measuring + ", *, candidates: int = 0, " + progress,
        "Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that\n"
        "many, of which the cost model expects most. Groups and packed sequences are of one size. progress(done, total) is\n"
        "called as it goes. Allocates device memory, waits for the device, keeps nothing.\n\n"
        "Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too\n"
        "little memory.");
    def(
        m, keep("tune_" + family),
        [](const Descriptor& d, nb::handle device, std::optional<PlanPreference> p, nb::object callback) {
          const Device where = to_device(device);
          return measured([&, progress = to_progress(std::move(callback))] {
            return P::tune(d, where, p.value_or(PlanPreference()), progress);
          });
        },
        std::make_tuple(nb::arg("descriptor"), nb::arg("device"), nb::arg("preference") = nb::none(), nb::kw_only(),
                        nb::arg("progress") = nb::none()),
        descriptor + measuring + ", *, " + progress,
        "Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the\n"
        "plan's select() to find, in this process and in others. Returns and raises what measuring does.");
    def(
        m, keep("tuned_" + family),
        [](const Descriptor& d, const DeviceProperties& properties, std::optional<PlanPreference> p) {
          return P::tuned(d, properties, p.value_or(PlanPreference()));
        },
        std::make_tuple(nb::arg("descriptor"), nb::arg("properties"), nb::arg("preference") = nb::none()),
        descriptor + ", properties: cutplan.DeviceProperties" + preference + ") -> cutplan.TuningEntry | None",
        "The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;\n"
        "None: the cost model decides.");
  }

  // ---- the call of a function ----

  /// Plans that functions have chosen, by what they were chosen for. The GIL guards it.
  struct Key {
    Descriptor descriptor;
    Device device;
    PlanPreference preference;

    bool operator==(const Key& k) const {
      return device == k.device && same(descriptor, k.descriptor) && same(preference, k.preference);
    }
  };
  struct HashOfKey {
    std::size_t operator()(const Key& k) const {
      Hash h;
      mix(h, k.descriptor);
      h << k.device.type << k.device.id;
      mix(h, k.preference);
      return static_cast<std::size_t>(h.value());
    }
  };
  struct Kept {
    std::uint64_t generation;  // of what is known of measured kernels
    nb::object object;
    const P* plan;
  };

  static Kept find(const Key& key) {
    constexpr std::size_t most = 1024;
    static auto& kept =
        *new std::unordered_map<Key, Kept, HashOfKey>;  // never destroyed: the interpreter may be gone by then
    const std::uint64_t generation = tuning_generation();
    const auto found = kept.find(key);
    if (found != kept.end() && found->second.generation == generation) return found->second;
    nb::object object = nb::cast(select(key.descriptor, key.device, key.preference));
    const P* plan = nb::inst_ptr<P>(object);
    note_chosen(object);
    if (kept.size() >= most) kept.clear();
    Kept fresh{generation, std::move(object), plan};
    kept.insert_or_assign(key, fresh);
    return fresh;
  }

  static nb::object call(Handle<I>... given, Handle<S>... scalars, Handle<O>... options, nb::handle out_dtype,
                         nb::handle deterministic, nb::handle preference, nb::handle stream, nb::handle math,
                         nb::handle names, nb::handle whole) {
    Handles handles{given...};
    Names called(operands, result_index(), F::result_called, names);
    // What may run Python goes before the operands: it could free memory that torch shows.
    Arguments arguments;
    parse(F::scalars, arguments, scalars...);
    const Options o = to_options(options...);
    const DType result_type = out_dtype.is_none() ? DType::none : to_dtype(out_dtype, F::result_type_name);
    PlanPreference wanted = to_preference(FunctionPreference{math, deterministic, preference});
    for (std::size_t i = 0; i < count; ++i) {
      const char* const asked_by = F::asked_by(i);
      if (asked_by == nullptr) continue;
      if (to_flag(Where{nullptr, asked_by}, handles[i])) (arguments.*operands[i].member).dtype = DType::f32;  // or whatever
      handles[i] = nb::handle(Py_None);
    }
    Importer look;
    import(look, handles, called, arguments);
    for (std::size_t i = 0; names.is_none() && i < count; ++i) {
      if (const char* const name = F::called(i, arguments, o)) called.set(i, name);
    }
    const TensorView& like = arguments.*F::like;
    const nb::handle like_handle = handles[index_of(operands, F::like)];
    const nb::handle result_handle = handles[result_index()];
    const TensorView& result = arguments.*F::result;
    std::optional<Kept> kept;
    bool runs = false;  // operands are there, each of its kind
    std::array<nb::object, count> made;
    try {
      const TensorView unfolded = like;
      const bool folded = F::fold(arguments, o);
      if (names.is_none() && !F::serves(arguments)) return nb::none();
      Key key{cutplan::describe(arguments, o), like.device, std::move(wanted)};
      set_result_type(key.descriptor, result, result_type, called[result_index()]);
      const Lender lender(result.present() && can_allocate(result_handle, result.device) ? result_handle : like_handle,
                          like_handle, like);
      if (!lender.allocates()) key.preference.max_workspace_bytes = 0;
      if (key.preference.batch_invariant) F::forget_rows(key.descriptor);
      const std::uint64_t chosen = chosen_plans();
      kept = find(key);
      const P& plan = *kept->plan;
      const Operands& all = plan.operands();
      if (!whole.is_none()) check_whole(plan, whole, called);
      // To choose a plan may run Python too: loggers. So may a look at the whole.
      const bool direct =
          look.is_direct() && stream.is_none() && lender.is_direct() && chosen == chosen_plans() && whole.is_none();
      std::uint32_t fresh = 0;
      for_each_bit(all.outputs, [&](std::size_t i) {
        const Rule& rule = all.rows.begin()[i].rule;
        TensorView& view = arguments.*operands[i].member;
        if (!handles[i].is_none() || rule.updated) return;
        fresh |= 1u << i;
        view = {};
        const TensorView* const like_operand = F::resembles(i, arguments);
        const int first = rule.droppable > 0 && !F::keeps_batch(arguments) ? 1 : 0;
        std::int64_t shape[max_rank];
        int rank = 0;
        if (like_operand != nullptr) {
          for (; rank < like_operand->rank; ++rank) shape[rank] = like_operand->shape[rank];
        } else if (folded) {
          for (; rank < unfolded.rank - 1; ++rank) shape[rank] = unfolded.shape[rank];
          shape[rank++] = rule.extents[rule.rank - 1];
        } else {
          for (; rank < rule.rank - first; ++rank) shape[rank] = rule.extents[first + rank];
        }
        // Columns of a column-major result are rows of what is allocated; of one that is folded all dimensions but the last are.
        const bool turned = rule.by_layout && rule.run == rule.rank - 2;
        const int rows = folded ? 0 : rank - 2;
        if (turned) std::rotate(shape + rows, shape + rank - 1, shape + rank);
        made[i] = lender.make(shape, rank, like_operand != nullptr ? like_operand->dtype : rule.type, stream, view);
        for (int dimension = rows; turned && dimension < rank - 1; ++dimension)
          made[i] = made[i].attr("swapaxes")(dimension, dimension + 1);
        if ((folded || turned) && view.present()) {
          std::int64_t run[most_dimensions];
          std::int64_t* const end = std::copy(rule.extents + first, rule.extents + rule.rank, run);
          if (turned) std::swap(end[-2], end[-1]);
          view = TensorView::row_major(view.data, view.dtype, {run, static_cast<std::size_t>(end - run)}, view.device);
          if (turned) {
            std::swap(view.shape[view.rank - 2], view.shape[view.rank - 1]);
            std::swap(view.strides[view.rank - 2], view.strides[view.rank - 1]);
          }
        }
        handles[i] = made[i];
      });
      if (direct) {
        const Scratch scratch = lender.scratch(plan.workspace_size());
        void* const on = look.current_stream(plan.device());
        runs = true;
        const GilRelease release;
        plan.run(arguments, on, scratch.workspace());
      } else {
        const nb::object scratch = lender.scratch_object(plan.workspace_size(), stream);
        Importer importer(plan.device(), stream, handles[result_index()], called[result_index()]);
        TensorView scratch_view;
        import(importer, handles, called, arguments, scratch, &scratch_view);
        F::fold(arguments, o);
        runs = true;
        run_imported(plan, arguments, importer, scratch_view);
      }
      mark_outputs(handles, all.outputs & ~fresh);
      nb::list results;
      results.append(kept->object);
      for_each_bit(all.outputs, [&](std::size_t i) {
        results.append(made[i].is_valid() ? lender.finish(made[i]) : nb::borrow(handles[i]));
      });
      return nb::tuple(results);
    } catch (const Error& error) {
      if (runs) explain(*kept->plan, arguments, called, handles, !names.is_none());
      called.raise(error);
    }
  }

  static void set_result_type(Descriptor& descriptor, const TensorView& result, DType wanted, const char* called) {
    if (wanted == DType::none) return;
    if (result.present() && result.dtype != wanted)
      throw DTypeMismatch(std::string("operand ") + called + ": out_dtype " + cutplan::name(wanted) + " required, got " +
                          cutplan::name(result.dtype));
    if constexpr (F::result_type != nullptr) descriptor.*F::result_type = wanted;
  }

  /// The plan's operands in the words of who called the function.
  struct Shown {
    /// `laid_out`: handles are views of what the caller gave, for one run.
    Shown(const P& plan, const Names& called, const Handles& handles, bool laid_out) : all(plan.operands()) {
      all.caller = Caller::function;
      Importer look;
      for (std::size_t i = 0; i < count; ++i) {
        nb::handle tensor = handles[i];
        if (tensor.is_none()) continue;
        if (laid_out && nb::isinstance<TensorViewObject>(tensor)) {
          const auto& view = nb::cast<const TensorViewObject&>(tensor);
          if (view.rank >= 0) tensor = view.tensor;
        }
        look.import(tensor, called[i], given[i]);
        all.rows.begin()[i].name = called[i];
        all.rows.begin()[i].given = &given[i];
      }
    }

    std::array<TensorView, count> given;
    Operands all;
  };

  /// Throws what is wrong with the operands in terms of the function; returns where nothing is.
  static void explain(const P& plan, const Arguments& arguments, const Names& called, const Handles& handles,
                      bool laid_out) {
    const Shown shown(plan, called, handles, laid_out);
    try {
      Places places;
      check(shown.all, operands, arguments, places);
    } catch (const Error& error) {
      called.raise(error);
    }
  }

  static void check_whole(const P& plan, nb::handle whole, const Names& called) {
    Handles handles;
    Arguments arguments;
    Importer look;
    for (std::size_t i = 0; i < count; ++i) {
      PyObject* const found = PyDict_GetItemString(whole.ptr(), operands[i].name);
      handles[i] = found == nullptr ? Py_None : found;
      look.import(handles[i], called[i], arguments.*operands[i].member);
    }
    const Shown shown(plan, called, handles, true);
    check_memory(shown.all, views_of(operands, arguments));
  }
};

/// Binds a plan and everything that its family's table gives.
template <typename P>
using CallsOf = Calls<P, std::make_index_sequence<std::size(Face<P>::operands)>,
                      std::make_index_sequence<std::tuple_size_v<std::decay_t<decltype(Face<P>::scalars)>>>,
                      std::make_index_sequence<std::tuple_size_v<std::decay_t<decltype(Face<P>::options)>>>>;

}  // namespace cutplan::bindings
