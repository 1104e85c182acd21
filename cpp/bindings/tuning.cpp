// The table of measured kernels, and what fills it.
#include "cutplan/tuning.hpp"

#include <nanobind/nanobind.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "fields.hpp"
#include "functions.hpp"

namespace cutplan::bindings {

using namespace nb::literals;

template <>
inline constexpr auto fields<TuningEntry> =
    std::make_tuple(field("device", &TuningEntry::device, "Name of the device."),
                    field("compute_capability", &TuningEntry::compute_capability),
                    field("problem", &TuningEntry::problem, "Everything that the choice depends on, as text."),
                    field("kernel", &TuningEntry::kernel, "SKU name; a build that has no such kernel ignores the entry."),
                    field("seconds", &TuningEntry::seconds, "That the kernel took."),
                    field("model_seconds", &TuningEntry::model_seconds, "That the cost model's choice took."),
                    field("source", &TuningEntry::source,
                          "By growing precedence: 'shipped' with cutplan, 'imported', 'measured' on this machine."));

template <>
struct As<KernelSku> : AsShown<KernelSku> {
  static std::string property_type() { return "cutplan.KernelSku"; }
  static nb::object shown(const KernelSku& sku) { return nb::str(sku.name.c_str()); }
};

template <>
inline constexpr auto fields<KernelMeasurement> =
    std::make_tuple(field("sku", &KernelMeasurement::sku), field("seconds", &KernelMeasurement::seconds, "Median."),
                    field("predicted_seconds", &KernelMeasurement::predicted_seconds,
                          "By the cost model; None on the host, for which it predicts nothing."));

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

void bind_table(nb::module_& m) {
  m.def("tuning_cache", &tuning_cache, "Reads the files of measured kernels again, and tells what there is.");
  m.def("tuning_generation", &tuning_generation,
        "Grows whenever what is known of measured kernels may have changed in this process: select() may now choose\n"
        "another kernel. For caches of plans.");
  m.def("chosen_plans", &chosen_plans,
        "How many plans functions have chosen in this process: kept ones are not chosen again.");
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

}  // namespace

void warn_tuning_problems() {
  for (const std::string& problem : take_tuning_problems()) {
    if (PyErr_WarnEx(PyExc_RuntimeWarning, problem.c_str(), 1) != 0) throw nb::python_error();
  }
}

void bind_tuning(nb::module_& m) {
  bind_record<TuningEntry>(m, "TuningEntry", "The kernel that was fastest for one problem on one kind of device.");
  bind_record<KernelMeasurement>(m, "KernelMeasurement", "How long one kernel takes for a problem.");
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
  bind_table(m);
}

}  // namespace cutplan::bindings
