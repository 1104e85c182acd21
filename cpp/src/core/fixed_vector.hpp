// A list in place for a handful of things, such as the operands of a call: no heap on the way of a call, and no overflow.
#pragma once

#include <stdexcept>

namespace cutplan {

template <typename T, int kMost>
class FixedVector {
 public:
  FixedVector() = default;
  FixedVector(const FixedVector& other) { *this = other; }
  FixedVector& operator=(const FixedVector& other) {
    size_ = other.size_;
    for (int i = 0; i < size_; ++i) items_[i] = other.items_[i];
    return *this;
  }

  /// The next item, for the caller to fill in.
  T& add() {
    // More operands than a family has is a mistake in cutplan: an exception instead of somebody else's memory.
    if (size_ == kMost) throw std::length_error("cutplan: internal error: a list of operands is full");
    return items_[size_++];
  }

  int size() const { return size_; }
  T* begin() { return items_; }
  T* end() { return items_ + size_; }
  const T* begin() const { return items_; }
  const T* end() const { return items_ + size_; }

 private:
  int size_ = 0;
  T items_[kMost];  // the rest stays uninitialised: a call pays for what it uses
};

}  // namespace cutplan
