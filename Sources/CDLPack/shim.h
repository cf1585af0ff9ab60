#pragma once
#include <dlpack/dlpack.h>

// What distributions' headers are too old for: Debian 12 has DLPack 0.6. The numbers are the
// standard's; names of our own, so that a newer header may be there too.

/// Type codes since DLPack 1.1, as DLDataType.code has them.
enum {
    MORI_DL_FLOAT8_E4M3FN = 10,
    MORI_DL_FLOAT8_E4M3FNUZ = 11,
    MORI_DL_FLOAT8_E5M2 = 12,
    MORI_DL_FLOAT4_E2M1FN = 17,
};

/// Flags of DLManagedTensorVersioned.
enum {
    MORI_DL_FLAG_READ_ONLY = 1,
    MORI_DL_FLAG_SUBBYTE_TYPE_PADDED = 4,
};

/// The ABI of DLManagedTensorVersioned that is declared here.
enum { MORI_DL_MAJOR_VERSION = 1, MORI_DL_MINOR_VERSION = 1 };

#ifndef DLPACK_MAJOR_VERSION
typedef struct {
    uint32_t major;
    uint32_t minor;
} DLPackVersion;

typedef struct DLManagedTensorVersioned {
    DLPackVersion version;
    void* manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned* self);
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;
#endif
