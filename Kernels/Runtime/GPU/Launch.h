// The verbs' launches: each enqueues its kernels in order on one stream.
#pragma once

#include "moriep.h"

namespace mori::gpu {

moriep_status received(moriep_stream* stream, const moriep_received_arguments* arguments);
moriep_status dispatch(moriep_stream* stream, const moriep_dispatch_arguments* arguments);
moriep_status combine(moriep_stream* stream, const moriep_combine_arguments* arguments);

}  // namespace mori::gpu
