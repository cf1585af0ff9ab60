#include "Machine/Instructions.h"

namespace emulator {

void runWait(Wave& wave, uint32_t word) {
    // The counter's limit has its upper two bits elsewhere; 63 is no limit.
    const uint64_t outstanding = (word & 15) | (word >> 14 & 3) << 4;
    if (outstanding < 63) wave.stores.waitFor(outstanding);
    wave.advance(4);
}

void runTime(Wave& wave, uint32_t word, uint64_t ticks) {
    wave.setScalar64(static_cast<int>(word >> 6 & 127), ticks);
    wave.advance(8);
}

bool runControl(Wave& wave, uint32_t word) {
    const uint64_t next = wave.programCounter() + 4;
    const int destination = static_cast<int>(word >> 16 & 127);
    const int source = static_cast<int>(word & 255);
    if (word >> 28 == 0xb) {  // s_call_b64
        wave.setScalar64(destination, next);
        wave.setScalar64(kProgramCounter,
                         next + static_cast<uint64_t>(int64_t{static_cast<int16_t>(word)} * 4));
        return true;
    }
    switch (word >> 8 & 255) {
        case 0x01:  // s_mov_b64 from an aperture
            wave.setScalar64(destination, uint64_t(wave.scalar(source + 1)) << 32);
            break;
        case 0x1c:  // s_getpc_b64
            wave.setScalar64(destination, next);
            break;
        case 0x1d:  // s_setpc_b64
            wave.setScalar64(kProgramCounter, wave.scalar64(source));
            return true;
        case 0x1e: {  // s_swappc_b64
            const uint64_t target = wave.scalar64(source);
            wave.setScalar64(destination, next);
            wave.setScalar64(kProgramCounter, target);
            return true;
        }
        default:
            return false;
    }
    wave.advance(4);
    return true;
}

namespace {

/// The lane that ds_swizzle reads for a lane.
int swizzled(uint32_t pattern, int lane) {
    if ((pattern & 0x8000) != 0) {  // within four lanes
        return (lane & ~3) | static_cast<int>(pattern >> (2 * (lane & 3)) & 3);
    }
    const uint32_t within = static_cast<uint32_t>(lane) & 31;
    const uint32_t from = ((within & (pattern & 31)) | (pattern >> 5 & 31)) ^ (pattern >> 10 & 31);
    return (lane & 32) | static_cast<int>(from);
}

}  // namespace

bool runPermute(Wave& wave, const uint32_t* words) {
    const uint32_t operation = words[0] >> 17 & 127;
    const uint32_t offset = words[0] & 0xffff;
    const int address = static_cast<int>(words[1] & 255);
    const int data = static_cast<int>(words[1] >> 8 & 255);
    const int destination = static_cast<int>(words[1] >> 24);
    const uint64_t exec = wave.exec();
    uint32_t results[kLanes] = {};
    for (int lane = 0; lane < kLanes; ++lane) {
        const bool runs = (exec >> lane & 1) != 0;
        if (operation == 0x3d) {
            const int from = swizzled(offset, lane);
            if ((exec >> from & 1) != 0) results[lane] = wave.vector(address, from);
            continue;
        }
        const int other = static_cast<int>((wave.vector(address, lane) + offset) >> 2 & 63);
        if (operation == 0x3e) {  // ds_permute: to the other lane
            if (runs) results[other] = wave.vector(data, lane);
        } else if (operation == 0x3f) {  // ds_bpermute: from the other lane
            if ((exec >> other & 1) != 0) results[lane] = wave.vector(data, other);
        } else {
            return false;
        }
    }
    for (int lane = 0; lane < kLanes; ++lane) {
        if ((exec >> lane & 1) != 0) wave.vector(destination, lane) = results[lane];
    }
    wave.advance(8);
    return true;
}

}  // namespace emulator
