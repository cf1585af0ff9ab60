// Which seeded mistake is switched on. Only in a checked build.
#include "Device/Mutants.h"

#if MORI_EP_CHECKED

#include <atomic>

#include "Runtime/include/moriep_checked.h"

namespace {

struct Entry {
    const char* name;
    const char* words;
};

constexpr Entry kMutants[] = {
#define MORI_ENTRY(name, words) {#name, words},
    MORI_FOR_MUTANTS(MORI_ENTRY)
#undef MORI_ENTRY
};
constexpr int32_t kCount = sizeof kMutants / sizeof kMutants[0];

std::atomic<int32_t> active{0};

const Entry* entry(int32_t number) {
    return number >= 1 && number <= kCount ? &kMutants[number - 1] : nullptr;
}

}  // namespace

namespace mori::host {

Mutant activeMutant() { return static_cast<Mutant>(active.load(std::memory_order_relaxed)); }

}  // namespace mori::host

int32_t moriep_mutant_count(void) { return kCount; }
const char* moriep_mutant_name(int32_t number) {
    return entry(number) != nullptr ? entry(number)->name : nullptr;
}
const char* moriep_mutant_words(int32_t number) {
    return entry(number) != nullptr ? entry(number)->words : nullptr;
}
void moriep_use_mutant(int32_t number) {
    active.store(entry(number) != nullptr ? number : 0, std::memory_order_relaxed);
}

#endif
