// The verbs by the kernels that leave traces.
#pragma once

#include "Runtime/Host/Threads/Grid.h"
#include "moriep.h"

namespace mori::host {

void runTracedDispatch(GridRunner& grid, const moriep_dispatch_arguments& arguments, bool streams);
void runTracedCombine(GridRunner& grid, const moriep_combine_arguments& arguments, bool streams);
void runTracedReceived(GridRunner& grid, const moriep_received_arguments& arguments);

}  // namespace mori::host
