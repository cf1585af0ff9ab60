// Devices: what they are, which is current, which reach each other.
#include <cstdio>
#include <mutex>
#include <set>

#include "HIP/Standin.h"

namespace {

thread_local int current = 0;

std::mutex peersMutex;
std::set<std::pair<int, int>>& peers() {
    static auto* shared = new std::set<std::pair<int, int>>;
    return *shared;
}

bool exists(int device) { return device >= 0 && device < standin::kDevices; }

}  // namespace

extern "C" {

hipError_t hipGetDeviceCount(int* count) {
    STANDIN_ENTER(hipGetDeviceCount);
    *count = standin::kDevices;
    return hipSuccess;
}

hipError_t hipGetDevice(int* device) {
    STANDIN_ENTER(hipGetDevice);
    *device = current;
    return hipSuccess;
}

hipError_t hipSetDevice(int device) {
    STANDIN_ENTER(hipSetDevice);
    if (!exists(device)) return standin::remember(hipErrorInvalidDevice);
    current = device;
    return hipSuccess;
}

hipError_t hipDriverGetVersion(int* version) {
    STANDIN_ENTER(hipDriverGetVersion);
    *version = standin::driverVersion();
    return hipSuccess;
}

hipError_t hipRuntimeGetVersion(int* version) {
    STANDIN_ENTER(hipRuntimeGetVersion);
    *version = HIP_VERSION;
    return hipSuccess;
}

// Since HIP 6 the header gives this name a suffix.
hipError_t hipGetDeviceProperties(hipDeviceProp_t* properties, int device) {
    STANDIN_ENTER(hipGetDeviceProperties);
    if (!exists(device)) return standin::remember(hipErrorInvalidDevice);
    *properties = hipDeviceProp_t{};
    std::snprintf(properties->name, sizeof properties->name, "emulated AMD GPU %d", device);
    std::snprintf(properties->gcnArchName,
                  sizeof properties->gcnArchName,
                  "%s",
                  standin::architecture().c_str());
    properties->totalGlobalMem = size_t{1} << 33;
    properties->multiProcessorCount = standin::kComputeUnits;
    properties->warpSize = 64;
    properties->integrated = 1;
    return hipSuccess;
}

hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t attribute, int device) {
    STANDIN_ENTER(hipDeviceGetAttribute);
    if (!exists(device)) return standin::remember(hipErrorInvalidDevice);
    if (attribute != hipDeviceAttributeMultiprocessorCount) {
        return standin::remember(hipErrorInvalidValue);
    }
    *value = standin::kComputeUnits;
    return hipSuccess;
}

hipError_t hipDeviceCanAccessPeer(int* can, int device, int peer) {
    STANDIN_ENTER(hipDeviceCanAccessPeer);
    if (!exists(device) || !exists(peer)) return standin::remember(hipErrorInvalidDevice);
    *can = device != peer ? 1 : 0;
    return hipSuccess;
}

hipError_t hipDeviceEnablePeerAccess(int peer, unsigned) {
    STANDIN_ENTER(hipDeviceEnablePeerAccess);
    if (!exists(peer) || peer == current) return standin::remember(hipErrorInvalidDevice);
    std::lock_guard lock(peersMutex);
    if (!peers().insert({current, peer}).second) {
        return standin::remember(hipErrorPeerAccessAlreadyEnabled);
    }
    return hipSuccess;
}

}  // extern "C"
