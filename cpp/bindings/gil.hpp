// Giving up the GIL while the core works, and taking it for the caller's functions.
//
// A thread that wants the GIL while the interpreter ends never gets it: Python 3.14 and newer block it for ever, which suits
// C++; older ones unwind its stack (pthread_exit), which ends the process with std::terminate at the first noexcept function,
// such as a destructor. Here such a thread is blocked under every Python.
#pragma once

#include <nanobind/nanobind.h>
#include <unistd.h>

#include <exception>

namespace cutplan::bindings {

/// Calls `function`, which waits for the GIL at some time.
template <typename Function>
auto without_unwinding(const Function& function) -> decltype(function()) {
  try {
    return function();
  } catch (const std::exception&) {
    throw;  // an error, also Python's own
  } catch (...) {
    for (;;) pause();
  }
}

/// Without the GIL for a scope.
class GilRelease {
 public:
  GilRelease() noexcept : state_(PyEval_SaveThread()) {}
  ~GilRelease() {
    without_unwinding([&] { PyEval_RestoreThread(state_); });
  }
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

/// With the GIL for a scope, on a thread that has given it up or is not Python's.
class GilAcquire {
 public:
  GilAcquire() : state_(without_unwinding(&PyGILState_Ensure)) {}
  ~GilAcquire() { PyGILState_Release(state_); }
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;

 private:
  PyGILState_STATE state_;
};

}  // namespace cutplan::bindings
