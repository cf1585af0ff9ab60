// Who takes a rank's packets at each other node, and whose packets this rank takes (P6).
//
// A rank of the other node receives them, forwards them to its node and sends the partial sums
// back. The tables lie in device memory, filled by the host, so that a dead rank's work can move.
#pragma once

#include "Shmem/Operator.h"

namespace MORI_KERNELS {

class Proxies {
public:
    explicit MORI_DEVICE Proxies(const Operator& op) : op_(op) {}

    /// The rank of a node that takes this rank's packets; -1 for the own node and for one of which
    /// all ranks are masked.
    MORI_DEVICE int proxy(int node) const { return table(op_.layout().proxies)[node]; }
    /// In which of that rank's sections they land.
    MORI_DEVICE int sectionAt(int node) const { return table(op_.layout().proxy_sections)[node]; }
    /// Whose packets land in one of this rank's sections; -1: nobody's.
    MORI_DEVICE int source(int section) const {
        return table(op_.layout().section_sources)[section];
    }

private:
    MORI_DEVICE const int* table(uint64_t offset) const {
        return pointer<const int>(op_.local(offset));
    }

    const Operator& op_;
};

}  // namespace MORI_KERNELS
