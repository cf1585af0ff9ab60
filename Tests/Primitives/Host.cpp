// The primitives of the host device.
#include <mutex>

#include "Primitives.h"
#include "Runtime/Host/Threads/Grid.h"

void primitives_run_on_host(const primitives_arguments* arguments, int32_t blocks, int32_t warps) {
    // One launch at a time, as on a stream.
    static std::mutex mutex;
    static mori::host::GridRunner runner;
    std::lock_guard lock(mutex);
    runner.run(
        blocks, warps, true, [&](mori::Block& block) { mori::primitives::run(block, *arguments); });
}
