// The C ABI between Swift and the kernels: one versioned table of functions per kind of device.
//
// Three libraries implement it. The host device is linked into Swift programs (`moriep_host_api`),
// and a shared object for programs in C; the AMD and the NVIDIA device are shared objects that are
// opened at run time. All shared objects export `moriep_get_api`.
// Rules: C11 only; every function returns a status and writes its results through pointers; no C++
// exception crosses; device addresses are 64-bit integers, never dereferenced by Swift unless the
// device says that its memory is host memory.
#ifndef MORIEP_H
#define MORIEP_H

#include <stddef.h>
#include <stdint.h>

#include "moriep_operator.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MORIEP_API_VERSION 3u
/// Bytes of an exported memory handle (HIP's and CUDA's own take 64 of them).
#define MORIEP_MEMORY_HANDLE_BYTES 128

// ---------------------------------------------------------------------------------------------
// Status, kinds

typedef enum moriep_status {
    MORIEP_SUCCESS = 0,
    MORIEP_INVALID_ARGUMENT = 1,
    MORIEP_OUT_OF_MEMORY = 2,
    MORIEP_NO_DEVICE = 3,
    MORIEP_NOT_SUPPORTED = 4,
    MORIEP_DEVICE_FAILURE = 5,
    MORIEP_NOT_RESIDENT = 6,  ///< a launch that cannot be resident as a whole
    MORIEP_NOT_READY = 7,     ///< a query: work is still under way
    MORIEP_CAPTURE_INVALID = 8,
} moriep_status;

typedef enum moriep_device_kind {
    MORIEP_DEVICE_HOST = 0,
    MORIEP_DEVICE_AMD = 1,
    MORIEP_DEVICE_NVIDIA = 2,
    MORIEP_DEVICE_EMULATED = 3,  ///< AMD's code, run by the emulator of the tests
} moriep_device_kind;

typedef enum moriep_memory_kind {
    MORIEP_MEMORY_DEVICE = 0,     ///< private to the device
    MORIEP_MEMORY_SYMMETRIC = 1,  ///< uncached where the device has it; can be exported to peers
    MORIEP_MEMORY_PINNED = 2,     ///< host memory that the device reads and writes
} moriep_memory_kind;

// ---------------------------------------------------------------------------------------------
// Devices, memory

typedef struct moriep_device_properties {
    char name[128];
    char architecture[64];   ///< "gfx942:sramecc+:xnack-", "sm_90", "x86_64"
    int32_t kind;            ///< moriep_device_kind
    int32_t lanes_per_warp;  ///< 64 on gfx9, 32 on NVIDIA, 1 on the host
    int32_t compute_units;   ///< hardware threads on the host
    int32_t max_warps_per_block;
    int32_t max_resident_warps;     ///< of one launch, on an otherwise idle device
    int32_t memory_is_host_memory;  ///< 1: the host may dereference device addresses
    uint64_t memory_bytes;
    uint64_t shared_bytes_per_block;
} moriep_device_properties;

typedef struct moriep_memory_handle {
    uint8_t bytes[MORIEP_MEMORY_HANDLE_BYTES];
} moriep_memory_handle;

/// What this process holds of one library; all zero when everything was released.
typedef struct moriep_live_counts {
    int64_t allocations;
    int64_t allocated_bytes;  ///< as asked for, without the rounding of the allocator
    int64_t imports;
    int64_t streams;
    int64_t events;
    int64_t graphs;
} moriep_live_counts;

/// What a device's clock said between two looks at the host's CLOCK_MONOTONIC.
typedef struct moriep_clock_reading {
    uint64_t before_ns;
    uint64_t device_ns;  ///< of the clock that moriep_trace_record has
    uint64_t after_ns;
} moriep_clock_reading;

typedef struct moriep_stream moriep_stream;
typedef struct moriep_event moriep_event;
typedef struct moriep_graph moriep_graph;

// ---------------------------------------------------------------------------------------------
// The table

