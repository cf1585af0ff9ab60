// How the host device's functions report: a status, and the words of this thread's last failure.
#pragma once

#include <cstdint>

#include "moriep.h"

namespace mori::host {

/// Remembers the words (printf's format) and returns the status.
__attribute__((format(printf, 3, 4))) moriep_status fail(moriep_status status,
                                                         int32_t code,
                                                         const char* format,
                                                         ...);

const char* lastMessage();
int32_t lastCode();

}  // namespace mori::host
