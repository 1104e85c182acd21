// The operands of a family as one table, and everything that is the same for all of them: what a plan asks of an operand, the
// checks of a call, the words of each refusal, and who may share memory with whom.
//
// A row of a table names an operand, says where the arguments hold it, and has the rule that makes a Rule of a descriptor. A plan
// makes its rules once, when it is selected; a call walks them. Checks are cheap; only what throws builds strings.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/fixed_vector.hpp"
#include "cutplan/tensor.hpp"

namespace cutplan {

/// in_place: read where an output is written, element by element, so that it may be that output itself.
enum class Role : std::uint8_t { input, output, in_place };

/// What measuring fills an operand with.
enum class Sample : std::uint8_t {
  random,        // from -1 to 1; booleans: true
  even_offsets,  // from 0 to `most` in equal steps
  most,          // `most` in each element
  logarithm,     // of `most`
};

inline constexpr int most_dimensions = 5, most_operands = 24;

/// What a plan asks of one operand: built by a family's table, in chains of the functions below.
struct Rule {
  DType type = DType::none;      // none: the plan does not know the operand
  DType type_too = DType::none;  // accepted in its place
  bool type_is_fixed = false;    // the same in every plan
  Role role = Role::input;
  int result = 0;        // in_place: which of the plan's outputs it may be
  bool updated = false;  // an output of which only some elements are written: the caller has it
  int rank = 0;
  std::int64_t extents[most_dimensions] = {};
  int droppable = 0;            // leading dimensions that may be left out
  unsigned shareable = 0;       // dimensions, one bit each, that may have extent 1 in place of their own
  int run = -1;                 // dimension whose elements are adjacent; -1: any strides
  bool repeats = false;         // may have stride 0 along the run, or any there where it has 0 across
  bool aligned = false;         // to what the kernel reads
  bool by_layout = false;       // the plan's layout has the order
  const char* meaning = "";     // of the shape
  const char* ordered_as = "";  // operand that gives the order of the last two dimensions
  Sample sample = Sample::random;
  std::int64_t most = 0;

  constexpr bool wanted() const { return type != DType::none; }
  constexpr bool has_elements() const {
    for (int i = 0; i < rank; ++i) {
      if (extents[i] == 0) return false;
    }
    return true;
  }

  constexpr Rule when(bool there) const { return there ? *this : Rule{}; }
  constexpr Rule as(Role r) const {
    return with([&](Rule& x) { x.role = r; });
  }
  /// An output that is the caller's, and keeps what is not written.
  constexpr Rule update() const {
    return with([](Rule& x) {
      x.role = Role::output;
      x.updated = true;
    });
  }
  /// Read where output `which` of the plan's is written.
  constexpr Rule in_place_of(int which) const {
    return with([&](Rule& x) {
      x.role = Role::in_place;
      x.result = which;
    });
  }
  constexpr Rule fixed() const {
    return with([](Rule& x) { x.type_is_fixed = true; });
  }
  constexpr Rule or_type(DType t) const {
    return with([&](Rule& x) { x.type_too = t; });
  }
  constexpr Rule means(const char* words) const {
    return with([&](Rule& x) { x.meaning = words; });
  }
  constexpr Rule filled(Sample s, std::int64_t value) const {
    return with([&](Rule& x) {
      x.sample = s;
      x.most = value;
    });
  }
  /// The first dimension may be left out, or be 1, and is then shared.
  constexpr Rule shared() const {
    return with([](Rule& x) {
      x.droppable = 1;
      x.shareable |= 1;
    });
  }
  constexpr Rule may_drop(int dimensions) const {
    return with([&](Rule& x) { x.droppable = dimensions; });
  }
  /// `count` of them, one after the other in a dimension of their own.
  constexpr Rule stacked(std::int64_t count) const {
    return with([&](Rule& x) {
      for (int i = x.rank++; i > 0; --i) x.extents[i] = x.extents[i - 1];
      x.extents[0] = count;
      x.run += x.run >= 0 ? 1 : 0;
    });
  }
  /// Any shape that broadcasts to the extents, any strides.
  constexpr Rule broadcast() const {
    return with([](Rule& x) {
      x.droppable = x.rank;
      x.shareable = (1u << x.rank) - 1;
      x.run = -1;
    });
  }
  constexpr Rule repeating() const {
    return with([](Rule& x) { x.repeats = true; });
  }
  constexpr Rule ordered() const {
    return with([](Rule& x) { x.by_layout = true; });
  }
  constexpr Rule as_ordered(const char* operand) const {
    return with([&](Rule& x) { x.ordered_as = operand; });
  }
  constexpr Rule kernel_aligned() const {
    return with([](Rule& x) { x.aligned = true; });
  }

