// A code object of gfx942, translated for the host: what Translate/ writes and the machine runs.
//
// The translation is a shared object with a table for each code object of a library. A function
// runs one instruction of a wave on the wave's registers; it serves every instruction of its
// pattern and reads the operands' numbers from the instruction's own words. What touches memory,
// time or other waves is not translated: the machine does it itself.
#ifndef MORI_EMULATOR_TRANSLATION_H
#define MORI_EMULATOR_TRANSLATION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMULATOR_TRANSLATION_VERSION 2u

/// Runs one instruction; the six arguments are the first ones of emulator_pattern.buffers.
typedef void (*emulator_function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

/// What an argument of a function is.
typedef enum emulator_buffer {
    EMULATOR_SCALAR_REGISTERS = 0,
    EMULATOR_VECTOR_REGISTERS = 1,
    EMULATOR_MEMORY = 2,
    EMULATOR_LDS = 3,
    EMULATOR_SCRATCH = 4,
    EMULATOR_ACCUMULATION_REGISTERS = 5,
} emulator_buffer;

/// How an instruction is run.
typedef enum emulator_kind {
    EMULATOR_FUNCTION = 0,  ///< by its function
    EMULATOR_BARRIER,       ///< by its function, which only advances; then the wave waits
    EMULATOR_SLEEP,         ///< the same; the wave's turn ends
    EMULATOR_SKIP,          ///< cache maintenance: there are no caches
    EMULATOR_ACCESS,        ///< FLAT, GLOBAL and SCRATCH
    EMULATOR_WAIT,          ///< s_waitcnt
    EMULATOR_TIME,          ///< s_memtime, s_memrealtime
    EMULATOR_CONTROL,       ///< s_getpc, s_setpc, s_swappc, s_call, apertures
    EMULATOR_PERMUTE,       ///< ds_swizzle, ds_permute, ds_bpermute
} emulator_kind;

typedef struct emulator_pattern {
    emulator_function function;  ///< null where the machine does it itself
    uint8_t kind;                ///< emulator_kind
    uint8_t bytes;               ///< of the instruction
    uint8_t buffer_count;
    uint8_t buffers[6];  ///< emulator_buffer
    const char* name;
} emulator_pattern;

/// A value that the launch puts into the argument segment.
typedef struct emulator_argument {
    uint16_t offset, bytes;
    uint8_t kind;  ///< 'e' explicit, 'c' block count, 's' block size, 'd' dimensions, 'l' dynamic
                   ///< LDS, '0' anything else, which is 0
    uint8_t axis;  ///< of 'c' and 's'
} emulator_argument;

typedef struct emulator_kernel {
    const char* name;
    uint64_t descriptor;  ///< offset of the kernel descriptor in the image
    uint32_t vector_registers, scalar_registers;
    uint32_t argument_count;
    const emulator_argument* arguments;
} emulator_kernel;

typedef struct emulator_translation {
    uint32_t version;  ///< EMULATOR_TRANSLATION_VERSION
    uint32_t pattern_count;
    uint64_t code_object_hash;  ///< FNV-1a, 64 bits, of the code object
    uint64_t image_bytes;       ///< of its loaded segments
    const emulator_pattern* patterns;
    /// One entry for each 4 bytes of the image: the pattern's number plus 1; 0: no instruction.
    const uint16_t* code;
    uint32_t kernel_count, reserved;
    const emulator_kernel* kernels;
} emulator_translation;

/// The shared object's one symbol: the tables by their numbers from 0; null: there are no more.
typedef const emulator_translation* (*emulator_translation_function)(uint32_t number);

#ifdef __cplusplus
}
#endif

#endif
