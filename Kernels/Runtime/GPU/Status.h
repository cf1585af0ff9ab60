// How the GPU device's functions report: a status, and the words of this thread's last failure.
#pragma once

#include "Runtime/GPU/Alias.h"

namespace mori::gpu {

/// Remembers the words (printf's format) and returns the status.
__attribute__((format(printf, 3, 4))) moriep_status fail(moriep_status status,
                                                         int32_t code,
                                                         const char* format,
                                                         ...);

const char* lastMessage();
int32_t lastCode();

/// Makes a device the thread's current one for a scope, and the one before it afterwards: the
/// thread is its caller's, who may use another device with the same runtime.
class DeviceScope {
public:
    explicit DeviceScope(int32_t device);
    ~DeviceScope();
    DeviceScope(const DeviceScope&) = delete;
    DeviceScope& operator=(const DeviceScope&) = delete;

    /// Whether the device is current now.
    moriep_status status() const { return status_; }

private:
    int previous_ = 0;
    bool changed_ = false;
    moriep_status status_;
};

/// The rest of the calling function runs on this device.
#define GPU_USE_DEVICE(device)                          \
    const ::mori::gpu::DeviceScope deviceScope(device); \
    MORI_TRY(deviceScope.status())

}  // namespace mori::gpu
