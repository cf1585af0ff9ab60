// Vector memory: FLAT, GLOBAL and SCRATCH instructions of gfx9 on host memory.
#include <cstring>

#include "Machine/Instructions.h"

namespace emulator {
namespace {

enum Segment : uint32_t { kFlat = 0, kScratch = 1, kGlobal = 2 };
/// The scalar operand that means none.
constexpr uint32_t kNone = 0x7f;

/// The fields of a FLAT instruction.
struct Fields {
    explicit Fields(const uint32_t* words)
        : operation(words[0] >> 18 & 0x7f),
          segment(words[0] >> 14 & 3),
          returns((words[0] >> 16 & 1) != 0),
          hasVectorOffset((words[0] >> 13 & 1) != 0),
          address(words[1] & 255),
          data(words[1] >> 8 & 255),
          base(words[1] >> 16 & 127),
          destination(words[1] >> 24),
          usesAccumulation((words[1] >> 23 & 1) != 0) {
        // 13 bits with a sign; flat addresses have 12 without.
        offset = segment == kFlat ? static_cast<int32_t>(words[0] & 0xfff)
                                  : static_cast<int32_t>(words[0] << 19) >> 19;
    }

    uint32_t operation, segment;
    bool returns, hasVectorOffset;
    uint32_t address, data, base, destination;
    bool usesAccumulation;
    int32_t offset;
};

uint64_t addressOf(Wave& wave, const Fields& in, int lane) {
    const int number = static_cast<int>(in.address);
    if (in.segment == kScratch) {
        uint32_t at = static_cast<uint32_t>(in.offset);
        if (in.hasVectorOffset) at += wave.vector(number, lane);
        if (in.base != kNone) at += wave.scalar(static_cast<int>(in.base));
        return wave.scratchAddress(lane, at);
    }
    const uint64_t offset = static_cast<uint64_t>(int64_t{in.offset});
    if (in.segment == kGlobal && in.base != kNone) {
        return wave.scalar64(static_cast<int>(in.base)) + wave.vector(number, lane) + offset;
    }
    const uint64_t at = wave.vector64(number, lane) + offset;
    if (in.segment == kFlat && at >> 32 == kPrivateAperture) {
        return wave.scratchAddress(lane, static_cast<uint32_t>(at));
    }
    return at;
}

template <class T>
T* pointer(uint64_t address) {
    return reinterpret_cast<T*>(address);
}

template <class T>
T loadAs(uint64_t address) {
    T value;
    std::memcpy(&value, pointer<void>(address), sizeof value);
    return value;
}

/// Words are read and written whole, as the hardware does when they are aligned.
void loadWords(Wave& wave, int number, int lane, uint64_t address, int count) {
    if (count == 1 && (address & 3) == 0) {
        wave.vector(number, lane) = __atomic_load_n(pointer<uint32_t>(address), __ATOMIC_ACQUIRE);
    } else if (count == 2 && (address & 7) == 0) {
        const uint64_t value = __atomic_load_n(pointer<uint64_t>(address), __ATOMIC_ACQUIRE);
        wave.vector(number, lane) = static_cast<uint32_t>(value);
        wave.vector(number + 1, lane) = static_cast<uint32_t>(value >> 32);
    } else {
        for (int word = 0; word < count; ++word) {
            wave.vector(number + word, lane) = loadAs<uint32_t>(address + uint64_t(word) * 4);
        }
    }
}

void load(Wave& wave, uint32_t operation, int number, int lane, uint64_t address) {
    uint32_t& out = wave.vector(number, lane);
    switch (operation) {
        case 16:
            out = loadAs<uint8_t>(address);
            break;
        case 17:
            out = static_cast<uint32_t>(int32_t{loadAs<int8_t>(address)});
            break;
        case 18:
            out = loadAs<uint16_t>(address);
            break;
        case 19:
            out = static_cast<uint32_t>(int32_t{loadAs<int16_t>(address)});
            break;
        default:
            loadWords(wave, number, lane, address, static_cast<int>(operation) - 19);
    }
}

/// Loads of 8 and 16 bits into one half of a register.
void loadHalf(Wave& wave, uint32_t operation, int number, int lane, uint64_t address) {
    const uint32_t value = operation < 34 ? loadAs<uint8_t>(address)
                           : operation < 36
                               ? static_cast<uint16_t>(int16_t{loadAs<int8_t>(address)})
                               : loadAs<uint16_t>(address);
    uint32_t& out = wave.vector(number, lane);
    out = (operation & 1) != 0 ? (out & 0xffff) | value << 16 : (out & 0xffff0000) | value;
}

/// Bytes of stores 24 to 31.
constexpr int kStoreBytes[] = {1, 1, 2, 2, 4, 8, 12, 16};

/// What a lane stores.
void readStored(Wave& wave, uint32_t operation, int number, int lane, uint32_t (&out)[4]) {
    out[0] = wave.vector(number, lane);
    if (operation == 25 || operation == 27) out[0] >>= 16;
    for (int word = 1; word < kStoreBytes[operation - 24] / 4; ++word) {
        out[word] = wave.vector(number + word, lane);
    }
}

void store(uint64_t address, const uint32_t (&data)[4], int bytes) {
    if (bytes == 4 && (address & 3) == 0) {
        __atomic_store_n(pointer<uint32_t>(address), data[0], __ATOMIC_RELEASE);
    } else if (bytes == 8 && (address & 7) == 0) {
        __atomic_store_n(
            pointer<uint64_t>(address), data[0] | uint64_t(data[1]) << 32, __ATOMIC_RELEASE);
    } else {
        std::memcpy(pointer<void>(address), data, static_cast<size_t>(bytes));
    }
}

/// What an atomic operation makes of the old value; the numbers are those of 32-bit atomics.
template <class Unsigned, class Signed>
bool combined(uint32_t operation, Unsigned old, Unsigned data, Unsigned* out) {
    const Signed oldSigned = static_cast<Signed>(old);
    const Signed dataSigned = static_cast<Signed>(data);
    switch (operation) {
        case 64:
            *out = data;
            return true;
        case 66:
            *out = old + data;
            return true;
        case 67:
            *out = old - data;
            return true;
        case 68:
            *out = oldSigned < dataSigned ? old : data;
            return true;
        case 69:
            *out = old < data ? old : data;
            return true;
        case 70:
            *out = oldSigned > dataSigned ? old : data;
            return true;
        case 71:
            *out = old > data ? old : data;
            return true;
        case 72:
            *out = old & data;
            return true;
        case 73:
            *out = old | data;
            return true;
        case 74:
            *out = old ^ data;
            return true;
        case 75:
            *out = old >= data ? 0 : old + 1;
            return true;
        case 76:
            *out = old == 0 || old > data ? data : old - 1;
            return true;
        default:
            return false;
    }
}

/// An atomic on host memory, so that the host's threads see it as one. Gives the old value.
template <class Unsigned, class Signed>
bool atomic(uint32_t operation, uint64_t address, Unsigned data, Unsigned expected, Unsigned* out) {
    Unsigned* word = pointer<Unsigned>(address);
    Unsigned old = __atomic_load_n(word, __ATOMIC_RELAXED);
    Unsigned replacement = 0;
    do {
        if (operation == 65) {
            replacement = old == expected ? data : old;
        } else if (!combined<Unsigned, Signed>(operation, old, data, &replacement)) {
            return false;
        }
    } while (!__atomic_compare_exchange_n(
        word, &old, replacement, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    *out = old;
    return true;
}

bool runAtomic(Wave& wave, const Fields& in, int lane, uint64_t address) {
    const int data = static_cast<int>(in.data);
    const int destination = static_cast<int>(in.destination);
    if (in.operation < 96) {
        const bool compares = in.operation == 65;
        uint32_t old = 0;
        if (!atomic<uint32_t, int32_t>(in.operation,
                                       address,
                                       wave.vector(data, lane),
                                       compares ? wave.vector(data + 1, lane) : 0,
                                       &old)) {
            return false;
        }
        if (in.returns) wave.vector(destination, lane) = old;
        return true;
    }
    const bool compares = in.operation == 97;
    uint64_t old = 0;
    if (!atomic<uint64_t, int64_t>(in.operation - 32,
                                   address,
                                   wave.vector64(data, lane),
                                   compares ? wave.vector64(data + 2, lane) : 0,
                                   &old)) {
        return false;
    }
    if (in.returns) {
        wave.vector(destination, lane) = static_cast<uint32_t>(old);
        wave.vector(destination + 1, lane) = static_cast<uint32_t>(old >> 32);
    }
    return true;
}

bool isStore(uint32_t operation) { return operation >= 24 && operation < 32; }
/// Whether an address is one of block memory, which is never late.
bool isShared(const Wave& wave, uint64_t address) { return address >> 32 == wave.lds() >> 32; }

/// What waves of the block are still to store to these bytes comes first: a block runs on one
/// compute unit, whose accesses of the same bytes keep their order.
void settle(Wave& wave, uint64_t begin, uint64_t end, bool ownToo) {
    for (const std::unique_ptr<Wave>& other : *wave.block) {
        if (other->stores.isEmpty() || (!ownToo && other.get() == &wave)) continue;
        other->stores.settle(begin, end);
    }
}

}  // namespace

bool runAccess(Wave& wave, const uint32_t* words) {
    const Fields in(words);
    if (in.usesAccumulation || in.operation < 16) return false;
    const uint64_t exec = wave.exec();
    LateStores& late = wave.stores;
    std::unique_ptr<LateStores::Store> waiting;
    if (late.isOn() && in.segment != kScratch) {
        late.countAccess();
        if (isStore(in.operation)) waiting = late.make(kStoreBytes[in.operation - 24]);
    }
    for (int lane = 0; lane < kLanes; ++lane) {
        if ((exec >> lane & 1) == 0) continue;
        const uint64_t address = addressOf(wave, in, lane);
        if (isStore(in.operation)) {
            uint32_t data[4];
            readStored(wave, in.operation, static_cast<int>(in.data), lane, data);
            const int bytes = kStoreBytes[in.operation - 24];
            if (waiting == nullptr || isShared(wave, address)) {
                store(address, data, bytes);
                continue;
            }
            settle(wave, address, address + uint64_t(bytes), false);
            waiting->addresses[lane] = address;
            std::memcpy(waiting->data[lane], data, sizeof data);
            waiting->lanes |= 1ull << lane;
            if (address < waiting->begin) waiting->begin = address;
            if (address + uint64_t(bytes) > waiting->end) waiting->end = address + uint64_t(bytes);
            continue;
        }
        if (late.isOn()) settle(wave, address, address + 16, true);
        if (in.operation < 24) {
            load(wave, in.operation, static_cast<int>(in.destination), lane, address);
        } else if (in.operation < 38) {
            loadHalf(wave, in.operation, static_cast<int>(in.destination), lane, address);
        } else if (!runAtomic(wave, in, lane, address)) {
            return false;
        }
    }
    if (waiting != nullptr) late.add(std::move(waiting));
    wave.advance(8);
    return true;
}

}  // namespace emulator
