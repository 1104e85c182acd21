#include "loans.hpp"

#include <dlpack/dlpack.h>
#include <nanobind/nanobind.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

#include "gil.hpp"

namespace cutplan::bindings {

namespace nb = nanobind;

namespace {

class Keeper {
 public:
  void keep(StreamEvent event, std::vector<Loan> loans) {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
    kept_.push_back({std::move(event), std::move(loans)});
    changed_.notify_one();
  }

  /// Returns when all loans are given back.
  void close() {
    std::thread thread;
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
      thread = std::move(thread_);
      changed_.notify_one();
    }
    if (thread.joinable()) thread.join();
    const std::lock_guard lock(mutex_);
    closed_ = false;
  }

 private:
  struct Kept {
    StreamEvent event;
    std::vector<Loan> loans;
  };

  void serve() {
    for (;;) {
      std::deque<Kept> taken;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return closed_ || !kept_.empty(); });
        if (kept_.empty()) return;
        taken.swap(kept_);
      }
      for (const Kept& kept : taken) {
        kept.event.wait([&kept] {
          const GilAcquire gil;
          for (const Loan& loan : kept.loans) loan.give_back();
        });
      }
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Kept> kept_;
  std::thread thread_;
  bool closed_ = false;
};

/// Never destroyed: a thread may still be at work when statics are. The GIL guards it, not a static's own lock: what is called
/// here may give up the GIL, and a thread that waited for that lock with the GIL would never let this one go on.
Keeper& keeper() {
  static Keeper* only = nullptr;
  if (only == nullptr) {
    auto* made = new Keeper;
    // Called before the interpreter is taken down, when threads can still take the GIL.
    nb::module_::import_("atexit").attr("register")(nb::cpp_function([made] {
      const GilRelease release;
      made->close();
    }));
    if (only == nullptr) only = made;  // another thread may have been here: its keeper then stays, and this one idle
  }
  return *only;
}

template <typename Managed>
void delete_managed(void* loan) {
  auto* managed = static_cast<Managed*>(loan);
  if (managed->deleter != nullptr) managed->deleter(managed);
}

}  // namespace

void Loan::give_back() const {
  versioned ? delete_managed<DLManagedTensorVersioned>(managed) : delete_managed<DLManagedTensor>(managed);
}

void keep_loans(StreamEvent event, std::vector<Loan> loans) { keeper().keep(std::move(event), std::move(loans)); }

}  // namespace cutplan::bindings
