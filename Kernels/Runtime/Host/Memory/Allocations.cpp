#include "Runtime/Host/Memory/Allocations.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Checked/Races.h"
#include "Runtime/Host/Memory/Descriptors.h"

namespace mori::host {
namespace {

struct Allocation {
    uint64_t bytes;
    int32_t kind;
    int descriptor;      ///< of the memfd; -1 for anonymous memory
    int imports = 0;     ///< by ranks of this very process
    bool freed = false;  ///< by its owner; goes with the last import
};

struct Registry {
    std::mutex mutex;
    std::map<uint64_t, Allocation> allocations;
    std::map<uint64_t, uint64_t> imports;  ///< address to bytes, mappings only
    int64_t allocatedBytes = 0;
    int64_t importCount = 0;
};

Registry& registry() {
    static Registry* shared = new Registry;  // outlives every stream
    return *shared;
}

/// What travels in a moriep_memory_handle.
struct Handle {
    uint64_t process[2];  ///< random number of the exporting process; pids repeat in containers
    uint64_t address;
    uint64_t bytes;
    int32_t pid;
    int32_t descriptor;
    uint64_t inode;
};
static_assert(sizeof(Handle) <= MORIEP_MEMORY_HANDLE_BYTES);

/// Gives the memory back, unless a rank of this process still reaches it: other processes have
/// mappings of their own, ranks of one process have only this one.
void releaseIfUnused(Registry& known, std::map<uint64_t, Allocation>::iterator at) {
    const Allocation& memory = at->second;
    if (!memory.freed || memory.imports > 0) return;
    if (memory.kind == MORIEP_MEMORY_SYMMETRIC) races::removeMemory(at->first);
    munmap(reinterpret_cast<void*>(at->first), memory.bytes);
    if (memory.descriptor >= 0) close(memory.descriptor);
    known.allocatedBytes -= static_cast<int64_t>(memory.bytes);
    known.allocations.erase(at);
}

bool isOwn(const Handle& handle) {
    return std::memcmp(handle.process, processNumber(), sizeof handle.process) == 0;
}

Handle decode(const moriep_memory_handle* handle) {
    Handle decoded;
    std::memcpy(&decoded, handle->bytes, sizeof decoded);
    return decoded;
}

/// Opens the exporter's memfd through procfs, else asks the exporter for it over a socket.
int openPeerDescriptor(const Handle& handle) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/%d/fd/%d", handle.pid, handle.descriptor);
    const int descriptor = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (descriptor >= 0) {
        if (fstat(descriptor, &status) == 0 && status.st_ino == handle.inode &&
            static_cast<uint64_t>(status.st_size) == handle.bytes) {
            return descriptor;
        }
        close(descriptor);  // another process's, in another PID namespace
    }
    return receiveDescriptor(handle.process, handle.descriptor);
}

}  // namespace

moriep_status memoryAllocate(int32_t, int32_t kind, uint64_t bytes, uint64_t* out) {
    if (bytes == 0) return fail(MORIEP_INVALID_ARGUMENT, 0, "an allocation of 0 bytes");
    if (allocationFails(kind == MORIEP_MEMORY_SYMMETRIC ? "symmetric memory" : "memory")) {
        return fail(MORIEP_OUT_OF_MEMORY, ENOMEM, "mmap: %s", std::strerror(ENOMEM));
    }
    int descriptor = -1;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (kind == MORIEP_MEMORY_SYMMETRIC) {
        descriptor = memfd_create("moriep", MFD_CLOEXEC);
        if (descriptor < 0) {
            return fail(MORIEP_OUT_OF_MEMORY, errno, "memfd_create: %s", std::strerror(errno));
        }
        if (ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) {
            const int error = errno;
            close(descriptor);
            return fail(MORIEP_OUT_OF_MEMORY,
                        error,
                        "ftruncate of a memfd to %llu bytes: %s",
                        static_cast<unsigned long long>(bytes),
                        std::strerror(error));
        }
        flags = MAP_SHARED;
    }
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, descriptor, 0);
    if (address == MAP_FAILED) {
        const int error = errno;
        if (descriptor >= 0) close(descriptor);
        return fail(MORIEP_OUT_OF_MEMORY,
                    error,
                    "mmap of %llu bytes: %s",
                    static_cast<unsigned long long>(bytes),
                    std::strerror(error));
    }
    *out = reinterpret_cast<uint64_t>(address);
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    known.allocations[*out] = {bytes, kind, descriptor};
    if (kind == MORIEP_MEMORY_SYMMETRIC) races::addMemory(*out, bytes);
    known.allocatedBytes += static_cast<int64_t>(bytes);
    return MORIEP_SUCCESS;
}

