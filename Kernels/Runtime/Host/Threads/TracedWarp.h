// Which warp a thread is, for the records of traced launches.
#pragma once

namespace mori::host {

struct TracedWarp {
    int block = 0;
    int warp = 0;
};

/// Set by traced launches only.
inline thread_local TracedWarp tracedWarp;

}  // namespace mori::host
