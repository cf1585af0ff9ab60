// The NVIDIA machine: a warp of 32 lanes, a block is a thread block.
//
// This file holds what only NVIDIA's compiler can say: words with their scope, lanes talking to
// each other, accesses of rows. Warp and Block are built on it in Device/Lanes.h, as for AMD.
//
// Memory order is PTX's: fences are cumulative, so a thread's release covers what it saw through a
// barrier; Block::publish fences in every thread all the same, because that is the contract.
// Lanes may part at any branch here, so every primitive ends by bringing them together again.
#pragma once

#include "Device/Types.h"

namespace mori::machine {

/// Lanes of a warp.
constexpr int kLanes = 32;
/// Warps of a block, at most: 512 lanes, which leaves 128 registers to each.
constexpr int kMaxWarpsPerBlock = 16;
/// What a lane of a sum has under way: vectors side by side of so many rows.
constexpr int kSumVectors = 1;
constexpr int kSumRows = 8;

constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// -------------------------------------------------------------------------------------------
// Words

/// Number of lanes that run a primitive together; only sizes of work may depend on it.
MORI_DEVICE int lanesPerWarp() { return kLanes; }

/// One look at a word that a peer stores with `storeSystem`. Pair with `acquireSystem` after it.
MORI_DEVICE uint64_t pollSystem(const uint64_t* word) {
    uint64_t value;
    asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
    return value;
}

/// Makes visible to this warp what the writer of a polled word had published before.
MORI_DEVICE void acquireSystem() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

/// Makes this warp's stores visible to the whole system.
MORI_DEVICE void releaseSystem() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

/// Stores a word that peers poll, after everything published before it.
MORI_DEVICE void storeSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

/// Adds to a word of a peer. Relaxed: it reserves, it does not announce.
MORI_DEVICE uint64_t addSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    uint64_t before;
    asm volatile("atom.add.relaxed.sys.u64 %0, [%1], %2;"
                 : "=l"(before)
                 : "l"(word), "l"(value)
                 : "memory");
    return before;
}

/// Adds to a word of this device that other blocks add to.
MORI_DEVICE uint32_t addDevice(uint32_t* word, uint32_t value, const BlockOnce&) {
    uint32_t before;
    asm volatile("atom.add.acq_rel.gpu.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(word), "r"(value)
                 : "memory");
    return before;
}

/// Sets a word of this device and tells what it was.
MORI_DEVICE uint32_t exchangeDevice(uint32_t* word, uint32_t value, const WarpOnce&) {
    uint32_t before;
    asm volatile("atom.exch.acq_rel.gpu.b32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(word), "r"(value)
                 : "memory");
    return before;
}

/// Adds to a word of `Block::shared`.
MORI_DEVICE uint32_t addShared(uint32_t* word, uint32_t value, const WarpOnce&) {
    return atomicAdd_block(word, value);
}

/// Reads a word of this device that other blocks may have stored in the same launch.
MORI_DEVICE uint32_t loadDevice(const uint32_t* word) {
    uint32_t value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}

/// Stores host-visible memory's last word: everything before it is visible to the host first.
MORI_DEVICE void storeHost(uint32_t* word, uint32_t value, const WarpOnce&) {
    asm volatile("st.release.sys.u32 [%0], %1;" ::"l"(word), "r"(value) : "memory");
}

/// Raises a word in every peer's memory that several failing warps of one rank may store alike.
MORI_DEVICE void raiseSystem(uint64_t* word, uint64_t value, const WarpOnce&) {
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

/// A clock that runs at one rate on all ranks of a node, in nanoseconds.
MORI_DEVICE uint64_t now() {
    uint64_t value;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(value)::"memory");
    return value;
}

/// Adds to a number that nobody waits for, and tells what it was.
MORI_DEVICE uint64_t addCount(uint64_t* count, uint64_t value) {
    return atomicAdd(reinterpret_cast<unsigned long long*>(count), value);
}

/// Stores a record. The host reads it after the launch has ended.
MORI_DEVICE void storeRecord(moriep_trace_record* record, uint64_t time, uint64_t what) {
    record->what = what;
    record->time_ns = time;
}

/// Stores a time for the host, which looks for it while the kernel runs.
MORI_DEVICE void storeClock(uint64_t* word, uint64_t time) {
    asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(word), "l"(time) : "memory");
}

