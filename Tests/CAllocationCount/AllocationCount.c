#include "CAllocationCount.h"

// The executable's own malloc comes before the C library's for every library of the process.
// mallinfo2 would not do: it shows what is left over, not what was allocated and freed again.

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#include <features.h>

#if defined(__GLIBC__) && !defined(SANITIZED)

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

// glibc's functions under the names that it exports for this purpose.
extern void* __libc_malloc(size_t size);
extern void* __libc_calloc(size_t count, size_t size);
extern void* __libc_realloc(void* memory, size_t size);
extern void* __libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void* memory);

static _Thread_local int64_t allocations;
static _Atomic int64_t live_allocations;

int64_t mori_allocation_count(void) { return allocations; }

int64_t mori_live_allocation_count(void) { return live_allocations; }

static void* note(void* memory) {
    ++allocations;
    if (memory != NULL) {
        atomic_fetch_add_explicit(&live_allocations, 1, memory_order_relaxed);
    }
    return memory;
}

static void note_free(const void* memory) {
    if (memory != NULL) {
        atomic_fetch_sub_explicit(&live_allocations, 1, memory_order_relaxed);
    }
}

void* malloc(size_t size) {
    return note(__libc_malloc(size));
}

void* calloc(size_t count, size_t size) {
    return note(__libc_calloc(count, size));
}

void* realloc(void* memory, size_t size) {
    void* const moved = note(__libc_realloc(memory, size));
    // The old one is gone, unless there was no room; for size 0 it is gone and there is none.
    if (moved != NULL || size == 0) note_free(memory);
    return moved;
}

void free(void* memory) {
    note_free(memory);
    __libc_free(memory);
}

void* memalign(size_t alignment, size_t size) {
    return note(__libc_memalign(alignment, size));
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** memory, size_t alignment, size_t size) {
    if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0) return EINVAL;
    void* const found = memalign(alignment, size);
    if (found == NULL) return ENOMEM;
    *memory = found;
    return 0;
}

#else

int64_t mori_allocation_count(void) { return -1; }

int64_t mori_live_allocation_count(void) { return -1; }

#endif
