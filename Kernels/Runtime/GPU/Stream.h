// Streams, events and graphs of a GPU.
#pragma once

#include "Runtime/GPU/Alias.h"

struct moriep_stream {
    int32_t device;
    mori::gpu::NativeStream native;
    bool borrowed;  ///< a framework's, who destroys it
};

struct moriep_event {
    int32_t device;
    mori::gpu::NativeEvent native;
};

struct moriep_graph {
    int32_t device;
    mori::gpu::NativeGraphExec native;
};

namespace mori::gpu {

moriep_status streamCreate(int32_t device, moriep_stream** out);
moriep_status streamBorrow(int32_t device, uint64_t native, moriep_stream** out);
moriep_status streamDestroy(moriep_stream* stream);
moriep_status streamNative(moriep_stream* stream, uint64_t* out);
moriep_status streamSynchronize(moriep_stream* stream);
moriep_status streamExpectWait(moriep_stream* stream, int32_t expects);
moriep_status streamQuery(moriep_stream* stream);
moriep_status streamWaitEvent(moriep_stream* stream, moriep_event* event);
moriep_status streamCallback(moriep_stream* stream, void (*function)(void*), void* context);

moriep_status eventCreate(int32_t device, int32_t timed, moriep_event** out);
moriep_status eventDestroy(moriep_event* event);
moriep_status eventRecord(moriep_event* event, moriep_stream* stream);
moriep_status eventSynchronize(moriep_event* event);
moriep_status eventQuery(moriep_event* event);
moriep_status eventElapsed(moriep_event* start, moriep_event* stop, int64_t* out);

moriep_status captureBegin(moriep_stream* stream);
moriep_status captureEnd(moriep_stream* stream, moriep_graph** out);
moriep_status captureActive(moriep_stream* stream, int32_t* out);
moriep_status graphLaunch(moriep_graph* graph, moriep_stream* stream);
moriep_status graphDestroy(moriep_graph* graph);

/// Fills in streams and events; and graphs.
void countStreams(moriep_live_counts* out);
void countGraphs(moriep_live_counts* out);

}  // namespace mori::gpu
