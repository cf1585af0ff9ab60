// The shadow of symmetric memory: who accessed each four bytes last. Part of the race checker.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct moriep_operator;

namespace mori::host::races {

/// Warps, streams and queues whose accesses are told apart.
constexpr int kActors = 256;

/// What an actor knows: of each actor, everything up to a moment of that one's clock.
struct Knowledge {
    uint32_t clocks[kActors] = {};

    void join(const Knowledge& other) {
        for (int i = 0; i < kActors; ++i) {
            if (other.clocks[i] > clocks[i]) clocks[i] = other.clocks[i];
        }
    }
};

/// One access, as short as the shadow needs it.
struct Stamp {
    uint32_t clock = 0;  ///< 0: none
    uint16_t actor = 0;
    uint16_t place = 0;  ///< of the code; see Places

    bool isKnown(int by, const Knowledge& knowledge) const {
        return clock == 0 || actor == by || knowledge.clocks[actor] >= clock;
    }
};

enum class Kind { read, write, atomic };
const char* words(Kind kind);

/// What is remembered of four bytes. Of accesses that do not exclude each other, the latest that do
/// not know each other.
struct Cell {
    static constexpr int kReads = 3;
    static constexpr int kAtomics = 4;

    Stamp write;
    Stamp reads[kReads];
    Stamp atomics[kAtomics];
};

/// One symmetric allocation.
struct Region {
    uint64_t begin = 0;
    uint64_t end = 0;
    Cell* cells = nullptr;  ///< mapped when it is first used
    /// Names of buffers by offset, ascending.
    struct Name {
        uint64_t offset;
        const char* name;
    };
    std::vector<Name> names;
    uint64_t slotBytes = 0;
    int rank = -1;

    Cell* cell(uint64_t address);
    void clear();
    void release();
    /// Takes the names of an operator's buffers, unless there are some (Names.cpp).
    void nameBuffers(const moriep_operator& op);
    /// An address in words: its buffer, offset, slot and rank.
    std::string words(uint64_t address) const;
};

/// A place of the code: the calls that lead there, as addresses, outermost first.
class Places {
public:
    static constexpr int kDepth = 10;

    /// The number of a place.
    uint16_t number(const void* const* stack, int depth);
    /// Its functions, in words.
    static const char* words(uint16_t place);
};

}  // namespace mori::host::races
