#pragma once
#include <infiniband/verbs.h>

// Macros and constants that Swift does not import.

/// The bit of a port's flags that says that every packet needs the global header.
static const int mori_ibv_needs_global_route = IBV_QPF_GRH_REQUIRED;

static inline int mori_ibv_query_port(struct ibv_context* context,
                                      uint8_t port,
                                      struct ibv_port_attr* attributes) {
    return ibv_query_port(context, port, attributes);
}

static inline struct ibv_mr* mori_ibv_reg_mr(struct ibv_pd* domain,
                                             uint64_t address,
                                             size_t byte_count,
                                             unsigned access) {
    return ibv_reg_mr(domain, (void*)(uintptr_t)address, byte_count, access);
}
