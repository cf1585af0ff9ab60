// The kernels once more, with the records of Shmem/Trace.h: a call that is traced runs these, and
// the others have not one instruction for it.
#define MORI_TRACED 1

#include "Runtime/GPU/Entries.h"

/// Tells the host what the clock of records says.
extern "C" __global__ __launch_bounds__(mori::machine::kLanes) void moriep_read_clock(
    uint64_t* time) {
    using namespace mori;
    Block block;
    block.warp().elect([&](const WarpOnce&) { machine::storeClock(time, machine::now()); });
}

namespace mori::gpu {

const void* clockKernelAddress() { return reinterpret_cast<const void*>(&moriep_read_clock); }

}  // namespace mori::gpu
