// DMA-BUF export: a file descriptor by which a NIC's driver reaches device memory.
#include <unistd.h>

#include "Runtime/GPU/Sharing.h"
#include "Runtime/GPU/Status.h"

#if defined(__HIP_PLATFORM_AMD__)
#include <dlfcn.h>
#else
#include <cuda.h>
#endif

namespace mori::gpu {

#if defined(__HIP_PLATFORM_AMD__)

namespace {

/// ROCr's own export, there since ROCm 5.6; HIP's came later. Looked up at run time, so that one
/// build serves all versions. The result is a hsa_status_t.
using ExportFunction = int (*)(const void* address,
                               size_t bytes,
                               int* descriptor,
                               uint64_t* offset);

ExportFunction findExport() {
    // HIP has loaded it; not loading it here keeps one copy of the runtime in the process.
    void* runtime = dlopen("libhsa-runtime64.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (runtime == nullptr) return nullptr;
    return reinterpret_cast<ExportFunction>(dlsym(runtime, "hsa_amd_portable_export_dmabuf"));
}

}  // namespace

moriep_status memoryExportDMABuf(
    int32_t device, uint64_t address, uint64_t bytes, int32_t* descriptor, uint64_t* offset) {
    GPU_USE_DEVICE(device);
    static const ExportFunction exportMemory = findExport();
    if (exportMemory == nullptr) {
        return fail(MORIEP_NOT_SUPPORTED,
                    0,
                    "this ROCm has no hsa_amd_portable_export_dmabuf; 5.6 is the first that has");
    }
    int opened = -1;
    uint64_t begin = 0;
    const int status = exportMemory(
        reinterpret_cast<const void*>(static_cast<uintptr_t>(address)), bytes, &opened, &begin);
    if (status != 0) {
        return fail(MORIEP_NOT_SUPPORTED,
                    status,
                    "hsa_amd_portable_export_dmabuf: hsa_status_t 0x%x; the kernel may lack "
                    "CONFIG_DMABUF_MOVE_NOTIFY or CONFIG_PCI_P2PDMA",
                    static_cast<unsigned>(status));
    }
    *descriptor = opened;
    *offset = begin;
    return MORIEP_SUCCESS;
}

#else

moriep_status memoryExportDMABuf(
    int32_t device, uint64_t address, uint64_t bytes, int32_t* descriptor, uint64_t* offset) {
    GPU_USE_DEVICE(device);
    // Of the driver, not of the runtime, and not linked: the library must open without a driver.
    void* found = nullptr;
    cudaDriverEntryPointQueryResult query = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    GPU_TRY(GetDriverEntryPointByVersion,
            "cuMemGetHandleForAddressRange",
            &found,
            11070,
            cudaEnableDefault,
            &query);
#else
    GPU_TRY(
        GetDriverEntryPoint, "cuMemGetHandleForAddressRange", &found, cudaEnableDefault, &query);
#endif
    if (query != cudaDriverEntryPointSuccess || found == nullptr) {
        return fail(MORIEP_NOT_SUPPORTED,
                    0,
                    "this driver has no cuMemGetHandleForAddressRange; CUDA 11.7's is the first");
    }
    // The driver exports whole pages.
    const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t begin = address / page * page;
    const uint64_t end = (address + bytes + page - 1) / page * page;
    int opened = -1;
    const auto exportRange = reinterpret_cast<decltype(&cuMemGetHandleForAddressRange)>(found);
    const CUresult result =
        exportRange(&opened, begin, end - begin, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
    if (result != CUDA_SUCCESS) {
        return fail(
            result == CUDA_ERROR_INVALID_VALUE ? MORIEP_INVALID_ARGUMENT : MORIEP_NOT_SUPPORTED,
            static_cast<int32_t>(result),
            "cuMemGetHandleForAddressRange: CUresult %d; DMA-BUF needs the open kernel "
            "modules of the driver",
            static_cast<int>(result));
    }
    *descriptor = opened;
    *offset = address - begin;
    return MORIEP_SUCCESS;
}

#endif

}  // namespace mori::gpu
