// Memory: mappings of the host that other processes can open, between pages that fault.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <tuple>

#include "HIP/Standin.h"

namespace {

enum class Kind { device, pinned, imported };

struct Mapping {
    size_t bytes;   ///< as asked for
    size_t mapped;  ///< whole pages
    int file;
    Kind kind;
};

struct Registry {
    std::mutex mutex;
    std::map<uintptr_t, Mapping> mappings;
    /// Freed, and still mapped for a while: HIP's own hipFree waits for the work under way.
    std::deque<std::tuple<std::chrono::steady_clock::time_point, uintptr_t, Mapping>> freed;
};

Registry& registry() {
    static Registry* shared = new Registry;  // outlives static destruction
    return *shared;
}

size_t pageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

int64_t countOf(Kind first, Kind second) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    int64_t count = 0;
    for (const auto& [address, mapping] : known.mappings) {
        if (mapping.kind == first || mapping.kind == second) count += 1;
    }
    return count;
}

/// Maps a file between two pages that fault when a kernel leaves its buffer.
void* mapGuarded(int file, size_t mapped) {
    const size_t page = pageBytes();
    void* room = mmap(nullptr, mapped + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return nullptr;
    void* wish = static_cast<char*>(room) + page;
    void* found = mmap(wish, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
    if (found == wish) return found;
    munmap(room, mapped + 2 * page);
    return nullptr;
}

void unmapGuarded(uintptr_t address, const Mapping& mapping) {
    const size_t page = pageBytes();
    munmap(reinterpret_cast<char*>(address) - page, mapping.mapped + 2 * page);
    close(mapping.file);
}

hipError_t allocate(void** out, size_t bytes, Kind kind) {
    const size_t page = pageBytes();
    const size_t mapped = (bytes + page - 1) / page * page;
    const int file = memfd_create("standin", MFD_CLOEXEC);
    if (file < 0) return hipErrorOutOfMemory;
    void* address =
        ftruncate(file, static_cast<off_t>(mapped)) == 0 ? mapGuarded(file, mapped) : nullptr;
    if (address == nullptr) {
        close(file);
        return hipErrorOutOfMemory;
    }
    // A GPU's memory is not zero either.
    std::memset(address, 0xa5, mapped);
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    known.mappings[reinterpret_cast<uintptr_t>(address)] = {bytes, mapped, file, kind};
    *out = address;
    return hipSuccess;
}

hipError_t release(void* address, Kind kind) {
    if (address == nullptr) return hipSuccess;
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.mappings.find(reinterpret_cast<uintptr_t>(address));
    if (found == known.mappings.end() || found->second.kind != kind) return hipErrorInvalidValue;
    const auto now = std::chrono::steady_clock::now();
    known.freed.emplace_back(now, found->first, found->second);
    known.mappings.erase(found);
    while (now - std::get<0>(known.freed.front()) > std::chrono::seconds(2)) {
        unmapGuarded(std::get<1>(known.freed.front()), std::get<2>(known.freed.front()));
        known.freed.pop_front();
    }
    return hipSuccess;
}

/// What is in a hipIpcMemHandle_t.
struct Shared {
    int32_t process, file;
    uint64_t bytes, mapped;
};
static_assert(sizeof(Shared) <= sizeof(hipIpcMemHandle_t));

}  // namespace

namespace standin {

bool isAllocated(const void* address) {
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    const auto above = known.mappings.upper_bound(at);
    if (above == known.mappings.begin()) return false;
    const auto& [begin, mapping] = *std::prev(above);
    return at < begin + mapping.bytes;
}

int64_t liveAllocations() { return countOf(Kind::device, Kind::pinned); }
int64_t liveImports() { return countOf(Kind::imported, Kind::imported); }

}  // namespace standin

extern "C" {

hipError_t hipMalloc(void** out, size_t bytes) {
    STANDIN_ENTER(hipMalloc);
    return standin::remember(allocate(out, bytes, Kind::device));
}

hipError_t hipExtMallocWithFlags(void** out, size_t bytes, unsigned flags) {
    STANDIN_ENTER(hipExtMallocWithFlags);
    // Fine-grained, or uncached where the headers have it (0x3): ordinary memory is not for peers.
    if (flags != hipDeviceMallocFinegrained && flags != 0x3) {
        return standin::remember(hipErrorInvalidValue);
    }
    return standin::remember(allocate(out, bytes, Kind::device));
}

hipError_t hipFree(void* address) {
    STANDIN_ENTER(hipFree);
    return standin::remember(release(address, Kind::device));
}

hipError_t hipHostMalloc(void** out, size_t bytes, unsigned flags) {
    STANDIN_ENTER(hipHostMalloc);
    if ((flags & hipHostMallocCoherent) == 0) return standin::remember(hipErrorInvalidValue);
    return standin::remember(allocate(out, bytes, Kind::pinned));
}

hipError_t hipHostFree(void* address) {
    STANDIN_ENTER(hipHostFree);
    return standin::remember(release(address, Kind::pinned));
}

hipError_t hipHostGetDevicePointer(void** out, void* address, unsigned) {
    STANDIN_ENTER(hipHostGetDevicePointer);
    *out = address;
    return hipSuccess;
}

hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t* handle, void* address) {
    STANDIN_ENTER(hipIpcGetMemHandle);
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    const auto found = known.mappings.find(reinterpret_cast<uintptr_t>(address));
    if (found == known.mappings.end() || found->second.kind != Kind::device) {
        return standin::remember(hipErrorInvalidValue);
    }
    const Shared shared = {getpid(), found->second.file, found->second.bytes, found->second.mapped};
    std::memset(handle, 0, sizeof *handle);
    std::memcpy(handle, &shared, sizeof shared);
    return hipSuccess;
}

hipError_t hipIpcOpenMemHandle(void** out, hipIpcMemHandle_t handle, unsigned flags) {
    STANDIN_ENTER(hipIpcOpenMemHandle);
    Shared shared;
    std::memcpy(&shared, &handle, sizeof shared);
    // As HIP does: a handle of this very process cannot be opened.
    if (flags != hipIpcMemLazyEnablePeerAccess || shared.process == getpid()) {
        return standin::remember(hipErrorInvalidValue);
    }
    const std::string path =
        "/proc/" + std::to_string(shared.process) + "/fd/" + std::to_string(shared.file);
    const int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (file < 0) return standin::remember(hipErrorInvalidHandle);
    void* address = mapGuarded(file, shared.mapped);
    if (address == nullptr) {
        close(file);
        return standin::remember(hipErrorOutOfMemory);
    }
    Registry& known = registry();
    std::lock_guard lock(known.mutex);
    known.mappings[reinterpret_cast<uintptr_t>(address)] = {
        shared.bytes, shared.mapped, file, Kind::imported};
    *out = address;
    return hipSuccess;
}

hipError_t hipIpcCloseMemHandle(void* address) {
    STANDIN_ENTER(hipIpcCloseMemHandle);
    return standin::remember(release(address, Kind::imported));
}

hipError_t hipMemcpyAsync(
    void* destination, const void* source, size_t bytes, hipMemcpyKind, hipStream_t stream) {
    STANDIN_ENTER(hipMemcpyAsync);
    return standin::remember(standin::enqueue(stream, [=] {
        std::memcpy(destination, source, bytes);
        return hipSuccess;
    }));
}

hipError_t hipMemsetAsync(void* destination, int value, size_t bytes, hipStream_t stream) {
    STANDIN_ENTER(hipMemsetAsync);
    return standin::remember(standin::enqueue(stream, [=] {
        std::memset(destination, value, bytes);
        return hipSuccess;
    }));
}

}  // extern "C"
