// What the bindings of matrix products share: an Epilogue as a value.
#pragma once

#include <string>

#include "keywords.hpp"
#include "plans.hpp"

namespace cutplan::bindings {

bool operator_equal(const Epilogue& x, const Epilogue& y);
Hash& operator<<(Hash& h, const Epilogue& e);

}  // namespace cutplan::bindings