typedef struct moriep_device_api {
    uint32_t version;     ///< MORIEP_API_VERSION
    uint32_t byte_count;  ///< sizeof(moriep_device_api)
    int32_t kind;         ///< moriep_device_kind
    int32_t can_trace;    ///< 1: there are kernels that leave traces (moriep_trace.h)

    // Sizes of the structs above as this library was compiled, for the layout check at load.
    uint32_t size_of_properties, size_of_shape, size_of_layout, size_of_control;
    uint32_t size_of_failure, size_of_operator, size_of_dispatch, size_of_combine;
    uint32_t size_of_received, size_of_clock_reading;

    /// What went wrong in this thread's last failing call, in the runtime's own words. Never null.
    const char* (*last_message)(void);
    /// The runtime's own number of that error, 0 for none.
    int32_t (*last_code)(void);

    moriep_status (*device_count)(int32_t* count);
    moriep_status (*device_properties)(int32_t device, moriep_device_properties* out);
    moriep_status (*can_access_peer)(int32_t device, int32_t peer, int32_t* out);
    moriep_status (*live_counts)(moriep_live_counts* out);

    moriep_status (*memory_allocate)(int32_t device, int32_t kind, uint64_t bytes, uint64_t* out);
    moriep_status (*memory_free)(int32_t device, int32_t kind, uint64_t address);
    moriep_status (*memory_export)(int32_t device, uint64_t address, moriep_memory_handle* out);
    /// A handle of this very process gives the address itself.
    moriep_status (*memory_import)(int32_t device,
                                   const moriep_memory_handle* handle,
                                   uint64_t* out);
    moriep_status (*memory_release)(int32_t device,
                                    const moriep_memory_handle* handle,
                                    uint64_t address);
    moriep_status (*memory_export_dmabuf)(
        int32_t device, uint64_t address, uint64_t bytes, int32_t* descriptor, uint64_t* offset);
    moriep_status (*memory_copy)(moriep_stream* stream,
                                 uint64_t destination,
                                 uint64_t source,
                                 uint64_t bytes);
    moriep_status (*memory_fill)(moriep_stream* stream,
                                 uint64_t address,
                                 uint8_t byte,
                                 uint64_t bytes);

    moriep_status (*stream_create)(int32_t device, moriep_stream** out);
    /// Wraps a framework's hipStream_t or cudaStream_t, which stays the framework's.
    moriep_status (*stream_borrow)(int32_t device, uint64_t native, moriep_stream** out);
    moriep_status (*stream_destroy)(moriep_stream* stream);
    moriep_status (*stream_native)(moriep_stream* stream, uint64_t* out);
    moriep_status (*stream_synchronize)(moriep_stream* stream);
    /// The calling thread says that it will soon be in stream_synchronize (1), and that it was or
    /// will not (0), in pairs: in between, what is enqueued need not start before it is. Spares the
    /// host device the waking of another thread; its work still starts within 10 ms.
    moriep_status (*stream_expect_wait)(moriep_stream* stream, int32_t expects);
    moriep_status (*stream_query)(moriep_stream* stream);
    moriep_status (*stream_wait_event)(moriep_stream* stream, moriep_event* event);
    /// Calls `function(context)` from a thread of the runtime once all work before it is done.
    moriep_status (*stream_callback)(moriep_stream* stream, void (*function)(void*), void* context);

    moriep_status (*event_create)(int32_t device, int32_t timed, moriep_event** out);
    moriep_status (*event_destroy)(moriep_event* event);
    moriep_status (*event_record)(moriep_event* event, moriep_stream* stream);
    moriep_status (*event_synchronize)(moriep_event* event);
    moriep_status (*event_query)(moriep_event* event);
    moriep_status (*event_elapsed_ns)(moriep_event* start, moriep_event* stop, int64_t* out);

    moriep_status (*capture_begin)(moriep_stream* stream);
    moriep_status (*capture_end)(moriep_stream* stream, moriep_graph** out);
    moriep_status (*capture_active)(moriep_stream* stream, int32_t* out);
    moriep_status (*graph_launch)(moriep_graph* graph, moriep_stream* stream);
    moriep_status (*graph_destroy)(moriep_graph* graph);

    /// Byte offsets and totals for a shape; pure arithmetic, the same in every library.
    moriep_status (*plan)(const moriep_shape* shape, moriep_layout* out);
    /// Blocks of `verb` that can be resident at once with so many warps each; `traced`: of the
    /// kernels that leave traces.
    moriep_status (*max_resident_blocks)(int32_t device,
                                         int32_t kernel_type,
                                         int32_t verb,
                                         int32_t warps_per_block,
                                         int32_t traced,
                                         int32_t* out);
    moriep_status (*dispatch)(moriep_stream* stream, const moriep_dispatch_arguments* arguments);
    moriep_status (*combine)(moriep_stream* stream, const moriep_combine_arguments* arguments);
    moriep_status (*received)(moriep_stream* stream, const moriep_received_arguments* arguments);
    /// Reads the clock of traces by a launch on an idle stream, which answers at `address`: 8 bytes
    /// of pinned memory that are the launch's until the stream has come to its end.
    /// MORIEP_NOT_READY: there was no answer within `timeout_ns`.
    moriep_status (*read_clock)(moriep_stream* stream,
                                uint64_t address,
                                uint64_t timeout_ns,
                                moriep_clock_reading* out);
} moriep_device_api;

/// What the shared objects export: the table, or null for a version they do not know.
typedef const moriep_device_api* (*moriep_get_api_function)(uint32_t version);

/// The same for programs that are linked with one of them, such as by `pkg-config moriep`.
const moriep_device_api* moriep_get_api(uint32_t version);

#ifdef __cplusplus
}
#endif

#endif
