#include "Machine/BlockMemory.h"

#include <sys/mman.h>

#include <cstring>
#include <vector>

namespace emulator {
namespace {

constexpr uint64_t kFirst = 0x200000000000;
constexpr uint64_t kStep = 1ull << 32;
constexpr uint64_t kBytes = 64 * 1024;

// Of the machine's one thread.
uint64_t next = kFirst;
std::vector<uint64_t> unused;

}  // namespace

uint64_t takeBlockMemory() {
    uint64_t address = 0;
    if (unused.empty()) {
        void* wish = reinterpret_cast<void*>(next);
        // What lies behind reads as zeros, as on a GPU; a kernel that stores there faults. (The
        // translated functions also load for lanes that do not run, whose addresses are anything.)
        void* found = mmap(wish,
                           kStep,
                           PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE,
                           -1,
                           0);
        if (found != wish || mprotect(wish, kBytes, PROT_READ | PROT_WRITE) != 0) return 0;
        address = next;
        next += kStep;
    } else {
        address = unused.back();
        unused.pop_back();
    }
    std::memset(reinterpret_cast<void*>(address), 0xa5, kBytes);
    return address;
}

void giveBackBlockMemory(uint64_t address) { unused.push_back(address); }

}  // namespace emulator
