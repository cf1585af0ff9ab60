// What tests tell the stand-in of libamdhip64.so, and what they ask it.
#ifndef MORI_STANDIN_H
#define MORI_STANDIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What is held of the runtime, and what a launch came to.
typedef struct standin_live_counts {
    int64_t allocations, imports, streams, events, graphs, executables;
} standin_live_counts;

typedef struct standin_launch_counts {
    uint64_t launches, waves;
    uint64_t instructions;      ///< of all waves of all launches
    uint64_t most_of_one_wave;  ///< of all launches
} standin_launch_counts;

/// The functions; `standin_get_control` gives them.
typedef struct standin_control {
    uint32_t byte_count, reserved;

    /// Forgets what was called, what shall fail, and how launches went.
    void (*reset)(void);
    /// How often a function of the runtime was called ("hipMalloc"); null: all of them.
    uint64_t (*calls)(const char* function);
    /// Lets calls of a function fail with a hipError_t, after the first `skipped`; `times` of them,
    /// 0: all. Null: calls of any function, as on a device that is gone.
    void (*fail)(const char* function, uint64_t skipped, int32_t error, uint64_t times);
    void (*live)(standin_live_counts* out);

    /// What the device says it is, "gfx942:sramecc+:xnack-".
    void (*set_architecture)(const char* name);
    /// The version that the driver says it has, as hipDriverGetVersion gives it.
    void (*set_driver_version)(int32_t version);

    /// The device's clock: 1: it goes as CLOCK_MONOTONIC from now on, `ahead_ns` ahead, and gains
    /// `gain` nanoseconds in a million; 0: it counts instructions.
    void (*set_clock)(int32_t is_hosts, int64_t ahead_ns, int64_t gain);
    /// Of what fits at once: kernels whose names begin with this take so many vector registers;
    /// null: as many as they do.
    void (*set_registers)(const char* prefix, uint32_t registers);
    /// The order of waves, and how late stores arrive: each instruction lets one of a wave's arrive
    /// with a chance of 1 in `late_stores`; 0: at once.
    void (*set_schedule)(uint64_t seed, uint64_t late_stores);
    /// Why nothing can be executed: TINYGRAD was not set when the library was built; "": it can.
    const char* (*obstacle)(void);
    /// Runs the kernels of a bare code object from now on in place of the library's; its
    /// translation lies beside it, <name>.translation.so for <name>.co. Null: the library's own.
    /// False: it cannot be loaded, and `last_launch_error` says why.
    int32_t (*use_kernels)(const char* code_object);
    /// Runs one kernel of a bare code object to its end; `arguments` is its one parameter. Gives 0,
    /// or 1 and `last_launch_error`.
    int32_t (*run)(const char* code_object,
                   const char* kernel,
                   uint32_t blocks,
                   uint32_t threads,
                   uint32_t lds_bytes,
                   const void* arguments,
                   standin_launch_counts* out);

    /// How the launches of a kernel went; null: of all kernels.
    void (*launched)(const char* kernel, standin_launch_counts* out);
    /// Why the last launch that failed did; "" for none.
    const char* (*last_launch_error)(void);
} standin_control;

__attribute__((visibility("default"))) const standin_control* standin_get_control(void);

#ifdef __cplusplus
}
#endif

#endif
