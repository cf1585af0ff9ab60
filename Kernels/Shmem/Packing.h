// A token into packets: what V1 and the kernels with a section per rank have in common.
#pragma once

#include "Shmem/Placement.h"

namespace MORI_KERNELS {

/// The layout of this call's packets; of the call's record, because a receiving half has no
/// tensors.
MORI_DEVICE DispatchPacket packetOf(const moriep_dispatch_arguments& arguments) {
    return DispatchPacket::of(arguments.row_bytes,
                              arguments.call.scale_bytes,
                              arguments.call.has_weights != 0,
                              arguments.op.shape.top_k);
}
MORI_DEVICE CombinePacket packetOf(const moriep_combine_arguments& arguments) {
    return CombinePacket::of(
        wireRowOf(arguments).bytes, arguments.call.has_weights != 0, arguments.op.shape.top_k);
}

/// Part of a token and its scales, quantized into `count` packets.
template <class Wire>
MORI_DEVICE void packQuantized(const Warp& warp,
                               const moriep_dispatch_arguments& arguments,
                               int token,
                               const PeerRow* rows,
                               int count,
                               const RowParts& parts,
                               int part) {
    const DispatchPacket packet = packetOf(arguments);
    const WireFormat format = wireFormatOf(arguments);
    const TokensAs<Wire> own(arguments);
    quantizeToMany<Wire>(warp,
                         rows,
                         count,
                         {0, packet.bytes},
                         {static_cast<uint64_t>(packet.scales), packet.bytes},
                         static_cast<uint64_t>(reinterpret_cast<uintptr_t>(own.tokens(token))),
                         parts.units(format, part),
                         format);
}

/// Everything of a token but its row into `count` packets.
template <class Wire>
MORI_DEVICE void packFields(const Warp& warp,
                            const moriep_dispatch_arguments& arguments,
                            int token,
                            const PeerRow* rows,
                            int count) {
    const DispatchPacket packet = packetOf(arguments);
    const OwnTokens own(arguments);
    const int start = own.op().rank() % count;
    const auto send = [&](int64_t field, const void* from, int64_t bytes) {
        const RowBuffer buffer{static_cast<uint64_t>(field), packet.bytes};
        warp.copyToMany(rows, count, start, buffer, from, 0, bytes);
    };
    const int64_t idBytes = int64_t(own.op().shape().top_k) * 4;
    send(packet.indices, own.experts(token), idBytes);
    if (arguments.call.has_weights != 0) send(packet.weights, own.weights(token), idBytes);
    if (arguments.call.scale_bytes != 0 && !kQuantizes<Wire>) {
        send(packet.scales, own.scales(token), arguments.call.scale_bytes);
    }
    warp.lanes(count, [&](int64_t i) {
        if (rows[i].base == 0) return;
        const RowBuffer buffer{static_cast<uint64_t>(packet.source), packet.bytes};
        *pointer<int>(buffer.address(rows[i])) = own.source(token);
    });
}

/// Part of a token's row into `count` packets, as it is.
MORI_DEVICE void packPlain(const Warp& warp,
                           const moriep_dispatch_arguments& arguments,
                           int token,
                           const PeerRow* rows,
                           int count,
                           const RowParts& parts,
                           int part) {
    const OwnTokens own(arguments);
    const Range bytes = parts.range(arguments.row_bytes, 1, part);
    warp.copyToMany(rows,
                    count,
                    own.op().rank() % count,
                    {0, packetOf(arguments).bytes},
                    own.tokens(token),
                    bytes.begin,
                    bytes.end - bytes.begin);
}

/// Writes part of one of this rank's tokens into `count` packets; part 0 has everything but the
/// row. The token is read once. `rows` names sections by their address.
template <class Wire>
MORI_DEVICE void packToken(const Warp& warp,
                           const moriep_dispatch_arguments& arguments,
                           int token,
                           const PeerRow* rows,
                           int count,
                           const RowParts& parts,
                           int part) {
    if (count == 0) return;
    if (part == 0) packFields<Wire>(warp, arguments, token, rows, count);
    const moriep_dispatch_arguments& again = machine::reread(arguments);
    if constexpr (kQuantizes<Wire>) {
        packQuantized<Wire>(warp, again, token, rows, count, parts, part);
    } else {
        packPlain(warp, again, token, rows, count, parts, part);
    }
}

/// Packets that came in, side by side from an address on.
class Packets {
public:
    MORI_DEVICE Packets(const moriep_dispatch_arguments& arguments, uint64_t base)
        : packet_(packetOf(arguments)), base_(base) {}

    MORI_DEVICE const int* experts(int64_t row) const {
        return pointer<const int>(at(row) + static_cast<uint64_t>(packet_.indices));
    }
    MORI_DEVICE int source(int64_t row) const {
        return *pointer<const int>(at(row) + static_cast<uint64_t>(packet_.source));
    }
    MORI_DEVICE const char* tokens(int64_t row) const { return pointer<const char>(at(row)); }
    MORI_DEVICE const char* weights(int64_t row) const { return tokens(row) + packet_.weights; }
    MORI_DEVICE const char* scales(int64_t row) const { return tokens(row) + packet_.scales; }

private:
    MORI_DEVICE uint64_t at(int64_t row) const {
        return base_ + static_cast<uint64_t>(row * packet_.bytes);
    }

    DispatchPacket packet_;
    uint64_t base_;
};

}  // namespace MORI_KERNELS
