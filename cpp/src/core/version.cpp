#include "cutplan/version.hpp"

namespace cutplan {

const char* version() noexcept { return CUTPLAN_VERSION_STRING; }

const char* built_architectures() noexcept {
  return "host"
#if CUTPLAN_SM80
         ",sm80"
#endif
#if CUTPLAN_SM89
         ",sm89"
#endif
#if CUTPLAN_SM90
         ",sm90"
#endif
      ;
}

}  // namespace cutplan
