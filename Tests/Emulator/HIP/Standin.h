// The stand-in of libamdhip64.so: HIP's functions on the host's memory and the emulator.
#pragma once

#include <hip/hip_runtime_api.h>

#include <cstdint>
#include <functional>
#include <string>

namespace standin {

/// The device says that it has so many: enough for peers.
constexpr int kDevices = 3;
/// Few, so that a launch can ask for more than fit.
constexpr int kComputeUnits = 8;

/// Counts a call, and gives the error that it shall fail with.
hipError_t enter(const char* function);
/// Keeps an error for hipGetLastError, and gives it back.
hipError_t remember(hipError_t error);
/// What hipDriverGetVersion answers.
int driverVersion();

/// What the device says it is: "gfx942:sramecc+:xnack-".
std::string architecture();

/// Whether an address lies in an allocation of the runtime.
bool isAllocated(const void* address);

/// Puts work onto a stream, or into the graph that is captured from it.
hipError_t enqueue(hipStream_t stream, std::function<hipError_t()> work);

int64_t liveAllocations();
int64_t liveImports();
int64_t liveStreams();
int64_t liveEvents();
int64_t liveGraphs();
int64_t liveExecutables();

}  // namespace standin

/// Begins every function of the runtime.
#define STANDIN_ENTER(function)                                                   \
    do {                                                                          \
        const hipError_t standinError = ::standin::enter(#function);              \
        if (standinError != hipSuccess) return ::standin::remember(standinError); \
    } while (false)
