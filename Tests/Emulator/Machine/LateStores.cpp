#include "Machine/LateStores.h"

#include <cstring>

namespace emulator {

std::unique_ptr<LateStores::Store> LateStores::make(int bytes) {
    if (waiting_.size() == kMost) arrive(0);
    std::unique_ptr<Store> store;
    if (unused_.empty()) {
        store = std::make_unique<Store>();
    } else {
        store = std::move(unused_.back());
        unused_.pop_back();
    }
    store->number = number_;
    store->lanes = 0;
    store->begin = ~0ull;
    store->end = 0;
    store->bytes = bytes;
    return store;
}

void LateStores::add(std::unique_ptr<Store> store) {
    (store->lanes == 0 ? unused_ : waiting_).push_back(std::move(store));
}

void LateStores::arrive(size_t position) {
    std::unique_ptr<Store> store = std::move(waiting_[position]);
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(position));
    for (int lane = 0; lane < 64; ++lane) {
        if ((store->lanes >> lane & 1) == 0) continue;
        void* address = reinterpret_cast<void*>(store->addresses[lane]);
        // Words are seen whole.
        if (store->bytes == 8 && (store->addresses[lane] & 7) == 0) {
            uint64_t value;
            std::memcpy(&value, store->data[lane], sizeof value);
            __atomic_store_n(static_cast<uint64_t*>(address), value, __ATOMIC_RELEASE);
        } else if (store->bytes == 4 && (store->addresses[lane] & 3) == 0) {
            __atomic_store_n(
                static_cast<uint32_t*>(address), store->data[lane][0], __ATOMIC_RELEASE);
        } else {
            std::memcpy(address, store->data[lane], static_cast<size_t>(store->bytes));
        }
    }
    unused_.push_back(std::move(store));
}

void LateStores::arriveAny() {
    size_t chosen = random_.below(waiting_.size());
    // Stores to the same bytes arrive in order: an earlier one that overlaps goes first.
    for (size_t earlier = 0; earlier < chosen; ++earlier) {
        if (waiting_[earlier]->begin < waiting_[chosen]->end &&
            waiting_[chosen]->begin < waiting_[earlier]->end) {
            chosen = earlier;
            break;
        }
    }
    arrive(chosen);
}

void LateStores::settle(uint64_t begin, uint64_t end) {
    size_t last = waiting_.size();
    for (size_t i = 0; i < waiting_.size(); ++i) {
        if (waiting_[i]->begin < end && begin < waiting_[i]->end) last = i;
    }
    if (last == waiting_.size()) return;
    for (size_t i = 0; i <= last; ++i) arrive(0);
}

void LateStores::waitFor(uint64_t outstanding) {
    while (!waiting_.empty() && waiting_.front()->number + outstanding <= number_) arrive(0);
}

}  // namespace emulator
