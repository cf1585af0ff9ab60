// The clock of traces, beside the host's.
#pragma once

#include "moriep.h"

namespace mori::gpu {

moriep_status readClock(moriep_stream* stream,
                        uint64_t address,
                        uint64_t timeout,
                        moriep_clock_reading* out);

}  // namespace mori::gpu
