// The host device's entry, linked in; the table's type is in moriep.h.
#ifndef MORIEP_HOST_H
#define MORIEP_HOST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The host device's `moriep_device_api`, or null for a version it does not know.
const void* moriep_host_api(uint32_t version);

/// The kernels' own conversions, so that they can be checked pattern by pattern: `count` entries of
/// a moriep_element_type (of fp4: pairs) to fp32, exact; and fp32 to entries, rounded. They return
/// a moriep_status.
int32_t moriep_host_widen(int32_t type, const void* entries, int64_t count, float* values);
int32_t moriep_host_round(int32_t type, const float* values, int64_t count, void* entries);

/// Bytes of rows, with their scales and metadata, that the kernels of a host stream have read and
/// written so far; what is read once and stored at several places counts once as read. `stream` is
/// a `moriep_stream` of the host.
void moriep_host_stream_traffic(const void* stream, uint64_t* read, uint64_t* written);

/// Bytes of the last-level cache, as the choice between cached and streaming stores takes it.
uint64_t moriep_host_last_level_cache_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
