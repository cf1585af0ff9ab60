// The AMD machine: a warp is a wavefront of 64 lanes, a block a workgroup.
//
// This file holds what only AMD's compiler can say: words with their scope, lanes talking to each
// other, accesses of rows. Warp and Block are built on it in Device/Lanes.h, as for NVIDIA.
//
// Memory order. A release at system scope becomes buffer_wbl2 and a wait for this wave's own
// stores; an acquire becomes buffer_inv. Neither reaches another wave's stores, and no compiler
// waits for them at s_barrier: hence Block::publish fences in every wave before its barrier.
#pragma once

#include "Device/Types.h"

namespace mori::machine {

/// Lanes of a warp.
constexpr int kLanes = 64;
/// Warps of a block, at most: 1024 lanes, which leaves 128 vector registers to each.
constexpr int kMaxWarpsPerBlock = 16;
/// What a lane of a sum has under way: vectors side by side of so many rows. With top-8 on 8 ranks
/// a token has 5.25 rows on average, so six nearly always take one turn, and fit the registers.
constexpr int kSumVectors = 2;
constexpr int kSumRows = 6;

// -------------------------------------------------------------------------------------------
// Words

/// Number of lanes that run a primitive together; only sizes of work may depend on it.
MORI_DEVICE int lanesPerWarp() { return kLanes; }

/// One look at a word that a peer stores with `storeSystem`. Pair with `acquireSystem` after it.
/// Relaxed, so that a wait does not throw the caches away at each look.
MORI_DEVICE uint64_t pollSystem(const uint64_t* word) {
    return __hip_atomic_load(word, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// Makes visible to this warp what the writer of a polled word had published before.
MORI_DEVICE void acquireSystem() { __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, ""); }

/// Makes this warp's stores visible to the whole system. The wait is written out: where clang 19
/// knows of no store under way it leaves the fence's own one out, though the write-back of the
/// caches takes its time as well.
MORI_DEVICE void releaseSystem() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
    asm volatile("s_waitcnt vmcnt(0)" ::: "memory");
}

/// Stores a word that peers poll, after everything published before it.
MORI_DEVICE void storeSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    releaseSystem();
    __hip_atomic_store(word, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// Adds to a word of a peer. Relaxed: it reserves, it does not announce.
MORI_DEVICE uint64_t addSystem(uint64_t* word, uint64_t value, const BlockOnce&) {
    return __hip_atomic_fetch_add(word, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// Adds to a word of this device that other blocks add to.
MORI_DEVICE uint32_t addDevice(uint32_t* word, uint32_t value, const BlockOnce&) {
    return __hip_atomic_fetch_add(word, value, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
}

/// Sets a word of this device and tells what it was.
MORI_DEVICE uint32_t exchangeDevice(uint32_t* word, uint32_t value, const WarpOnce&) {
    return __hip_atomic_exchange(word, value, __ATOMIC_ACQ_REL, __HIP_MEMORY_SCOPE_AGENT);
}

/// Adds to a word of `Block::shared`.
MORI_DEVICE uint32_t addShared(uint32_t* word, uint32_t value, const WarpOnce&) {
    return __hip_atomic_fetch_add(word, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
}

/// Reads a word of this device that other blocks may have stored in the same launch.
MORI_DEVICE uint32_t loadDevice(const uint32_t* word) {
    return __hip_atomic_load(word, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT);
}

/// Stores host-visible memory's last word: everything before it is visible to the host first.
MORI_DEVICE void storeHost(uint32_t* word, uint32_t value, const WarpOnce&) {
    releaseSystem();
    __hip_atomic_store(word, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// Raises a word in every peer's memory that several failing warps of one rank may store alike.
MORI_DEVICE void raiseSystem(uint64_t* word, uint64_t value, const WarpOnce&) {
    releaseSystem();
    __hip_atomic_store(word, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// A clock that runs at one rate on all ranks of a node, in nanoseconds: gfx9's real-time counter
/// ticks at 100 MHz whatever the shader clock does.
MORI_DEVICE uint64_t now() { return __builtin_amdgcn_s_memrealtime() * 10; }

/// Whether a waiting warp looks at the clock and the abort words in this turn.
MORI_DEVICE bool checksClock(int turn) { return turn % 64 == 63; }

/// Between two looks at a word: leaves the instruction slots to other waves for 64 clocks.
MORI_DEVICE void relax(int, const uint64_t*, uint64_t, bool) { __builtin_amdgcn_s_sleep(1); }

/// Stores a ring's descriptor for the proxy, after everything published before it. Each word tells
/// by its lap bit whether it is there, so no order is needed among them.
MORI_DEVICE void storeDescriptor(uint64_t* words, const uint64_t (&values)[4], const WarpOnce&) {
    releaseSystem();
    for (int i = 0; i < 4; ++i) {
        __hip_atomic_store(words + i, values[i], __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
    }
}

/// The proxy of a GPU never sleeps for long: nobody has to wake it.
MORI_DEVICE void ringDoorbell(uint64_t*, const WarpOnce&) {}

/// Adds to a number that nobody waits for, and tells what it was.
MORI_DEVICE uint64_t addCount(uint64_t* count, uint64_t value) {
    return __hip_atomic_fetch_add(count, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

/// Stores a record. The host reads it after the launch has ended.
MORI_DEVICE void storeRecord(moriep_trace_record* record, uint64_t time, uint64_t what) {
    record->what = what;
    record->time_ns = time;
}

/// Stores a time for the host, which looks for it while the kernel runs.
MORI_DEVICE void storeClock(uint64_t* word, uint64_t time) {
    __hip_atomic_store(word, time, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
}

/// Counts one token more that chose an expert; other lanes do too.
MORI_DEVICE void countExpert(uint32_t* count, bool) {
    __hip_atomic_fetch_add(count, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
}

/// Which warp runs this, where no Block is at hand.
MORI_DEVICE int blockOfGrid() { return static_cast<int>(blockIdx.x); }
MORI_DEVICE int warpOfBlock() { return static_cast<int>(threadIdx.x) / kLanes; }

/// A kernel's arguments where the launch put them: its only parameter is the beginning of its
/// argument segment. They are large, and a parameter whose address is taken would be copied into
/// every lane's own memory. What was read of them before is read again, instead of being kept in
/// scalar registers all the way from the kernel's begin: the parts of a long kernel call this.
template <class Arguments>
MORI_DEVICE const Arguments& reread(const Arguments&) {
    using Segment = const __attribute__((address_space(4))) Arguments;
    Segment* segment = (Segment*)__builtin_amdgcn_kernarg_segment_ptr();
    asm volatile("" : "+s"(segment));
    return *(const Arguments*)segment;
}

// -------------------------------------------------------------------------------------------
// Lanes

/// This lane's place in its warp.
MORI_DEVICE int lane() { return static_cast<int>(threadIdx.x) % kLanes; }

/// A value that is the same in all lanes, told to the compiler: it then lives in a scalar register.
MORI_DEVICE int uniform(int value) { return __builtin_amdgcn_readfirstlane(value); }
MORI_DEVICE uint64_t uniform(uint64_t value) {
    const uint32_t low = __builtin_amdgcn_readfirstlane(static_cast<uint32_t>(value));
    const uint32_t high = __builtin_amdgcn_readfirstlane(static_cast<uint32_t>(value >> 32));
    return uint64_t(high) << 32 | low;
}

/// The set of lanes in which `condition` holds.
MORI_DEVICE uint64_t ballot(bool condition) { return __ballot(condition); }

/// The lowest lane of a set that is not empty.
MORI_DEVICE int lowestLane(uint64_t set) { return __builtin_ctzll(set); }

/// What lane `from` holds; `from` is the same in all lanes.
MORI_DEVICE uint64_t fromLane(uint64_t value, int from) {
    const uint32_t low = __builtin_amdgcn_readlane(static_cast<uint32_t>(value), from);
    const uint32_t high = __builtin_amdgcn_readlane(static_cast<uint32_t>(value >> 32), from);
    return uint64_t(high) << 32 | low;
}

/// What the lane whose place differs by the bits of `mask` holds.
MORI_DEVICE uint64_t fromPartner(uint64_t value, int mask) {
    return static_cast<uint64_t>(__shfl_xor(static_cast<unsigned long long>(value), mask));
}

/// Lanes of a wavefront are together wherever its code is.
MORI_DEVICE void converge() {}

/// Keeps the compiler from weaving what follows into what came before: of many conversions side by
/// side it would hold more intermediate values than there are registers.
MORI_DEVICE void keepApart() { __builtin_amdgcn_sched_barrier(0); }

/// Orders the warp's stores before its lanes' later loads. A wavefront's accesses are performed in
/// order, so this only keeps the compiler from moving them.
MORI_DEVICE void syncWarp() {
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
}

// -------------------------------------------------------------------------------------------
// Rows

/// The type of one access of so many bytes.
template <int bytes>
struct Access;
template <>
struct Access<16> {
    using Type = uint32_t __attribute__((ext_vector_type(4)));
};
template <>
struct Access<8> {
    using Type = uint32_t __attribute__((ext_vector_type(2)));
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

/// Bytes at `base + offset`. Rows pass through once, so the caches need not keep them. The pointer
/// is one to global memory: flat accesses would wait for block memory as well.
template <int bytes>
MORI_DEVICE typename Access<bytes>::Type loadRow(uint64_t base, uint32_t offset) {
    using Global = const __attribute__((address_space(1))) char;
    using Value = const __attribute__((address_space(1))) typename Access<bytes>::Type;
    return __builtin_nontemporal_load((Value*)((Global*)base + offset));
}

template <int bytes>
MORI_DEVICE void storeRow(uint64_t base, uint32_t offset, typename Access<bytes>::Type value) {
    using Global = __attribute__((address_space(1))) char;
    using Value = __attribute__((address_space(1))) typename Access<bytes>::Type;
    __builtin_nontemporal_store(value, (Value*)((Global*)base + offset));
}

}  // namespace mori::machine

#include "Device/Lanes.h"
