// The kernels once more, with the records of Shmem/Trace.h: a call that is traced runs these, and
// the others have not one instruction for it.
#define MORI_TRACED 1

#include "Runtime/Host/Stream/TracedLaunch.h"

#include "Runtime/Host/Stream/Verbs.h"

namespace mori::host {

void runTracedDispatch(GridRunner& grid, const moriep_dispatch_arguments& arguments, bool streams) {
    traced::verbs::dispatch(grid, arguments, streams);
}

void runTracedCombine(GridRunner& grid, const moriep_combine_arguments& arguments, bool streams) {
    traced::verbs::combine(grid, arguments, streams);
}

void runTracedReceived(GridRunner& grid, const moriep_received_arguments& arguments) {
    traced::verbs::received(grid, arguments);
}

}  // namespace mori::host
