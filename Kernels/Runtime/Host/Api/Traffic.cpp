#include "Runtime/Host/Memory/Traffic.h"

#include "Runtime/Host/Stream/Stream.h"
#include "moriep_host.h"

void moriep_host_stream_traffic(const void* stream, uint64_t* read, uint64_t* written) {
    const mori::host::Traffic traffic = static_cast<const moriep_stream*>(stream)->traffic();
    *read = traffic.read;
    *written = traffic.written;
}
