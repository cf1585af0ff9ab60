// Counts what is allocated, for tests that promise that something allocates or keeps nothing.
#ifndef CALLOCATIONCOUNT_H
#define CALLOCATIONCOUNT_H

#include <stdint.h>

/// Allocations of the calling thread so far: every call of malloc, calloc, realloc and the aligned
/// ones, freed since or not, Swift's included. -1 where they are not counted: under a sanitizer,
/// which has its own allocator, and with other C libraries than glibc.
int64_t mori_allocation_count(void);

/// Allocations of all threads that are not freed yet; -1 where they are not counted.
int64_t mori_live_allocation_count(void);

#endif
