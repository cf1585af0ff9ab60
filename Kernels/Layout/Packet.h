// What travels between nodes for one token, and what comes back: one contiguous packet, so that a
// chunk of them is one write on any NIC. The bytes depend on the call, not on the operator.
#pragma once

#include "Device/Machine.h"

namespace mori {

/// Packets begin on this boundary: their rows are then copied by the widest accesses.
constexpr int64_t kPacketAlignment = 16;

MORI_SHARED int64_t roundUp(int64_t bytes, int64_t multiple) {
    return (bytes + multiple - 1) / multiple * multiple;
}

/// row | to a multiple of 4 | scales | to a multiple of 4 | weights | expert ids | source | to a
/// multiple of 16.
struct DispatchPacket {
    int64_t scales;
    int64_t weights;
    int64_t indices;
    int64_t source;
    int64_t bytes;

    static MORI_SHARED DispatchPacket of(int64_t rowBytes,
                                         int64_t scaleBytes,
                                         bool hasWeights,
                                         int topK) {
        DispatchPacket packet{};
        packet.scales = scaleBytes > 0 ? roundUp(rowBytes, 4) : rowBytes;
        packet.weights = roundUp(packet.scales + scaleBytes, 4);
        packet.indices = packet.weights + (hasWeights ? int64_t(topK) * 4 : 0);
        packet.source = packet.indices + int64_t(topK) * 4;
        packet.bytes = roundUp(packet.source + 4, kPacketAlignment);
        return packet;
    }
};

/// A row as combine sends it: elements | to a multiple of 4 | fp32 scales | to a multiple of 16.
/// Not quantized it is the row itself.
struct WireRow {
    int64_t scales;
    int64_t bytes;

    static MORI_SHARED WireRow of(int64_t rowBytes, int quantization, int block) {
        if (quantization == MORIEP_QUANTIZATION_NONE) return {rowBytes, rowBytes};
        const int64_t elements = rowBytes / 2;  // of bf16
        const bool isFP4 = quantization == MORIEP_QUANTIZATION_FP4_BLOCKWISE;
        const bool hasScales = quantization != MORIEP_QUANTIZATION_FP8_DIRECT_CAST;
        const int64_t scales = roundUp(isFP4 ? (elements + 1) / 2 : elements, 4);
        const int64_t blocks = hasScales ? (elements + block - 1) / block : 0;
        return {scales, roundUp(scales + blocks * 4, kPacketAlignment)};
    }
};

/// row | to a multiple of 4 | weights | to a multiple of 16.
struct CombinePacket {
    int64_t weights;
    int64_t bytes;

    static MORI_SHARED CombinePacket of(int64_t rowBytes, bool hasWeights, int topK) {
        CombinePacket packet{};
        packet.weights = roundUp(rowBytes, 4);
        packet.bytes =
            roundUp(packet.weights + (hasWeights ? int64_t(topK) * 4 : 0), kPacketAlignment);
        return packet;
    }
};

}  // namespace mori
