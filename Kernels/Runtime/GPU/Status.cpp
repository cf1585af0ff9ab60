#include "Runtime/GPU/Status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace mori::gpu {
namespace {

thread_local char message[512] = "";
thread_local int32_t code = 0;

moriep_status statusOf(Error error) {
    switch (error) {
        case GPU(Success):
            return MORIEP_SUCCESS;
        case GPU(ErrorNotReady):
            return MORIEP_NOT_READY;
        case kErrorOutOfMemory:
            return MORIEP_OUT_OF_MEMORY;
        case GPU(ErrorNoDevice):
        case GPU(ErrorInvalidDevice):
        case GPU(ErrorInsufficientDriver):
        case kErrorNotInitialized:
            return MORIEP_NO_DEVICE;
        case GPU(ErrorInvalidValue):
        case kErrorInvalidHandle:
            return MORIEP_INVALID_ARGUMENT;
        case GPU(ErrorNotSupported):
        case GPU(ErrorPeerAccessUnsupported):
        case kErrorNoCodeForDevice:
            return MORIEP_NOT_SUPPORTED;
        case GPU(ErrorCooperativeLaunchTooLarge):
            return MORIEP_NOT_RESIDENT;
        case GPU(ErrorStreamCaptureUnsupported):
        case GPU(ErrorStreamCaptureInvalidated):
        case GPU(ErrorStreamCaptureMerge):
        case GPU(ErrorStreamCaptureUnmatched):
        case GPU(ErrorStreamCaptureUnjoined):
        case GPU(ErrorStreamCaptureIsolation):
        case GPU(ErrorStreamCaptureImplicit):
        case GPU(ErrorStreamCaptureWrongThread):
        case GPU(ErrorCapturedEvent):
            return MORIEP_CAPTURE_INVALID;
        default:
            return MORIEP_DEVICE_FAILURE;
    }
}

/// What the current device is, for words; "" where that cannot be had.
void describeDevice(char* out, size_t bytes) {
    out[0] = 0;
    int device = 0;
    Properties properties{};
    if (GPU(GetDevice)(&device) != GPU(Success) ||
        GPU(GetDeviceProperties)(&properties, device) != GPU(Success)) {
        return;
    }
#if defined(__HIP_PLATFORM_AMD__)
    std::snprintf(out, bytes, "%s", properties.gcnArchName);
#else
    std::snprintf(out, bytes, "sm_%d%d", properties.major, properties.minor);
#endif
}

/// Adds to the last message what is known of an error beyond the runtime's words.
void advise(Error error) {
    const size_t used = std::strlen(message);
    char* rest = message + used;
    const size_t room = sizeof message - used;
    if (error == kErrorNoCodeForDevice) {
        char device[64];
        describeDevice(device, sizeof device);
        std::snprintf(rest,
                      room,
                      "; the device is %s, and this library has code for " MORI_EP_ARCHITECTURES
                      ": build it with that GPU in MORI_EP_ARCHITECTURES",
                      device);
    } else if (error == GPU(ErrorInsufficientDriver)) {
        int version = 0;
        if (GPU(DriverGetVersion)(&version) != GPU(Success)) version = 0;
        std::snprintf(rest,
                      room,
                      "; the driver is of version %d, and this library was built for %d: update "
                      "the driver, or build the library with the driver's toolkit",
                      version,
                      kRuntimeVersion);
    }
}

}  // namespace

moriep_status fail(moriep_status status, int32_t number, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    code = number;
    return status;
}

moriep_status check(Error error, const char* call) {
    if (error == GPU(Success)) return MORIEP_SUCCESS;
    // The error was told here; a framework that asks the runtime for its own last error must not
    // find ours. What it returns is the same error again.
    (void)GPU(GetLastError)();
    const char* name = GPU(GetErrorName)(error);
    const char* words = GPU(GetErrorString)(error);
    const moriep_status status = statusOf(error);
    // Some versions of HIP have nothing to say but the name.
    if (std::strcmp(name, words) == 0) {
        (void)fail(status, static_cast<int32_t>(error), "%s: %s", call, name);
    } else {
        (void)fail(status, static_cast<int32_t>(error), "%s: %s (%s)", call, name, words);
    }
    advise(error);
    return status;
}

const char* lastMessage() { return message; }
int32_t lastCode() { return code; }

DeviceScope::DeviceScope(int32_t device) {
    status_ = check(GPU(GetDevice)(&previous_), GPU_PREFIX "GetDevice");
    if (status_ != MORIEP_SUCCESS || previous_ == device) return;
    status_ = check(GPU(SetDevice)(device), GPU_PREFIX "SetDevice");
    changed_ = status_ == MORIEP_SUCCESS;
}

DeviceScope::~DeviceScope() {
    // It was current before, so it can be again; nobody is left to hear of a failure.
    if (changed_) (void)GPU(SetDevice)(previous_);
}

}  // namespace mori::gpu
