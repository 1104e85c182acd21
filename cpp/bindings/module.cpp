// The extension module cutplan._core.
#include <nanobind/nanobind.h>

#include "common.hpp"
#include "cutplan/version.hpp"
#include "keywords.hpp"

NB_MODULE(_core_of_main, m) {
  namespace nb = nanobind;
  // Plans are made to be kept, in module globals and caches that outlive the interpreter's last clean-up.
  nb::set_leak_warnings(false);
  // What is defined here is public as cutplan.X; tracebacks, pickles and repr() shall say so.
  const nb::object name = m.attr("__name__");
  m.attr("__name__") = "cutplan";
  m.def("version", &cutplan::version, "Version of the loaded library, \"major.minor.patch\".");
  cutplan::bindings::bind_errors(m);
  cutplan::bindings::bind_common(m);
  cutplan::bindings::bind_gemm(m);
  cutplan::bindings::bind_fmha(m);
  cutplan::bindings::bind_attention_ops(m);
  cutplan::bindings::bind_quantize(m);
  cutplan::bindings::bind_weights(m);
  cutplan::bindings::bind_tuning(m);
  for (const char* plan : {"GemmPlan", "GroupedGemmPlan", "FmhaPlan", "FmhaBackwardPlan", "MergeStatesPlan", "AlibiPlan",
                           "AlibiBackwardPlan"}) {
    cutplan::bindings::refuse_other_calls(m.attr(plan), "select");
    cutplan::bindings::refuse_other_calls(m.attr(plan), "run", true);
    cutplan::bindings::refuse_other_calls(m.attr(plan), "can_implement", true);
  }
  cutplan::bindings::refuse_other_calls(m.attr("PrecisionGuarantee"), "error_bound", true);
  for (const char* function : {"describe", "describe_grouped", "describe_attention", "inspect", "device_properties",
                               "gemm_kernels", "grouped_gemm_kernels", "fmha_kernels", "measure_gemm", "tune_gemm",
                               "tuned_gemm", "measure_fmha", "tune_fmha", "tuned_fmha"})
    cutplan::bindings::refuse_other_calls(m, function);
  m.attr("__name__") = name;
}

/// nanobind's state is one for the process here: a second interpreter that imported the module would take it from the first.
extern "C" NB_EXPORT PyObject* PyInit__core() {
  if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
    PyErr_SetString(PyExc_ImportError, "cutplan can be imported in a process's main interpreter only");
    return nullptr;
  }
  return PyInit__core_of_main();
}
