// The extension module cutplan._core.
#include <nanobind/nanobind.h>

#include "common.hpp"
#include "cutplan/version.hpp"

NB_MODULE(_core, m) {
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
  cutplan::bindings::bind_grouped_gemm(m);
  cutplan::bindings::bind_fmha(m);
  cutplan::bindings::bind_tuning(m);
  m.attr("__name__") = name;
}
