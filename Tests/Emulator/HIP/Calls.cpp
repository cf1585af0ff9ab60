// What was called, and what shall fail.
#include <cstring>
#include <map>
#include <mutex>

#include "HIP/Launches.h"
#include "HIP/Standin.h"
#include "Machine/Machine.h"
#include "standin.h"

namespace standin {
namespace {

struct Failure {
    uint64_t skipped, times;
    bool isEndless;
    hipError_t error;
};

struct State {
    std::mutex mutex;
    std::map<std::string, uint64_t> calls;
    std::map<std::string, Failure> failures;  ///< "" stands for every function
    std::string architecture = "gfx942:sramecc+:xnack-";
    int driverVersion = HIP_VERSION;
};

State& state() {
    static State* shared = new State;  // outlives static destruction
    return *shared;
}

thread_local hipError_t lastError = hipSuccess;

/// Whether a call that a failure is meant for fails now.
bool strikes(Failure& failure) {
    if (failure.skipped > 0) {
        failure.skipped -= 1;
        return false;
    }
    if (failure.isEndless) return true;
    if (failure.times == 0) return false;
    failure.times -= 1;
    return true;
}

void setClock(int32_t isHosts, int64_t ahead, int64_t gain) {
    emulator::Machine::shared().setClock({isHosts != 0, ahead, gain, 0});
}

void reset() {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.calls.clear();
    known.failures.clear();
    known.architecture = "gfx942:sramecc+:xnack-";
    known.driverVersion = HIP_VERSION;
    forgetLaunches();
    useKernels(nullptr);
    setClock(0, 0, 0);
    setRegisters(nullptr, 0);
}

uint64_t calls(const char* function) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    if (function != nullptr) {
        const auto found = known.calls.find(function);
        return found == known.calls.end() ? 0 : found->second;
    }
    uint64_t sum = 0;
    for (const auto& [name, count] : known.calls) sum += count;
    return sum;
}

void failCalls(const char* function, uint64_t skipped, int32_t error, uint64_t times) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.failures[function == nullptr ? "" : function] = {
        skipped, times, times == 0, static_cast<hipError_t>(error)};
}

void live(standin_live_counts* out) {
    *out = {liveAllocations(),
            liveImports(),
            liveStreams(),
            liveEvents(),
            liveGraphs(),
            liveExecutables()};
}

void setArchitecture(const char* name) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.architecture = name;
}

void setDriverVersion(int32_t version) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.driverVersion = version;
}

void setSchedule(uint64_t seed, uint64_t lateStores) {
    emulator::Machine::shared().setSchedule({seed, lateStores});
}

constexpr standin_control kControl = {
    sizeof(standin_control),
    0,
    reset,
    calls,
    failCalls,
    live,
    setArchitecture,
    setDriverVersion,
    setClock,
    setRegisters,
    setSchedule,
    obstacle,
    useKernels,
    run,
    launched,
    lastLaunchError,
};

}  // namespace

hipError_t enter(const char* function) {
    State& known = state();
    std::lock_guard lock(known.mutex);
    known.calls[function] += 1;
    for (const char* name : {function, ""}) {
        const auto found = known.failures.find(name);
        if (found != known.failures.end() && strikes(found->second)) return found->second.error;
    }
    return hipSuccess;
}

hipError_t remember(hipError_t error) {
    if (error != hipSuccess) lastError = error;
    return error;
}

int driverVersion() {
    State& known = state();
    std::lock_guard lock(known.mutex);
    return known.driverVersion;
}

std::string architecture() {
    State& known = state();
    std::lock_guard lock(known.mutex);
    return known.architecture;
}

}  // namespace standin

extern "C" {

const standin_control* standin_get_control(void) { return &standin::kControl; }

// What tells of errors does not fail itself.
hipError_t hipGetLastError(void) {
    const hipError_t error = standin::lastError;
    standin::lastError = hipSuccess;
    return error;
}

const char* hipGetErrorName(hipError_t error) {
    switch (error) {
        case hipSuccess:
            return "hipSuccess";
        case hipErrorInvalidValue:
            return "hipErrorInvalidValue";
        case hipErrorOutOfMemory:
            return "hipErrorOutOfMemory";
        case hipErrorNotInitialized:
            return "hipErrorNotInitialized";
        case hipErrorInsufficientDriver:
            return "hipErrorInsufficientDriver";
        case hipErrorNoDevice:
            return "hipErrorNoDevice";
        case hipErrorInvalidDevice:
            return "hipErrorInvalidDevice";
        case hipErrorNoBinaryForGpu:
            return "hipErrorNoBinaryForGpu";
        case hipErrorInvalidDeviceFunction:
            return "hipErrorInvalidDeviceFunction";
        case hipErrorInvalidHandle:
            return "hipErrorInvalidHandle";
        case hipErrorNotReady:
            return "hipErrorNotReady";
        case hipErrorLaunchFailure:
            return "hipErrorLaunchFailure";
        case hipErrorNotSupported:
            return "hipErrorNotSupported";
        case hipErrorPeerAccessAlreadyEnabled:
            return "hipErrorPeerAccessAlreadyEnabled";
        case hipErrorStreamCaptureUnsupported:
            return "hipErrorStreamCaptureUnsupported";
        case hipErrorStreamCaptureUnmatched:
            return "hipErrorStreamCaptureUnmatched";
        case hipErrorStreamCaptureIsolation:
            return "hipErrorStreamCaptureIsolation";
        case hipErrorSharedObjectInitFailed:
            return "hipErrorSharedObjectInitFailed";
        default:
            return "hipErrorUnknown";
    }
}

const char* hipGetErrorString(hipError_t error) { return hipGetErrorName(error); }

}  // extern "C"