 private:
  template <typename Change>
  constexpr Rule with(const Change& change) const {
    Rule rule = *this;
    change(rule);
    return rule;
  }
};

/// A tensor of these extents, the elements of dimension `run` (-1: the last; none: free strides) side by side.
inline constexpr int any_strides = -2;
template <typename... Extents>
constexpr Rule tensor(DType type, int run, Extents... extents) {
  Rule rule;
  rule.type = type;
  rule.rank = static_cast<int>(sizeof...(extents));
  const std::int64_t values[] = {extents...};
  for (int i = 0; i < rule.rank; ++i) rule.extents[i] = values[i];
  rule.run = run == any_strides ? -1 : run < 0 ? rule.rank + run : run;
  return rule;
}

/// One row of a family's table.
template <typename Descriptor, typename Arguments>
struct Operand {
  const char* name;
  TensorView Arguments::* member;
  Rule (*rule)(const Descriptor&);  // of a resolved descriptor
  const char* option = "";          // what a plan that knows the operand is selected with; "": every plan does
  bool positional = false;          // in Python
};

/// The place of a member in a table.
template <typename Table, typename Member>
constexpr std::size_t index_of(const Table& table, Member member) {
  std::size_t i = 0;
#pragma GCC unroll 24  // of a constant member it is then a constant
  while (table[i].member != member) ++i;
  return i;
}

/// How the memory of an operand lies: strides in elements along the rule's dimensions, 0 where there is nothing to step over.
struct Placed {
  void* data = nullptr;
  std::int64_t strides[most_dimensions] = {};
  std::uintptr_t end = 0;  // beyond the last element
};

/// In whose terms refusals speak: of who has selected a plan, or of who called a function that does.
enum class Caller : std::uint8_t { plan, function };

/// Calls `visit` with the index of each bit, from the lowest.
template <typename Visit>
void for_each_bit(std::uint32_t bits, const Visit& visit) {
  for (; bits != 0; bits &= bits - 1) visit(static_cast<std::size_t>(__builtin_ctz(bits)));
}

/// The operands of one plan.
struct Operands {
  struct Row {
    const char* name;
    const char* option;
    Rule rule;
    const TensorView* given = nullptr;  // what errors show; null: the view that is checked
  };
  FixedVector<Row, most_operands> rows;
  // Rows, one bit each: a call pays for those that it has.
  std::uint32_t wanted = 0, outputs = 0, with_elements = 0;
  Device device;
  int alignment = 1;  // bytes, of those that the kernel wants aligned
  Caller caller = Caller::plan;
};

struct Views {
  const TensorView* of[most_operands];
  std::uint32_t given = 0;  // rows, one bit each
};
using Places = std::array<Placed, most_operands>;

/// Throws the error of the first rule that is broken. `places` are in the order of the table; fresh ones are required.
CUTPLAN_API void check(const Operands& operands, const Views& views, Places& places);

/// Throws where an output may not be written, or shares memory with an operand or with itself. Of views of any rank: what one
/// run of a plan sees of a call that takes several is not all that they read and write.
CUTPLAN_API void check_memory(const Operands& operands, const Views& views);

/// Of a family's table and a resolved descriptor.
template <typename Row, std::size_t kRows, typename Descriptor>
Operands operands_of(const Row (&table)[kRows], const Descriptor& descriptor, Device device, int alignment) {
  static_assert(kRows <= most_operands);
  Operands all;
  all.device = device;
  all.alignment = alignment;
  std::uint32_t bit = 1;
  for (const auto& operand : table) {
    Operands::Row& row = all.rows.add();
    row = {operand.name, operand.option, operand.rule(descriptor)};
    if (row.rule.wanted()) all.wanted |= bit;
    if (row.rule.role == Role::output) all.outputs |= bit;
    if (row.rule.wanted() && row.rule.has_elements()) all.with_elements |= bit;
    bit *= 2;
  }
  return all;
}

template <typename Table, typename Arguments>
Views views_of(const Table& table, const Arguments& arguments) {
  Views views;
  int i = 0;
  for (const auto& operand : table) {
    views.of[i] = &(arguments.*operand.member);
    views.given |= static_cast<std::uint32_t>(views.of[i]->present()) << i;
    ++i;
  }
  return views;
}

template <typename Table, typename Arguments>
void check(const Operands& operands, const Table& table, const Arguments& arguments, Places& places) {
  check(operands, views_of(table, arguments), places);
}

/// "float16 [2, 3] with strides 3, 1"
std::string describe(const TensorView& view);

/// Throws where a view is not given, or has dimensions that it cannot hold.
void check_given(const char* operand, const TensorView& view);

/// The same, and where its rank is not in [least, most].
void check_rank(const char* operand, const TensorView& view, int least, int most);

/// Throws MissingOperand for an operand that is given. `option`: what a plan that knows it is selected with.
void check_absent(const char* operand, const char* option, const TensorView& view);

/// Elements are read whole: on a CUDA device an address within one is a fault that ends the context. Strides count elements,
/// so that the others begin where elements may, if the first does.
void check_address(const char* operand, const TensorView& view);

void check_workspace(const Workspace& workspace, std::size_t needed);

/// Refuses an extent that no problem can have.
void check_extent(const char* extent, std::int64_t value);

/// The memory of a strided operand: runs of `run` adjacent bytes, repeated by each step.
struct Footprint {
  struct Step {
    std::int64_t count, bytes;
  };

  std::uintptr_t begin = 0;
  std::int64_t run = 0;
  std::int64_t reach = 0;  // from the first run to the last
  FixedVector<Step, max_rank> steps;

  /// Dimensions that are not stepped through need not be told; neither do those of extent 1.
  void repeat(std::int64_t extent, std::int64_t bytes_apart) {
    if (extent <= 1) return;
    steps.add() = {extent, bytes_apart};
    reach += (extent - 1) * bytes_apart;
  }

  std::uintptr_t end() const { return begin + static_cast<std::uintptr_t>(reach + run); }
};

/// Whether two operands may share memory. Slices of one buffer that interleave (the columns of a matrix; Q, K and V of one
/// projection) are told apart where their steps allow it.
bool overlap(const Footprint& x, const Footprint& y);

}  // namespace cutplan
