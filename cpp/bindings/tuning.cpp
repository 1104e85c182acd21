// The table of measured kernels, and what fills it.
#include "cutplan/tuning.hpp"

#include <nanobind/nanobind.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "common.hpp"
#include "gil.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

namespace {

/// std::system_error as Python's own OSError, which picks the class that fits the number.
template <typename Function>
auto with_os_errors(const Function& function) {
  try {
    return function();
  } catch (const std::system_error& error) {
    PyErr_SetObject(PyExc_OSError, nb::make_tuple(error.code().value(), error.what()).ptr());
    throw nb::python_error();
  }
}

TuningProgress to_progress(nb::object callback) {
  if (callback.is_none()) return {};
  return [callback](int done, int total) {
    const GilAcquire gil;
    without_unwinding([&] { callback(done, total); });
  };
}

/// With the GIL released; what there is to say of the files is said after.
template <typename Measure>
std::vector<GemmMeasurement> measured(const Measure& measure) {
  std::vector<GemmMeasurement> all;
  {
    const GilRelease release;
    all = measure();
  }
  warn_tuning_problems();
  return all;
}

// Pieces of signatures, as the stubs show them.
#define CUTPLAN_MEASURE(descriptor)        \
  "(descriptor: cutplan." descriptor       \
  ", device: cutplan._typing.DeviceLike, " \
  "preference: cutplan.PlanPreference | None = None, *, "
#define CUTPLAN_PROGRESS \
  "progress: collections.abc.Callable[[int, int], object] | None = None) -> list[cutplan.GemmMeasurement]"
#define CUTPLAN_TUNED(descriptor)                  \
  "def tuned_gemm(descriptor: cutplan." descriptor \
  ", properties: cutplan.DeviceProperties, "       \
  "preference: cutplan.PlanPreference | None = None) -> cutplan.TuningEntry | None"

/// The functions of one kind of descriptor.
template <typename Descriptor>
void bind_measuring_of(nb::module_& m, const char* measure_signature, const char* tune_signature,
                       const char* tuned_signature) {
  m.def(
      "measure_gemm",
      [](const Descriptor& descriptor, nb::handle device, std::optional<PlanPreference> preference, int candidates,
         nb::object progress) {
        const Device where = to_device(device);
        return measured([&, callback = to_progress(std::move(progress))] {
          return measure_gemm(descriptor, where, preference ? *preference : PlanPreference(), candidates, callback);
        });
      },
      "descriptor"_a, "device"_a, "preference"_a = nb::none(), nb::kw_only(), "candidates"_a = 0, "progress"_a = nb::none(),
      nb::sig(measure_signature),
      "Times the kernels that can serve `descriptor` on operands of its own; fastest first. With `candidates` only that\n"
      "many, of which the cost model expects most. Groups are of one size. progress(done, total) is called as it goes.\n"
      "Allocates device memory, waits for the device, keeps nothing.\n\n"
      "Raises what the plan's select() does, InvalidProblem for an extent of 0, and Unsupported where the device has too\n"
      "little memory.");
  m.def(
      "tune_gemm",
      [](const Descriptor& descriptor, nb::handle device, std::optional<PlanPreference> preference, nb::object progress) {
        const Device where = to_device(device);
        return measured([&, callback = to_progress(std::move(progress))] {
          return tune_gemm(descriptor, where, preference ? *preference : PlanPreference(), callback);
        });
      },
      "descriptor"_a, "device"_a, "preference"_a = nb::none(), nb::kw_only(), "progress"_a = nb::none(),
      nb::sig(tune_signature),
      "Measures the most promising kernels for `descriptor`, whatever is known already, and keeps the fastest for the\n"
      "plan's select() to find, in this process and in others. Returns and raises what measure_gemm() does.");
  m.def(
      "tuned_gemm",
      [](const Descriptor& descriptor, const DeviceProperties& properties, std::optional<PlanPreference> preference) {
        return tuned_gemm(descriptor, properties, preference ? *preference : PlanPreference());
      },
      "descriptor"_a, "properties"_a, "preference"_a = nb::none(), nb::sig(tuned_signature),
      "The measurement that the plan's select() follows on a device of these properties, if the build has its kernel;\n"
      "None: the cost model decides.");
}

void bind_entries(nb::module_& m) {
  nb::class_<TuningEntry>(m, "TuningEntry", "The kernel that was fastest for one problem on one kind of device.")
      .def_ro("device", &TuningEntry::device, "Name of the device.")
      .def_ro("compute_capability", &TuningEntry::compute_capability)
      .def_ro("problem", &TuningEntry::problem, "Everything that the choice depends on, as text.")
      .def_ro("kernel", &TuningEntry::kernel, "SKU name; a build that has no such kernel ignores the entry.")
      .def_ro("seconds", &TuningEntry::seconds, "That the kernel took.")
      .def_ro("model_seconds", &TuningEntry::model_seconds, "That the cost model's choice took.")
      .def_prop_ro(
          "source", [](const TuningEntry& self) { return name(self.source); },
          nb::sig("def source(self) -> typing.Literal['shipped', 'imported', 'measured']"),
          "By growing precedence: 'shipped' with cutplan, 'imported', 'measured' on this machine.")
      .def("__repr__", [](const TuningEntry& self) {
        return "TuningEntry(device='" + self.device + "', compute_capability=" + std::to_string(self.compute_capability) +
               ", problem='" + self.problem + "', kernel='" + self.kernel + "', seconds=" + text(self.seconds) +
               ", model_seconds=" + text(self.model_seconds) + ", source='" + name(self.source) + "')";
      });

  nb::class_<TuningCache>(m, "TuningCache", "What is known of measured kernels, and where it is kept.")
      .def_prop_ro(
          "folder", [](const TuningCache& self) { return self.folder.empty() ? std::nullopt : std::optional(self.folder); },
          "None where neither CUTPLAN_CACHE_DIR, XDG_CACHE_HOME nor HOME names one.")
      .def_ro("entries", &TuningCache::entries, "Those that count for this driver and this version of cutplan.")
      .def_ro("problems", &TuningCache::problems, "What could not be read or written, one sentence each.")
      .def("__repr__", [](const TuningCache& self) {
        return "TuningCache(folder=" + (self.folder.empty() ? "None" : "'" + self.folder + "'") + ", " +
               std::to_string(self.entries.size()) + " entries, " + std::to_string(self.problems.size()) + " problems)";
      });
}

void bind_table(nb::module_& m) {
  m.def("tuning_cache", &tuning_cache, "Reads the files of measured kernels again, and tells what there is.");
  m.def("tuning_generation", &tuning_generation,
        "Grows whenever what is known of measured kernels may have changed in this process: select() may now choose\n"
        "another kernel. For caches of plans.");
  m.def("export_tuning", &export_tuning, "What was measured and imported, as text for import_tuning().");
  m.def(
      "import_tuning", [](const std::string& table) { return with_os_errors([&] { return import_tuning(table); }); },
      "table"_a,
      "Keeps the entries of an exported table, for every device of the name that they were measured on; returns their\n"
      "number. Raises InvalidProblem for text that is no whole table, OSError where it cannot be written.");
  m.def(
      "clear_tuning", [] { with_os_errors([] { clear_tuning(); }); },
      "Forgets what was measured and imported, for every driver and version, and deletes the files. Raises OSError where\n"
      "they cannot be deleted.");
  m.def("add_tuning", &add_tuning, "table"_a,
        "Adds an exported table to this process alone, below what was measured or imported; returns the number of its\n"
        "entries. Raises InvalidProblem for text that is no whole table.");
}

void bind_measuring(nb::module_& m) {
  nb::class_<GemmMeasurement>(m, "GemmMeasurement", "How long one kernel takes for a problem.")
      .def_ro("sku", &GemmMeasurement::sku)
      .def_ro("seconds", &GemmMeasurement::seconds, "Median.")
      .def_prop_ro(
          "predicted_seconds",
          [](const GemmMeasurement& self) {
            return self.predicted_seconds > 0 ? std::optional(self.predicted_seconds) : std::nullopt;
          },
          "By the cost model; None on the host, for which it predicts nothing.")
      .def("__repr__", [](const GemmMeasurement& self) {
        return "GemmMeasurement(sku='" + self.sku.name + "', seconds=" + text(self.seconds) +
               ", predicted_seconds=" + (self.predicted_seconds > 0 ? text(self.predicted_seconds) : "None") + ")";
      });

  bind_measuring_of<GemmDescriptor>(
      m, "def measure_gemm" CUTPLAN_MEASURE("GemmDescriptor") "candidates: int = 0, " CUTPLAN_PROGRESS,
      "def tune_gemm" CUTPLAN_MEASURE("GemmDescriptor") CUTPLAN_PROGRESS, CUTPLAN_TUNED("GemmDescriptor"));
  bind_measuring_of<GroupedGemmDescriptor>(
      m, "def measure_gemm" CUTPLAN_MEASURE("GroupedGemmDescriptor") "candidates: int = 0, " CUTPLAN_PROGRESS,
      "def tune_gemm" CUTPLAN_MEASURE("GroupedGemmDescriptor") CUTPLAN_PROGRESS, CUTPLAN_TUNED("GroupedGemmDescriptor"));
}

}  // namespace

void warn_tuning_problems() {
  for (const std::string& problem : take_tuning_problems()) {
    if (PyErr_WarnEx(PyExc_RuntimeWarning, problem.c_str(), 1) != 0) throw nb::python_error();
  }
}

void bind_tuning(nb::module_& m) {
  bind_entries(m);
  bind_table(m);
  bind_measuring(m);
}

}  // namespace cutplan::bindings
