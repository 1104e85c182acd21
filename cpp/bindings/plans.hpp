// What the bindings of the op families share: pieces of signatures, as the stubs show them, and what plans and descriptors
// have in common.
#pragma once

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

/// select(), with refusals of wrong arguments that fit a line.
template <typename Plan>
Plan select(nb::handle descriptor, nb::handle device, nb::handle preference) {
  using Descriptor = DescriptorOf<Plan>;
  if (!nb::isinstance<Descriptor>(descriptor)) {
    const auto wanted = nb::cast<std::string>(nb::str(nb::type<Descriptor>().attr("__name__")));
    throw nb::type_error(
        ("descriptor: a " + wanted + " required, got " + nb::cast<std::string>(nb::repr(descriptor))).c_str());
  }
  return select_plan<Plan>(nb::cast<const Descriptor&>(descriptor), device, to_preference(preference));
}

/// Arguments of select(), which names what is missing itself.
#define CUTPLAN_SELECT_ARGUMENTS "descriptor"_a = nb::none(), "device"_a = nb::none(), "preference"_a = nb::none()

/// A pickle holds what the plan was selected with, and selects again.
template <typename Plan>
void bind_plan_members(nb::class_<Plan>& plan, const char* type) {
  plan.def_prop_ro("workspace_size", &Plan::workspace_size, "Bytes of scratch that run() needs, 256-byte aligned.")
      .def_prop_ro("sku", &Plan::sku, nb::rv_policy::reference_internal, "The kernel that runs.")
      .def_prop_ro("precision_guarantee", &Plan::precision_guarantee, nb::rv_policy::reference_internal,
                   "How exact the results are.")
      .def_prop_ro("descriptor", &Plan::descriptor, nb::rv_policy::reference_internal)
      .def_prop_ro(
          "device", [](const Plan& self) { return to_python(self.device()); }, nb::sig("def device(self) -> str"),
          "\"cpu\" or \"cuda:N\".")
      .def_prop_ro("preference", &Plan::preference, nb::rv_policy::reference_internal, "What it was selected with.")
      .def("__repr__",
           [type](const Plan& self) {
             return std::string(type) + "(" + self.sku().name + " on " + to_string(self.device()) + " for " +
                    nb::cast<std::string>(nb::repr(nb::cast(self.descriptor()))) + ")";
           })
      .def(
          "__getstate__",
          [](const Plan& self) { return nb::make_tuple(self.descriptor(), to_python(self.device()), self.preference()); },
          nb::sig("def __getstate__(self) -> tuple[object, ...]"))
      .def(
          "__setstate__",
          [](Plan* self, const nb::tuple& state) {
            if (nb::len(state) != 3) throw nb::value_error("a plan's state is (descriptor, device, preference)");
            new (self) Plan(select<Plan>(state[0], state[1], state[2]));
          },
          nb::sig("def __setstate__(self, state: tuple[object, ...], /) -> None"));
}

/// Makes a class a value: equal and hashed by its fields, `operator_equal` and `operator<<` of its namespace. In type slots,
/// where nothing stands between a dict and these: every call of a function looks a descriptor up.
/// Of an object that __init__ has been called for; null, with Python's error set, of one that it has not.
template <typename T>
T* made(PyObject* object) {
  if (nb::inst_ready(nb::handle(object))) return nb::inst_ptr<T>(nb::handle(object));
  PyErr_SetString(PyExc_TypeError, "an object whose __init__ has not been called has no value");
  return nullptr;
}

template <typename T, bool (*equal)(const T&, const T&), Hash& (*mix)(Hash&, const T&)>
nb::type_slots value_slots() {
  static PyType_Slot slots[] = {
      {Py_tp_hash, reinterpret_cast<void*>(+[](PyObject* self) -> Py_hash_t {
         const T* value = made<T>(self);
         if (value == nullptr) return -1;
         Hash h;
         return mix(h, *value).value();
       })},
      {Py_tp_richcompare, reinterpret_cast<void*>(+[](PyObject* self, PyObject* other, int operation) -> PyObject* {
         if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE)) {
           Py_INCREF(Py_NotImplemented);
           return Py_NotImplemented;
         }
         const T *mine = made<T>(self), *others = mine == nullptr ? nullptr : made<T>(other);
         if (others == nullptr) return nullptr;
         return PyBool_FromLong(equal(*mine, *others) == (operation == Py_EQ));
       })},
      {0, nullptr}};
  return nb::type_slots(slots);
}

}  // namespace cutplan::bindings
