// The kernels as the host sees them. Kernels.cpp and TracedKernels.cpp, which are compiled for the
// device, define what is declared here; everything else of the runtime is plain C++.
#pragma once

#include <cstdint>

#include "Device/ElementList.h"
#include "Runtime/KernelTypes.h"

namespace mori::gpu {

/// The kernels, as Kernels.inc lists them. Those of an element type stand in the order of
/// moriep_element_type, from the first on.
enum class Kernel : int32_t {
#define MORI_ONE_WARP(name, ...) name,
#define MORI_GRID(name, ...) name,
#define MORI_READING_GRID(name, ...) name,
#define MORI_ENUMERATOR(type, Element, number, name) name##_##type,
#define MORI_SUMMING_GRID(name, ...) MORI_FOR_ELEMENTS(MORI_ENUMERATOR, name)
#define MORI_WIRE_ENUMERATOR(type, Wire, name) name##_##type,
#define MORI_WIRE_GRID(name, ...) MORI_FOR_WIRES(MORI_WIRE_ENUMERATOR, name)
#define MORI_CAST_GRID(name, ...) MORI_FOR_CASTS(MORI_ENUMERATOR, name)
#include "Runtime/GPU/Kernels.inc"
#undef MORI_ENUMERATOR
#undef MORI_WIRE_ENUMERATOR
    count,
};

/// How large a launch is.
enum class LaunchSize {
    oneWarp,
    grid,      ///< as the caller asks
    rdmaGrid,  ///< as many blocks as were asked for the network, where that was said
};

/// Of what there is a kernel for each.
enum class Variants { none, elements, wires, casts };

/// What chooses the launches of a verb besides the kernel type.
struct LaunchChoice {
    bool isOrdered = false;    ///< dispatch: in a fixed order of reception
    bool isQuantized = false;  ///< bf16 rows travel in a narrow type
};

/// One launch of a verb.
struct Launch {
    Kernel kernel;  ///< the first, where there are several
    LaunchSize size;
    int32_t half;  ///< moriep_half
    Variants variants = Variants::none;

    int32_t variantCount() const {
        return variants == Variants::elements ? kElementTypes
               : variants == Variants::wires  ? kWires
               : variants == Variants::casts  ? kCasts
                                              : 1;
    }
    Kernel variant(int32_t number) const {
        return static_cast<Kernel>(static_cast<int32_t>(kernel) + number);
    }
    /// The kernel for rows of a moriep_element_type, sent by a moriep_quantization.
    Kernel kernelFor(int32_t elementType, int32_t quantization) const {
        return variant(variants == Variants::elements ? elementType
                       : variants == Variants::wires  ? wireOf(quantization)
                       : variants == Variants::casts  ? castOf(elementType)
                                                      : 0);
    }
};

/// The launches of a verb, in order.
struct Launches {
    const Launch* launches;
    int count;
};
/// Of MORIEP_VERB_RECEIVED: one launch for each moriep_received_work, of which a call runs one.
Launches launchesOf(int32_t kernelType, int32_t verb, LaunchChoice choice);

/// Whether the library has the kernels that leave traces: scripts/build-kernels.sh can leave them
/// out.
#if defined(MORI_WITHOUT_TRACES)
constexpr bool kHasTracedKernels = false;
#else
constexpr bool kHasTracedKernels = true;
#endif

/// The runtime's name for a kernel, and for the one that leaves traces in its place.
const void* kernelAddress(Kernel kernel);
const void* tracedKernelAddress(Kernel kernel);
inline const void* kernelAddress(Kernel kernel, [[maybe_unused]] bool traced) {
    if constexpr (kHasTracedKernels) {
        if (traced) return tracedKernelAddress(kernel);
    }
    return kernelAddress(kernel);
}
/// The same for moriep_read_clock, which stands among those that leave traces.
const void* clockKernelAddress();

/// Bytes of block memory that a verb's kernels ask for.
uint64_t sharedBytes(int32_t verb, const moriep_shape& shape, int32_t warpsPerBlock);

int32_t lanesPerWarp();
int32_t maxWarpsPerBlock();

}  // namespace mori::gpu
