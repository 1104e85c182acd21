// What producers lend to a call, and when they get it back.
#pragma once

#include <cstdint>
#include <vector>

#include "cutplan/event.hpp"

namespace cutplan::bindings {

/// Memory that a producer lends through DLPack until its deleter is called.
struct Loan {
  void* managed;
  bool versioned;

  void give_back() const;  // with the GIL held
};

/// Keeps loans until the device has passed `event`, and gives them back from a thread of its own, which starts with the
/// first of them and, when the interpreter ends, has given back all. Needs the GIL; waits for nothing.
void keep_loans(StreamEvent event, std::vector<Loan> loans);

}  // namespace cutplan::bindings
