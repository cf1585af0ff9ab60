#include "Runtime/GPU/Memory.h"

#include <map>
#include <mutex>

#include "Runtime/GPU/Device.h"
#include "Runtime/GPU/Status.h"
#include "Runtime/GPU/Stream.h"

namespace mori::gpu {
namespace {

struct Allocation {
    uint64_t bytes;
    int32_t kind;
};

struct Registry {
    std::mutex mutex;
    std::map<uint64_t, Allocation> allocations;
    int64_t bytes = 0;
};

Registry& registry() {
    static Registry* shared = new Registry;  // outlives static destruction
    return *shared;
}

void* asPointer(uint64_t address) {
    return reinterpret_cast<void*>(static_cast<uintptr_t>(address));
}

/// Pinned memory has one address for host and device, or is of no use here.
moriep_status allocatePinnedAtOneAddress(void** out, uint64_t bytes) {
    MORI_TRY(check(allocatePinned(out, bytes), kAllocatePinned));
    void* onDevice = nullptr;
    const moriep_status status =
        check(GPU(HostGetDevicePointer)(&onDevice, *out, 0), GPU_PREFIX "HostGetDevicePointer");
    if (status == MORIEP_SUCCESS && onDevice == *out) return MORIEP_SUCCESS;
    MORI_TRY(check(freePinned(*out), kFreePinned));
    if (status != MORIEP_SUCCESS) return status;
    return fail(MORIEP_NOT_SUPPORTED,
                0,
                "pinned memory has another address on the device than on the host; "
                "the device has no unified addressing");
}

}  // namespace

moriep_status memoryAllocate(int32_t device, int32_t kind, uint64_t bytes, uint64_t* out) {
    if (bytes == 0) return fail(MORIEP_INVALID_ARGUMENT, 0, "an allocation of 0 bytes");
    GPU_USE_DEVICE(device);
    MORI_TRY(loadKernels(device));
    void* address = nullptr;
    switch (kind) {
        case MORIEP_MEMORY_DEVICE:
            GPU_TRY(Malloc, &address, bytes);
            break;
        case MORIEP_MEMORY_SYMMETRIC:
            MORI_TRY(check(allocateSymmetric(&address, bytes), kAllocateSymmetric));
            break;
        case MORIEP_MEMORY_PINNED:
            MORI_TRY(allocatePinnedAtOneAddress(&address, bytes));
            break;
        default:
            return fail(MORIEP_INVALID_ARGUMENT, 0, "memory kind %d", kind);
    }
    *out = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(address));
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    known.allocations[*out] = {bytes, kind};
    known.bytes += static_cast<int64_t>(bytes);
    return MORIEP_SUCCESS;
}

moriep_status memoryFree(int32_t device, int32_t kind, uint64_t address) {
    if (allocatedBytes(address, kind) == 0) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "no allocation of this kind at this address");
    }
    GPU_USE_DEVICE(device);
    // Forgotten first: once the runtime has the memory back, another thread may get the address.
    Registry& known = registry();
    Allocation allocation{};
    {
        std::lock_guard lock(known.mutex);
        const auto found = known.allocations.find(address);
        if (found == known.allocations.end()) {
            return fail(MORIEP_INVALID_ARGUMENT, 0, "an allocation that was freed meanwhile");
        }
        allocation = found->second;
        known.allocations.erase(found);
        known.bytes -= static_cast<int64_t>(allocation.bytes);
    }
    const moriep_status status = kind == MORIEP_MEMORY_PINNED
                                     ? check(freePinned(asPointer(address)), kFreePinned)
                                     : check(GPU(Free)(asPointer(address)), GPU_PREFIX "Free");
    if (status == MORIEP_SUCCESS) return status;
    std::lock_guard lock(known.mutex);
    known.allocations[address] = allocation;
    known.bytes += static_cast<int64_t>(allocation.bytes);
    return status;
}

moriep_status memoryCopy(moriep_stream* stream,
                         uint64_t destination,
                         uint64_t source,
                         uint64_t bytes) {
    if (bytes == 0) return MORIEP_SUCCESS;
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(MemcpyAsync,
            asPointer(destination),
            asPointer(source),
            bytes,
            GPU(MemcpyDefault),
            stream->native);
    return MORIEP_SUCCESS;
}

moriep_status memoryFill(moriep_stream* stream, uint64_t address, uint8_t byte, uint64_t bytes) {
    if (bytes == 0) return MORIEP_SUCCESS;
    GPU_USE_DEVICE(stream->device);
    GPU_TRY(MemsetAsync, asPointer(address), byte, bytes, stream->native);
    return MORIEP_SUCCESS;
}

uint64_t allocatedBytes(uint64_t address, int32_t kind) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.allocations.find(address);
    const bool matches = found != known.allocations.end() && found->second.kind == kind;
    return matches ? found->second.bytes : 0;
}

void countAllocations(moriep_live_counts* out) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    out->allocations = static_cast<int64_t>(known.allocations.size());
    out->allocated_bytes = known.bytes;
}

}  // namespace mori::gpu
