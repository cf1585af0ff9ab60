// What the compiler's instrumentation tells the race checker.
#pragma once

#include <cstdint>

#include "Runtime/Host/Checked/Shadow.h"

namespace mori::host::races {

/// An access of the calling thread; nothing unless it is a warp, and the memory symmetric.
void access(const void* address, uint64_t bytes, Kind kind, const void* code);
void enterFunction(const void* caller);
void leaveFunction();

}  // namespace mori::host::races
