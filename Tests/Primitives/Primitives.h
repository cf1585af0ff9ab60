// Each primitive by itself, in the kernel language: one body for every machine.
#pragma once

#include "Shmem/Ring.h"
#include "Shmem/Rows.h"
#include "include/primitives.h"

namespace mori::primitives {

/// Position of a warp in the grid.
MORI_DEVICE int64_t warpOfGrid(const Block& block) {
    return int64_t(block.index()) * block.warps() + block.warp().index();
}

MORI_DEVICE void countOnce(Block& block, const primitives_arguments& arguments) {
    const Warp& warp = block.warp();
    uint32_t* counts = block.shared<uint32_t>(4);
    block.once([&](const BlockWarp& first) { first.lanes(4, [&](int64_t i) { counts[i] = 0; }); });
    block.sync();
    warp.elect([&](const WarpOnce& once) { machine::addShared(&counts[0], 1, once); });
    warp.each(arguments.count, [&](int i, const WarpOnce& once) {
        machine::addShared(&counts[1], static_cast<uint32_t>(i) + 1, once);
    });
    block.sync();
    block.once([&](const BlockWarp& first) {
        first.elect([&](const BlockOnce& once) { machine::addShared(&counts[2], 1, once); });
        first.each(arguments.count, [&](int i, const BlockOnce& once) {
            machine::addShared(&counts[3], static_cast<uint32_t>(i) + 1, once);
        });
        first.sync();
        uint32_t* output = pointer<uint32_t>(arguments.output) + int64_t(block.index()) * 4;
        first.lanes(4, [&](int64_t i) { output[i] = counts[i]; });
    });
}

/// The rows of a route with `count` ranks, as kernels make a table of them.
MORI_DEVICE void scanRoute(Block& block, const primitives_arguments& arguments) {
    PeerRow* table = block.shared<PeerRow>(PRIMITIVES_MAX_ROWS);
    if (block.index() != 0) return;
    block.once([&](const BlockWarp& first) {
        const Route route{{0, arguments.count},
                          pointer<uint64_t>(arguments.input),
                          pointer<int>(arguments.words)};
        const int rows = rowsOfRoute(first, route, table, [](int rank, int slot) {
            return PeerRow{static_cast<uint64_t>(rank) + 1, slot};
        });
        PeerRow* output = pointer<PeerRow>(arguments.output);
        first.lanes(rows, [&](int64_t i) { output[i] = table[i]; });
    });
}

/// The table of rows in block memory, where kernels keep theirs.
MORI_DEVICE PeerRow* sharedRows(Block& block, const primitives_arguments& arguments) {
    PeerRow* table = block.shared<PeerRow>(PRIMITIVES_MAX_ROWS);
    const PeerRow* rows = pointer<const PeerRow>(arguments.rows);
    block.once([&](const BlockWarp& first) {
        first.lanes(arguments.count, [&](int64_t i) { table[i] = rows[i]; });
    });
    block.sync();
    return table;
}

MORI_DEVICE void copyToMany(Block& block, const primitives_arguments& arguments) {
    const PeerRow* rows = sharedRows(block, arguments);
    if (warpOfGrid(block) != 0) return;
    block.warp().copyToMany(rows,
                            arguments.count,
                            arguments.start,
                            {arguments.offset, arguments.stride},
                            pointer<const void>(arguments.input),
                            arguments.first,
                            arguments.bytes);
}

template <class Element>
MORI_DEVICE void sumRows(Block& block, const primitives_arguments& arguments) {
    const PeerRow* rows = sharedRows(block, arguments);
    float* factors = block.shared<float>(PRIMITIVES_MAX_ROWS);
    const bool isWeighted = arguments.operation == PRIMITIVES_WEIGHTED;
    if (isWeighted) {
        block.once([&](const BlockWarp& first) {
            const float* given = pointer<const float>(arguments.words);
            first.lanes(arguments.count, [&](int64_t i) { factors[i] = given[i]; });
        });
    }
    block.sync();
    if (warpOfGrid(block) != 0) return;
    void* output = pointer<void>(arguments.output);
    const RowBuffer buffer{arguments.offset, arguments.stride};
    if (isWeighted) {
        block.warp().template accumulateWeighted<Element>(
            output, rows, factors, arguments.count, buffer, arguments.first, arguments.bytes);
    } else {
        block.warp().template accumulate<Element>(
            output, rows, arguments.count, buffer, arguments.first, arguments.bytes);
    }
}

template <class Element>
MORI_DEVICE void convert(Block& block, const primitives_arguments& arguments) {
    using Storage = typename Element::Storage;
    if (warpOfGrid(block) != 0) return;
    const bool widens = arguments.operation == PRIMITIVES_WIDEN;
    float* values = pointer<float>(widens ? arguments.output : arguments.input);
    Storage* entries = pointer<Storage>(widens ? arguments.input : arguments.output);
    block.warp().lanes(arguments.count, [&](int64_t i) {
        float* own = values + i * Element::kValues;
        if (widens) {
            float sums[Element::kValues] = {};
            Element::add(sums, entries[i]);
            for (int v = 0; v < Element::kValues; ++v) own[v] = sums[v];
        } else {
            entries[i] = Element::pack(own);
        }
    });
}

MORI_DEVICE void meetAtBarrier(Block& block, const primitives_arguments& arguments) {
    uint32_t* stored = block.shared<uint32_t>(64);
    uint32_t total = 0;
    // Several times: who leaves one barrier may be at the next before others have left.
    for (uint32_t turn = 0; turn < static_cast<uint32_t>(arguments.count); ++turn) {
        const uint32_t own = static_cast<uint32_t>(block.warp().index()) + turn;
        block.warp().elect([&](const WarpOnce&) { stored[block.warp().index()] = own; });
        block.sync();
        total += static_cast<uint32_t>(block.warp().sum(
            block.warps(), [&](int warp) { return static_cast<int64_t>(stored[warp]); }));
        block.sync();
    }
    uint32_t* output = pointer<uint32_t>(arguments.output);
    block.warp().elect([&](const WarpOnce&) { output[warpOfGrid(block)] = total; });
}

/// All blocks store, and the last one to finish reads what they stored, as a launch signals.
MORI_DEVICE void readAsLast(Block& block, const primitives_arguments& arguments) {
    uint32_t* output = pointer<uint32_t>(arguments.output);
    const uint32_t* input = pointer<const uint32_t>(arguments.input);
    const Range range =
        Range::part(arguments.count, warpOfGrid(block), int64_t(block.count()) * block.warps());
    block.warp().lanes(range.end - range.begin,
                       [&](int64_t i) { output[range.begin + i] = input[range.begin + i] + 1; });
    block.publish();
    block.once([&](const BlockWarp& first) {
        uint32_t* words = pointer<uint32_t>(arguments.words);
        if (!lastBlock(first, block, words)) return;
        const int64_t sum =
            first.sum(arguments.count, [&](int i) { return static_cast<int64_t>(output[i]); });
        first.elect([&](const BlockOnce& once) {
            machine::addDevice(words + 1, 1, once);
            words[2] = static_cast<uint32_t>(sum);
        });
    });
}

template <template <class> class Body>
MORI_DEVICE void forElement(Block& block, const primitives_arguments& arguments) {
    switch (arguments.element_type) {
#define MORI_CASE(type, Element, number, ...) \
    case number:                              \
        Body<Element>::run(block, arguments); \
        break;
        MORI_FOR_ELEMENTS(MORI_CASE)
#undef MORI_CASE
        default:
            break;
    }
}
template <class Element>
struct Sum {
    static MORI_DEVICE void run(Block& block, const primitives_arguments& arguments) {
        sumRows<Element>(block, arguments);
    }
};
template <class Element>
struct Conversion {
    static MORI_DEVICE void run(Block& block, const primitives_arguments& arguments) {
        convert<Element>(block, arguments);
    }
};

MORI_DEVICE void run(Block& block, const primitives_arguments& arguments) {
    const Warp& warp = block.warp();
    const int64_t own = warpOfGrid(block);
    const int count = arguments.count;
    switch (arguments.operation) {
        case PRIMITIVES_LANES: {
            const int32_t* input = pointer<const int32_t>(arguments.input);
            int32_t* output = pointer<int32_t>(arguments.output) + own * count;
            warp.lanes(count,
                       [&](int64_t i) { output[i] = 3 * input[i] + static_cast<int32_t>(own); });
            break;
        }
        case PRIMITIVES_ONCE:
            countOnce(block, arguments);
            break;
        case PRIMITIVES_SUM: {
            const int32_t* input = pointer<const int32_t>(arguments.input);
            const int64_t sum = warp.sum(count, [&](int i) { return int64_t(input[i]); });
            warp.elect([&](const WarpOnce&) { pointer<int64_t>(arguments.output)[own] = sum; });
            break;
        }
        case PRIMITIVES_BITS: {
            const uint64_t* input = pointer<const uint64_t>(arguments.input);
            const uint64_t bits = warp.combineBits(count, [&](int i) { return input[i]; });
            warp.elect([&](const WarpOnce&) { pointer<uint64_t>(arguments.output)[own] = bits; });
            break;
        }
        case PRIMITIVES_ANY:
            block.once([&](const BlockWarp& first) {
                const int32_t* input = pointer<const int32_t>(arguments.input);
                const bool any = first.any(
                    count, [&](int i, const BlockOnce&) { return input[i] == arguments.start; });
                uint32_t* output = pointer<uint32_t>(arguments.output);
                first.elect([&](const BlockOnce&) { output[block.index()] = any ? 1 : 0; });
            });
            break;
        case PRIMITIVES_SCAN:
            scanRoute(block, arguments);
            break;
        case PRIMITIVES_COPY:
            if (own != 0) break;
            warp.copy(pointer<void>(arguments.output),
                      pointer<const void>(arguments.input),
                      arguments.bytes);
            break;
        case PRIMITIVES_FILL:
            if (own != 0) break;
            warp.fill(pointer<int32_t>(arguments.output), arguments.start, count);
            break;
        case PRIMITIVES_COPY_TO_MANY:
            copyToMany(block, arguments);
            break;
        case PRIMITIVES_ACCUMULATE:
        case PRIMITIVES_WEIGHTED:
            forElement<Sum>(block, arguments);
            break;
        case PRIMITIVES_WIDEN:
        case PRIMITIVES_ROUND:
            forElement<Conversion>(block, arguments);
            break;
        case PRIMITIVES_BARRIER:
            meetAtBarrier(block, arguments);
            break;
        case PRIMITIVES_LAST_BLOCK:
            readAsLast(block, arguments);
            break;
        default:
            break;
    }
}

/// Pushes `token_count` descriptors, one after the other, each of 4096 bytes and a word.
MORI_DEVICE void push(Block& block, const moriep_dispatch_arguments& arguments) {
    const Operator op(arguments.op);
    block.once([&](const BlockWarp& first) {
        first.elect([&](const BlockOnce& once) {
            for (int i = 0; i < arguments.token_count; ++i) {
                Transfer transfer{};
                transfer.peer = 1;
                transfer.source = op.block(op.rank());
                transfer.bytes = 4096;
                transfer.hasWord = true;
                transfer.value = static_cast<uint64_t>(i);
                pushTransfer(op, MORIEP_VERB_DISPATCH, transfer, 0, once);
            }
        });
    });
}

}  // namespace mori::primitives