/// Counts one token more that chose an expert; other lanes do too.
MORI_DEVICE void countExpert(uint32_t* count, bool) { atomicAdd(count, 1u); }

/// Which warp runs this, where no Block is at hand.
MORI_DEVICE int blockOfGrid() { return static_cast<int>(blockIdx.x); }
MORI_DEVICE int warpOfBlock() { return static_cast<int>(threadIdx.x) / kLanes; }

/// Whether a waiting warp looks at the clock and the abort words in this turn.
MORI_DEVICE bool checksClock(int turn) { return turn % 64 == 63; }

/// Between two looks at a word: leaves the issue slots to other warps for a moment.
MORI_DEVICE void relax(int, const uint64_t*, uint64_t, bool) { __nanosleep(20); }

/// Stores a ring's descriptor for the proxy, after everything published before it. Each word tells
/// by its lap bit whether it is there, so no order is needed among them.
MORI_DEVICE void storeDescriptor(uint64_t* words, const uint64_t (&values)[4], const WarpOnce&) {
    releaseSystem();
    for (int i = 0; i < 4; ++i) {
        asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(words + i), "l"(values[i]) : "memory");
    }
}

/// The proxy of a GPU never sleeps for long: nobody has to wake it.
MORI_DEVICE void ringDoorbell(uint64_t*, const WarpOnce&) {}

/// A kernel's arguments; what AMD's scalar registers cannot keep is read again there.
template <class Arguments>
MORI_DEVICE const Arguments& reread(const Arguments& arguments) {
    return arguments;
}

// -------------------------------------------------------------------------------------------
// Lanes

/// This lane's place in its warp.
MORI_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kLanes; }

/// A value that is the same in all lanes, told to the compiler.
MORI_DEVICE int uniform(int value) { return __shfl_sync(kAllLanes, value, 0); }
MORI_DEVICE uint64_t uniform(uint64_t value) {
    return __shfl_sync(kAllLanes, static_cast<unsigned long long>(value), 0);
}

/// The set of lanes in which `condition` holds.
MORI_DEVICE uint64_t ballot(bool condition) { return __ballot_sync(kAllLanes, condition); }

/// The lowest lane of a set that is not empty.
MORI_DEVICE int lowestLane(uint64_t set) { return __ffs(static_cast<int>(set)) - 1; }

/// What lane `from` holds; `from` is the same in all lanes.
MORI_DEVICE uint64_t fromLane(uint64_t value, int from) {
    return __shfl_sync(kAllLanes, static_cast<unsigned long long>(value), from);
}

/// What the lane whose place differs by the bits of `mask` holds.
MORI_DEVICE uint64_t fromPartner(uint64_t value, int mask) {
    return __shfl_xor_sync(kAllLanes, static_cast<unsigned long long>(value), mask);
}

/// Brings lanes that parted at a branch together.
MORI_DEVICE void converge() { __syncwarp(); }

/// AMD's compiler needs to be told; this one sees by itself how many registers there are.
MORI_DEVICE void keepApart() {}

/// Orders the warp's stores before its lanes' later loads.
MORI_DEVICE void syncWarp() { __syncwarp(); }

// -------------------------------------------------------------------------------------------
// Rows

/// The type of one access of so many bytes.
template <int bytes>
struct Access;
template <>
struct Access<16> {
    using Type = uint4;
};
template <>
struct Access<8> {
    using Type = uint2;
};
template <>
struct Access<4> {
    using Type = uint32_t;
};
template <>
struct Access<2> {
    using Type = uint16_t;
};
template <>
struct Access<1> {
    using Type = uint8_t;
};

/// Bytes at `base + offset`. Rows pass through once, so the caches need not keep them.
template <int bytes>
MORI_DEVICE typename Access<bytes>::Type loadRow(uint64_t base, uint32_t offset) {
    return __ldcs(pointer<const typename Access<bytes>::Type>(base + offset));
}

template <int bytes>
MORI_DEVICE void storeRow(uint64_t base, uint32_t offset, typename Access<bytes>::Type value) {
    __stcs(pointer<typename Access<bytes>::Type>(base + offset), value);
}

}  // namespace mori::machine

#include "Device/Lanes.h"
