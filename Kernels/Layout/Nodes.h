// Which rank is on which node: rank / node_ranks. The last node may have fewer ranks.
#pragma once

#include "Device/Machine.h"

namespace mori {

/// Consecutive ranks.
struct Ranks {
    int first;
    int count;

    MORI_SHARED bool contains(int rank) const { return rank >= first && rank < first + count; }
};

MORI_SHARED int nodeCount(const moriep_shape& shape) {
    return (shape.world_size + shape.node_ranks - 1) / shape.node_ranks;
}

MORI_SHARED int nodeOfRank(const moriep_shape& shape, int rank) { return rank / shape.node_ranks; }

MORI_SHARED Ranks ranksOfNode(const moriep_shape& shape, int node) {
    const int first = node * shape.node_ranks;
    const int left = shape.world_size - first;
    return {first, left < shape.node_ranks ? left : shape.node_ranks};
}

/// Ranks of all other nodes, at most.
MORI_SHARED int remoteRankCount(const moriep_shape& shape) {
    return shape.world_size - ranksOfNode(shape, nodeCount(shape) - 1).count;
}

/// A node's place among all nodes but `own`.
MORI_SHARED int remoteNodeIndex(int node, int own) { return node < own ? node : node - 1; }

/// A rank's place among all ranks that are not of a node.
MORI_SHARED int remoteRankIndex(int rank, Ranks own) {
    return rank < own.first ? rank : rank - own.count;
}

}  // namespace mori
