// Stores of a wave that are not visible yet.
//
// A GPU's stores leave the wave at once and arrive when they like, in any order but for those to
// the same bytes. Only s_waitcnt waits for them: no barrier does. Here a wave's stores wait in a
// list; at each instruction one of them arrives with a chance of one in `period`, chosen at random.
// An access of the same bytes by a wave of the same block, and s_waitcnt force them out: the waves
// of a block share a compute unit, where accesses of the same bytes keep their order. The launch's
// end waits for all of them, the wave's end for none.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace emulator {

/// A small generator of random numbers (xorshift).
class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull | 1) {}
    uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_;
    }
    /// Below `limit`.
    uint64_t below(uint64_t limit) { return (next() >> 11) % limit; }

private:
    uint64_t state_;
};

class LateStores {
public:
    /// One store instruction: for each lane of `lanes`, `bytes` bytes at its address.
    struct Store {
        uint64_t number;
        uint64_t lanes;
        uint64_t begin, end;  ///< all its addresses lie between
        int bytes;
        uint64_t addresses[64];
        uint32_t data[64][4];
    };

    LateStores() = default;
    LateStores(uint64_t seed, uint64_t period) : random_(seed), period_(period) {}

    bool isOn() const { return period_ != 0; }
    bool isEmpty() const { return waiting_.empty(); }

    /// Every access counts, as the hardware's counter of vector memory does.
    void countAccess() { ++number_; }

    /// A store to be filled in and given to `add`.
    std::unique_ptr<Store> make(int bytes);
    void add(std::unique_ptr<Store> store);

    /// Perhaps lets one store arrive.
    void tick() {
        if (!waiting_.empty() && random_.below(period_) == 0) arriveAny();
    }
    /// The bytes are about to be read: what is to be stored there arrives first.
    void settle(uint64_t begin, uint64_t end);
    /// At most `outstanding` of the accesses so far may still be under way.
    void waitFor(uint64_t outstanding);

private:
    void arrive(size_t position);
    void arriveAny();

    static constexpr size_t kMost = 32;
    Random random_{1};
    uint64_t period_ = 0;
    uint64_t number_ = 0;
    std::vector<std::unique_ptr<Store>> waiting_;  ///< in the order of issue
    std::vector<std::unique_ptr<Store>> unused_;
};

}  // namespace emulator
