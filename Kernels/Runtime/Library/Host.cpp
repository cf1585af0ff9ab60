// What libmoriep_host.so exports: the host device's table, by the name that all libraries have.
// Programs of this package link the host device in; the shared object is for those that speak C.
#include "moriep.h"

#include "Runtime/include/moriep_host.h"

extern "C" __attribute__((visibility("default"))) const moriep_device_api* moriep_get_api(
    uint32_t version) {
    return static_cast<const moriep_device_api*>(moriep_host_api(version));
}
