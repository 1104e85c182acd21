#include "functions.hpp"

#include <string_view>

#include "fields.hpp"

namespace cutplan::bindings {
namespace {

/// The package's own helpers, found once. Not a static with an initialiser: to import may let another thread have the GIL, which
/// would then wait for the initialiser with the GIL held.
nb::handle frameworks() {
  static PyObject* found = nullptr;
  if (found == nullptr) found = nb::object(nb::module_::import_("cutplan._frameworks")).release().ptr();
  return found;
}

std::uint64_t chosen = 0;  // the GIL guards it

nb::object info_of(nb::handle tensor, const TensorView& view) { return nb::cast(TensorInfo{view, framework_of(tensor)}); }

}  // namespace

void settle(PlanPreference& preference, const Keywords& given) {
  if (preference.kernel && preference.kernel->empty())
    throw nb::value_error(
        (Where{given.type(), "kernel"}.text() + ": the name of a kernel, or None for any, required, got ''").c_str());
}

PlanPreference to_preference(const FunctionPreference& given) {
  const bool wants_math = !given.math.is_none(),
             deterministic = to_flag(Where{nullptr, "deterministic"}, given.deterministic);
  PlanPreference p;
  if (wants_math) p.math = to_option<Math>(given.math, "math");
  if (given.preference.is_none()) {
    p.deterministic = deterministic;
  } else {
    const char* const beside = p.math != PlanPreference().math ? "math" : deterministic ? "deterministic" : nullptr;
    p = to_preference(given.preference);
    if (beside != nullptr) {
      throw InvalidProblem(std::string(beside) + ": not beside preference, which has its own; pass PlanPreference(" +
                           beside + "=...)");
    }
  }
  return p;
}

void note_chosen(nb::handle plan) {
  ++chosen;
  nb::module_::import_("cutplan._plans").attr("chosen")(plan);
}

std::uint64_t chosen_plans() noexcept { return chosen; }

void Names::rename(nb::handle given) {
  static auto& interned = *new std::vector<PyObject*>;  // callers use few names
  for (std::size_t i = 0; i < count_; ++i) {
    PyObject* const found = PyDict_GetItemString(given.ptr(), own_[i]);
    if (found == nullptr) continue;
    interned.push_back(nb::borrow(found).release().ptr());
    names_[i] = PyUnicode_AsUTF8AndSize(found, nullptr);
    if (interned.size() > 64) {
      Py_DECREF(interned.front());
      interned.erase(interned.begin());
    }
  }
}

void Names::raise(const Error& error) const {
  std::string text = error.what();
  constexpr std::string_view operand = "operand ";
  if (text.compare(0, operand.size(), operand) == 0) {
    const std::size_t end = text.find_first_of(": ", operand.size());
    const std::string own = text.substr(operand.size(), end - operand.size());
    for (std::size_t i = 0; i < count_; ++i) {
      if (own == own_[i]) {
        text.replace(operand.size(), own.size(), names_[i]);
        break;
      }
    }
  }
  raise_error(error.code(), text);
}

TuningProgress to_progress(nb::object callback) {
  if (callback.is_none()) return {};
  return [callback](int done, int total) {
    const GilAcquire gil;
    without_unwinding([&] { callback(done, total); });
  };
}

bool can_allocate(nb::handle tensor, Device device) {
  switch (framework_of(tensor)) {
    case Framework::torch:
    case Framework::numpy:
    case Framework::cupy: return true;
    case Framework::jax: return device.type == DeviceType::cpu;
    case Framework::other: break;
  }
  return exchange_api_of(tensor) != nullptr;
}

Scratch::Scratch(void* managed) : managed_{managed, true} {
  const TensorView view = view_of_managed(managed);
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  const std::uintptr_t skipped = (0 - address) % workspace_alignment;
  workspace_ = {static_cast<char*>(view.data) + skipped, static_cast<std::size_t>(view.shape[0]) - skipped};
}

Scratch::~Scratch() {
  if (managed_.managed != nullptr) managed_.give_back();
}

Lender::Lender(nb::handle tensor, nb::handle like, const TensorView& like_view)
    : tensor_(tensor),
      like_(like),
      like_view_(like_view),
      framework_(framework_of(tensor)),
      allocates_(can_allocate(tensor, like_view.device)),
      api_(exchange_api_of(tensor)) {}

nb::object Lender::make(const std::int64_t* shape, int rank, DType dtype, nb::handle stream, TensorView& view) const {
  if (api_ != nullptr && stream.is_none()) return allocate(*api_, shape, rank, dtype, like_view_.device, view);
  nb::list extents;
  for (int i = 0; i < rank; ++i) extents.append(shape[i]);
  return frameworks().attr("empty")(info_of(like_, like_view_), like_, nb::tuple(extents), nb::cast(dtype), stream);
}

nb::object Lender::finish(const nb::object& made) const {
  if (framework_of(like_) != Framework::jax) return made;
  return frameworks().attr("finish")(info_of(like_, like_view_), like_, made);
}

Scratch Lender::scratch(std::size_t bytes) const {
  if (bytes == 0) return {};
  const std::int64_t size = static_cast<std::int64_t>(bytes + workspace_alignment);
  return Scratch(allocate_managed(*api_, &size, 1, DType::u8, like_view_.device));
}

nb::object Lender::scratch_object(std::size_t bytes, nb::handle stream) const {
  if (bytes == 0) return nb::none();
  return frameworks().attr("scratch")(info_of(tensor_, like_view_), tensor_, bytes, stream);
}

}  // namespace cutplan::bindings
