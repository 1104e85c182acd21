// What the bindings of the op families share: pieces of signatures, as the stubs show them, and what plans and descriptors
// have in common.
#pragma once

#include <nanobind/operators.h>

#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "common.hpp"
#include "dlpack.hpp"
#include "gil.hpp"

#define CUTPLAN_TENSOR "cutplan._typing.Tensor"
#define CUTPLAN_OPTIONAL CUTPLAN_TENSOR " | None = None"
#define CUTPLAN_LAUNCH "stream: cutplan._typing.StreamLike | None = None, workspace: " CUTPLAN_OPTIONAL

namespace cutplan::bindings {

template <typename Plan, typename Arguments>
void run_plan(const Plan& plan, const Arguments& arguments, Importer& importer, nb::handle workspace) {
  const Device device = plan.device();
  const Workspace scratch = to_workspace(importer, workspace, device);
  {
    // The host computes here, and a launch waits where the stream's queue is full, perhaps for a callback into Python.
    const GilRelease release;
    plan.run(arguments, importer.stream(), scratch);
  }
  importer.enqueued(device);
}

template <typename Plan>
using DescriptorOf = std::decay_t<decltype(std::declval<const Plan&>().descriptor())>;

/// Without the GIL: tune='measure' waits for the device, and for measurements of other threads that call Python.
template <typename Plan>
Plan select_plan(const DescriptorOf<Plan>& descriptor, nb::handle device, const std::optional<PlanPreference>& preference) {
  const Device where = to_device(device);
  std::optional<Plan> plan;
  {
    const GilRelease release;
    plan = Plan::select(descriptor, where, preference ? *preference : PlanPreference());
  }
  warn_tuning_problems();
  return *std::move(plan);
}

template <typename Plan>
void bind_plan_members(nb::class_<Plan>& plan, const char* type, std::string (*repr)(const DescriptorOf<Plan>&)) {
  plan.def_prop_ro("workspace_size", &Plan::workspace_size, "Bytes of scratch that run() needs, 256-byte aligned.")
      .def_prop_ro("sku", &Plan::sku, nb::rv_policy::reference_internal, "The kernel that runs.")
      .def_prop_ro("precision_guarantee", &Plan::precision_guarantee, nb::rv_policy::reference_internal,
                   "How exact the results are.")
      .def_prop_ro("descriptor", &Plan::descriptor, nb::rv_policy::reference_internal)
      .def_prop_ro(
          "device", [](const Plan& self) { return to_string(self.device()); }, "\"cpu\" or \"cuda:N\".")
      .def("__repr__", [type, repr](const Plan& self) {
        return std::string(type) + "(" + self.sku().name + " on " + to_string(self.device()) + " for " +
               repr(self.descriptor()) + ")";
      });
}

/// Makes a class a value: equal and hashed by its fields, printed as what makes it again.
template <typename T>
void bind_value(nb::class_<T>& type, bool (*equal)(const T&, const T&), Hash& (*mix)(Hash&, const T&),
                std::string (*repr)(const T&)) {
  type.def(
          "__eq__", [equal](const T& x, const T& y) { return equal(x, y); }, nb::is_operator(),
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__",
           [mix](const T& self) {
             Hash h;
             return mix(h, self).value();
           })
      .def("__repr__", [repr](const T& self) { return repr(self); });
}

}  // namespace cutplan::bindings
