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
    // Some versions of HIP have nothing to say but the name.
    if (std::strcmp(name, words) == 0) {
        return fail(statusOf(error), static_cast<int32_t>(error), "%s: %s", call, name);
    }
    return fail(statusOf(error), static_cast<int32_t>(error), "%s: %s (%s)", call, name, words);
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
