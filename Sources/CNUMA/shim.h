#pragma once
#include <numa.h>

// glibc declares it only for programs of GNU's own dialect.
extern int sched_getcpu(void);

/// The NUMA node that the calling thread runs on; -1 where the system does not tell.
static inline int mori_current_numa_node(void) {
    return numa_available() < 0 ? -1 : numa_node_of_cpu(sched_getcpu());
}
