// What a compiler that instruments for ThreadSanitizer calls at each access, given to the race
// checker: no access of a kernel escapes it. The sanitizer's own library is not linked.
#if MORI_EP_CHECKED

// The checker itself is not instrumented.
#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
                             apply_to = function)

#include <cstdint>
#include <cstring>

#include "Runtime/Host/Checked/Checker.h"

using mori::host::races::access;
using mori::host::races::Kind;

#define MORI_HERE __builtin_return_address(0)

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void* caller) { mori::host::races::enterFunction(caller); }
void __tsan_func_exit() { mori::host::races::leaveFunction(); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

#define MORI_ACCESS(bytes)                                                                      \
    void __tsan_read##bytes(void* at) { access(at, bytes, Kind::read, MORI_HERE); }             \
    void __tsan_write##bytes(void* at) { access(at, bytes, Kind::write, MORI_HERE); }           \
    void __tsan_unaligned_read##bytes(void* at) { access(at, bytes, Kind::read, MORI_HERE); }   \
    void __tsan_unaligned_write##bytes(void* at) { access(at, bytes, Kind::write, MORI_HERE); } \
    void __tsan_read_write##bytes(void* at) { access(at, bytes, Kind::write, MORI_HERE); }      \
    void __tsan_unaligned_read_write##bytes(void* at) { access(at, bytes, Kind::write, MORI_HERE); }
MORI_ACCESS(1)
MORI_ACCESS(2)
MORI_ACCESS(4)
MORI_ACCESS(8)
MORI_ACCESS(16)

void* __tsan_memcpy(void* to, const void* from, uint64_t bytes) {
    access(from, bytes, Kind::read, MORI_HERE);
    access(to, bytes, Kind::write, MORI_HERE);
    return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, uint64_t bytes) {
    access(from, bytes, Kind::read, MORI_HERE);
    access(to, bytes, Kind::write, MORI_HERE);
    return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* at, int byte, uint64_t bytes) {
    access(at, bytes, Kind::write, MORI_HERE);
    return std::memset(at, byte, bytes);
}

// Atomic operations are as strong as they get: what they order is for Races.h to say.
#define MORI_ATOMIC(bits)                                                                       \
    uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t* at, int) {         \
        access(const_cast<const uint##bits##_t*>(at), bits / 8, Kind::atomic, MORI_HERE);       \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                           \
    }                                                                                           \
    void __tsan_atomic##bits##_store(volatile uint##bits##_t* at, uint##bits##_t value, int) {  \
        access(const_cast<uint##bits##_t*>(at), bits / 8, Kind::atomic, MORI_HERE);             \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                          \
    }                                                                                           \
    uint##bits##_t __tsan_atomic##bits##_exchange(                                              \
        volatile uint##bits##_t* at, uint##bits##_t value, int) {                               \
        access(const_cast<uint##bits##_t*>(at), bits / 8, Kind::atomic, MORI_HERE);             \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                                \
    }                                                                                           \
    MORI_FETCH(bits, add)                                                                       \
    MORI_FETCH(bits, sub)                                                                       \
    MORI_FETCH(bits, and)                                                                       \
    MORI_FETCH(bits, or)                                                                        \
    MORI_FETCH(bits, xor)                                                                       \
    MORI_FETCH(bits, nand)                                                                      \
    uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                                  \
        volatile uint##bits##_t* at, uint##bits##_t expected, uint##bits##_t value, int, int) { \
        access(const_cast<uint##bits##_t*>(at), bits / 8, Kind::atomic, MORI_HERE);             \
        __atomic_compare_exchange_n(                                                            \
            at, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                   \
        return expected;                                                                        \
    }
#define MORI_FETCH(bits, what)                                                      \
    uint##bits##_t __tsan_atomic##bits##_fetch_##what(                              \
        volatile uint##bits##_t* at, uint##bits##_t value, int) {                   \
        access(const_cast<uint##bits##_t*>(at), bits / 8, Kind::atomic, MORI_HERE); \
        return __atomic_fetch_##what(at, value, __ATOMIC_SEQ_CST);                  \
    }
MORI_ATOMIC(8)
MORI_ATOMIC(16)
MORI_ATOMIC(32)
MORI_ATOMIC(64)

void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) { __atomic_signal_fence(__ATOMIC_SEQ_CST); }

}  // extern "C"

#pragma clang attribute pop

#endif
