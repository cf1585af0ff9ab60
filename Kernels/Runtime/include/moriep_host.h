// The host device's entry, linked in; the table's type is in moriep.h.
#ifndef MORIEP_HOST_H
#define MORIEP_HOST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The host device's `moriep_device_api`, or null for a version it does not know.
const void* moriep_host_api(uint32_t version);

#ifdef __cplusplus
}
#endif

#endif
