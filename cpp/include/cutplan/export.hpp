// Symbol visibility: libcutplan is built with hidden visibility, and CUTPLAN_API marks what it offers.
#pragma once

#if defined(__GNUC__)
#define CUTPLAN_API __attribute__((visibility("default")))
#else
#define CUTPLAN_API
#endif
