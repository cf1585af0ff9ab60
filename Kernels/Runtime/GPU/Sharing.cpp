#include "Runtime/GPU/Sharing.h"

#include <sys/random.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

#include "Runtime/GPU/Memory.h"
#include "Runtime/GPU/Status.h"

namespace mori::gpu {
namespace {

/// What travels in a moriep_memory_handle.
struct Handle {
    uint64_t process;  ///< random number of the exporting process; pids repeat in containers
    uint64_t address;  ///< in the exporting process
    uint64_t bytes;
    int32_t pid;
    int32_t kind;      ///< moriep_device_kind
    int32_t device;    ///< ordinal in the exporting process
    int32_t ipcError;  ///< of the runtime: other processes cannot open it; 0: they can
    IPCHandle ipc;
};
static_assert(sizeof(Handle) <= MORIEP_MEMORY_HANDLE_BYTES);

uint64_t processNumber() {
    static const uint64_t number = [] {
        uint64_t random = 0;
        // Can only fail where the kernel has no random numbers; the pid then stands alone.
        if (getrandom(&random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) random = 1;
        return random;
    }();
    return number;
}

Handle decode(const moriep_memory_handle* handle) {
    Handle decoded;
    std::memcpy(&decoded, handle->bytes, sizeof decoded);
    return decoded;
}

bool isOwn(const Handle& handle) {
    return handle.process == processNumber() && handle.pid == getpid();
}

/// Memory of other processes, opened once a device however often it is imported: the runtimes
/// differ in what they make of a second opening.
struct Import {
    void* address;
    int64_t uses;
};
using ImportKey = std::tuple<int32_t, uint64_t, uint64_t>;  ///< device, process, address there

struct Registry {
    std::mutex mutex;
    std::map<ImportKey, Import> imports;
    int64_t count = 0;
};

Registry& registry() {
    static Registry* shared = new Registry;  // outlives static destruction
    return *shared;
}

/// Lets the current device reach another's memory in this process.
moriep_status enablePeer(int32_t device, int32_t peer) {
    if (device == peer) return MORIEP_SUCCESS;
    const Error error = GPU(DeviceEnablePeerAccess)(peer, 0);
    if (error == GPU(ErrorPeerAccessAlreadyEnabled)) {
        (void)GPU(GetLastError)();  // no failure, and not to be found later as one
        return MORIEP_SUCCESS;
    }
    return check(error, GPU_PREFIX "DeviceEnablePeerAccess");
}

}  // namespace

moriep_status canAccessPeer(int32_t device, int32_t peer, int32_t* out) {
    *out = 1;
    if (device == peer) return MORIEP_SUCCESS;
    int can = 0;
    GPU_TRY(DeviceCanAccessPeer, &can, device, peer);
    *out = can;
    return MORIEP_SUCCESS;
}

moriep_status memoryExport(int32_t device, uint64_t address, moriep_memory_handle* out) {
    const uint64_t bytes = allocatedBytes(address, MORIEP_MEMORY_SYMMETRIC);
    if (bytes == 0) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "no symmetric allocation at this address");
    }
    GPU_USE_DEVICE(device);
    Handle handle{};
    handle.process = processNumber();
    handle.address = address;
    handle.bytes = bytes;
    handle.pid = getpid();
    handle.kind = kKind;
    handle.device = device;
    // Where the runtime has no handles for other processes, ranks of this one still share memory:
    // the error is told to a process that cannot do without.
    const Error error =
        GPU(IpcGetMemHandle)(&handle.ipc, reinterpret_cast<void*>(static_cast<uintptr_t>(address)));
    if (error != GPU(Success)) {
        (void)GPU(GetLastError)();
        handle.ipcError = static_cast<int32_t>(error);
    }
    std::memset(out->bytes, 0, sizeof out->bytes);
    std::memcpy(out->bytes, &handle, sizeof handle);
    return MORIEP_SUCCESS;
}

moriep_status memoryImport(int32_t device, const moriep_memory_handle* encoded, uint64_t* out) {
    const Handle handle = decode(encoded);
    if (handle.kind != kKind) {
        return fail(MORIEP_INVALID_ARGUMENT,
                    0,
                    "a memory handle of device kind %d; this library's is %d",
                    handle.kind,
                    kKind);
    }
    GPU_USE_DEVICE(device);
    Registry& known = registry();
    if (isOwn(handle)) {
        if (allocatedBytes(handle.address, MORIEP_MEMORY_SYMMETRIC) == 0) {
            return fail(MORIEP_INVALID_ARGUMENT, 0, "this handle's memory was freed");
        }
        MORI_TRY(enablePeer(device, handle.device));
        std::lock_guard lock(known.mutex);
        known.count += 1;
        *out = handle.address;
        return MORIEP_SUCCESS;
    }
    if (handle.ipcError != 0) {
        return check(static_cast<Error>(handle.ipcError),
                     GPU_PREFIX "IpcGetMemHandle in the exporting process");
    }
    std::lock_guard lock(known.mutex);
    const ImportKey key{device, handle.process, handle.address};
    auto found = known.imports.find(key);
    if (found == known.imports.end()) {
        void* address = nullptr;
        GPU_TRY(IpcOpenMemHandle, &address, handle.ipc, GPU(IpcMemLazyEnablePeerAccess));
        found = known.imports.emplace(key, Import{address, 0}).first;
    }
    found->second.uses += 1;
    known.count += 1;
    *out = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(found->second.address));
    return MORIEP_SUCCESS;
}

moriep_status memoryRelease(int32_t device, const moriep_memory_handle* encoded, uint64_t address) {
    const Handle handle = decode(encoded);
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    if (isOwn(handle)) {
        known.count -= 1;
        return MORIEP_SUCCESS;
    }
    const auto found = known.imports.find(ImportKey{device, handle.process, handle.address});
    if (found == known.imports.end() ||
        reinterpret_cast<uintptr_t>(found->second.address) != address) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "no imported memory at this address");
    }
    if (found->second.uses == 1) {
        GPU_USE_DEVICE(device);
        GPU_TRY(IpcCloseMemHandle, found->second.address);
        known.imports.erase(found);
    } else {
        found->second.uses -= 1;
    }
    known.count -= 1;
    return MORIEP_SUCCESS;
}

void countImports(moriep_live_counts* out) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    out->imports = known.count;
}

}  // namespace mori::gpu
