// The kernels' launches on the host device: one function a verb, each the verb's launches in order.
#pragma once

#include "Runtime/Host/Threads/Grid.h"
#include "moriep.h"

namespace mori::host {

/// Whether the launch can run here: kernel type, grid and block memory.
moriep_status checkDispatch(const moriep_dispatch_arguments& arguments);
moriep_status checkCombine(const moriep_combine_arguments& arguments);

/// On the stream's thread; the arguments were checked.
moriep_status checkReceived(const moriep_received_arguments& arguments);
void runReceived(GridRunner& grid, const moriep_received_arguments& arguments);
void runDispatch(GridRunner& grid, const moriep_dispatch_arguments& arguments);
void runCombine(GridRunner& grid, const moriep_combine_arguments& arguments);

}  // namespace mori::host