moriep_status memoryFree(int32_t, int32_t kind, uint64_t address) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.allocations.find(address);
    if (found == known.allocations.end() || found->second.kind != kind || found->second.freed) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "no allocation of this kind at this address");
    }
    found->second.freed = true;
    releaseIfUnused(known, found);
    return MORIEP_SUCCESS;
}

moriep_status memoryExport(int32_t, uint64_t address, moriep_memory_handle* out) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.allocations.find(address);
    if (found == known.allocations.end() || found->second.freed || found->second.descriptor < 0) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "no symmetric allocation at this address");
    }
    if (allocationFails("an export")) {
        return fail(MORIEP_DEVICE_FAILURE, EMFILE, "fstat: %s", std::strerror(EMFILE));
    }
    struct stat status;
    if (fstat(found->second.descriptor, &status) != 0) {
        return fail(MORIEP_DEVICE_FAILURE, errno, "fstat: %s", std::strerror(errno));
    }
    Handle handle{};
    std::memcpy(handle.process, processNumber(), sizeof handle.process);
    handle.address = address;
    handle.bytes = found->second.bytes;
    handle.pid = getpid();
    handle.descriptor = found->second.descriptor;
    handle.inode = status.st_ino;
    std::memset(out->bytes, 0, sizeof out->bytes);
    std::memcpy(out->bytes, &handle, sizeof handle);
    return MORIEP_SUCCESS;
}

moriep_status memoryImport(int32_t, const moriep_memory_handle* encoded, uint64_t* out) {
    const Handle handle = decode(encoded);
    Registry& known = registry();
    if (allocationFails("an import")) {
        return fail(MORIEP_OUT_OF_MEMORY, ENOMEM, "mmap of a peer: %s", std::strerror(ENOMEM));
    }
    if (isOwn(handle)) {
        std::lock_guard lock(known.mutex);
        const auto found = known.allocations.find(handle.address);
        if (found == known.allocations.end() || found->second.freed) {
            return fail(MORIEP_INVALID_ARGUMENT, 0, "this handle's memory was freed");
        }
        found->second.imports += 1;
        known.importCount += 1;
        *out = handle.address;
        return MORIEP_SUCCESS;
    }
    const int descriptor = openPeerDescriptor(handle);
    if (descriptor < 0) {
        return fail(MORIEP_DEVICE_FAILURE,
                    errno,
                    "cannot open the memory of process %d: neither /proc/%d/fd/%d nor its socket "
                    "answers; ranks of one node must share a PID or a network namespace and a user",
                    handle.pid,
                    handle.pid,
                    handle.descriptor);
    }
    void* address = mmap(nullptr, handle.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    const int error = errno;
    close(descriptor);
    if (address == MAP_FAILED) {
        return fail(MORIEP_OUT_OF_MEMORY,
                    error,
                    "mmap of %llu bytes of a peer: %s",
                    static_cast<unsigned long long>(handle.bytes),
                    std::strerror(error));
    }
    *out = reinterpret_cast<uint64_t>(address);
    std::lock_guard lock(known.mutex);
    known.imports[*out] = handle.bytes;
    known.importCount += 1;
    return MORIEP_SUCCESS;
}

moriep_status memoryRelease(int32_t, const moriep_memory_handle* encoded, uint64_t address) {
    const Handle handle = decode(encoded);
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    if (isOwn(handle)) {
        const auto found = known.allocations.find(handle.address);
        if (found == known.allocations.end() || found->second.imports == 0) {
            return fail(MORIEP_INVALID_ARGUMENT, 0, "no imported memory at this address");
        }
        found->second.imports -= 1;
        releaseIfUnused(known, found);
    } else {
        const auto found = known.imports.find(address);
        if (found == known.imports.end()) {
            return fail(MORIEP_INVALID_ARGUMENT, 0, "no imported memory at this address");
        }
        munmap(reinterpret_cast<void*>(address), found->second);
        known.imports.erase(found);
    }
    known.importCount -= 1;
    return MORIEP_SUCCESS;
}

moriep_status memoryExportDMABuf(int32_t, uint64_t, uint64_t, int32_t*, uint64_t*) {
    return fail(MORIEP_NOT_SUPPORTED, 0, "host memory is registered directly, not by DMA-BUF");
}

void countMemory(moriep_live_counts* out) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    out->allocations = static_cast<int64_t>(known.allocations.size());
    out->allocated_bytes = known.allocatedBytes;
    out->imports = known.importCount;
}

}  // namespace mori::host
