// What every machine's Warp and Block speak of: proofs of single execution, and rows of peers.
#pragma once

#include "Device/Machine.h"
#include "Device/Mutants.h"

namespace mori {

class Warp;
class Block;
class BlockWarp;

/// Proof that the code holding it runs once for its warp (or once for each index of an `each`).
/// Atomics on block memory and stores of single words ask for it, so that a store by 64 lanes is
/// a compile error and not a bug that the host cannot show.
class WarpOnce {
    MORI_DEVICE WarpOnce() {}
    friend class Warp;
    friend class BlockWarp;
    friend class BlockOnce;
};

/// Proof that the code holding it runs once for its block: what signals and remote reservations
/// ask for. Work for a whole block that every warp repeats does not compile.
class BlockOnce : public WarpOnce {
    MORI_DEVICE BlockOnce() {}
    friend class BlockWarp;
};

/// A row of one of a rank's buffers: the symmetric block it lies in and the row's number there.
/// The same row number names the token, its weights, indices and scales.
struct PeerRow {
    uint64_t base;  ///< device address of the symmetric block; 0: no row
    int64_t row;
};

/// One buffer of a symmetric block, seen as rows: `base + offset + row * stride`.
struct RowBuffer {
    uint64_t offset;
    int64_t stride;

    MORI_DEVICE uint64_t address(const PeerRow& at) const {
        return at.base + offset + static_cast<uint64_t>(at.row) * static_cast<uint64_t>(stride);
    }
};

template <class T>
MORI_DEVICE T* pointer(uint64_t address) {
    return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

/// Work of `count` items dealt in contiguous ranges to `parts`.
struct Range {
    int64_t begin;
    int64_t end;

    static MORI_DEVICE Range part(int64_t count, int64_t index, int64_t parts) {
        return {count * index / parts, count * (index + 1) / parts};
    }
};

}  // namespace mori
