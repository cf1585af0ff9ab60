// Every kernel's entry: the only file that is compiled for the device.
#include "Runtime/GPU/Kernels.h"

#include "Runtime/BlockMemory.h"

namespace {

/// A kernel's arguments where the launch put them. They are large, and a parameter whose address is
/// taken would be copied into every lane's own memory.
template <class Arguments>
MORI_DEVICE const Arguments& inPlace(const Arguments& passed) {
#if MORI_MACHINE_AMD
    // The only parameter of a kernel is the beginning of its argument segment.
    (void)passed;
    using Segment = const __attribute__((address_space(4))) Arguments;
    return *(const Arguments*)(Segment*)__builtin_amdgcn_kernarg_segment_ptr();
#else
    return passed;
#endif
}

}  // namespace

#if MORI_MACHINE_NVIDIA
#define MORI_ARGUMENTS(verb) const __grid_constant__ moriep_##verb##_arguments arguments
#else
#define MORI_ARGUMENTS(verb) const moriep_##verb##_arguments arguments
#endif

#define MORI_ONE_WARP(name, entry, verb, ...)                                          \
    extern "C" __global__ __launch_bounds__(mori::machine::kLanes) void moriep_##entry( \
        MORI_ARGUMENTS(verb)) {                                                        \
        using namespace mori;                                                          \
        Block block;                                                                   \
        __VA_ARGS__(block, inPlace(arguments));                                        \
    }
#define MORI_GRID(name, entry, verb, ...)                                                     \
    extern "C" __global__                                                                     \
        __launch_bounds__(mori::machine::kMaxWarpsPerBlock* mori::machine::kLanes) void       \
        moriep_##entry(MORI_ARGUMENTS(verb)) {                                                \
        using namespace mori;                                                                 \
        Block block;                                                                          \
        __VA_ARGS__(block, inPlace(arguments));                                               \
    }
#define MORI_ACQUIRING_GRID(name, entry, verb, ...)                                           \
    extern "C" __global__                                                                     \
        __launch_bounds__(mori::machine::kMaxWarpsPerBlock* mori::machine::kLanes) void       \
        moriep_##entry(MORI_ARGUMENTS(verb)) {                                                \
        using namespace mori;                                                                 \
        machine::acquireSystem();                                                             \
        Block block;                                                                          \
        __VA_ARGS__(block, inPlace(arguments));                                               \
    }
MORI_KERNELS(MORI_ONE_WARP, MORI_GRID, MORI_ACQUIRING_GRID)

namespace mori::gpu {
namespace {

constexpr int32_t kSend = MORIEP_HALF_SEND;
constexpr int32_t kReceive = MORIEP_HALF_RECEIVE;

constexpr Launch kIntraNodeDispatch[] = {{Kernel::dispatchBegin, LaunchSize::oneWarp, kSend},
                                         {Kernel::intraNodeDispatchSend, LaunchSize::grid, kSend},
                                         {Kernel::dispatchReceive, LaunchSize::oneWarp, kReceive}};
constexpr Launch kV1Dispatch[] = {{Kernel::dispatchBegin, LaunchSize::oneWarp, kSend},
                                  {Kernel::v1DispatchSend, LaunchSize::rdmaGrid, kSend},
                                  {Kernel::v1DispatchPlace, LaunchSize::grid, kSend},
                                  {Kernel::v1DispatchForward, LaunchSize::grid, kReceive},
                                  {Kernel::dispatchReceive, LaunchSize::oneWarp, kReceive}};
constexpr Launch kInterNodeDispatch[] = {{Kernel::dispatchBegin, LaunchSize::oneWarp, kSend},
                                         {Kernel::interNodeDispatchSend, LaunchSize::grid, kSend},
                                         {Kernel::interNodeDispatchReceive, LaunchSize::oneWarp, kReceive},
                                         {Kernel::interNodeDispatchUnpack, LaunchSize::grid, kReceive}};

constexpr Launch kIntraNodeCombineBFloat16[] = {
    {Kernel::intraNodeCombineSend, LaunchSize::grid, kSend},
    {Kernel::intraNodeCombineWait, LaunchSize::oneWarp, kReceive},
    {Kernel::intraNodeCombineReduceBFloat16, LaunchSize::grid, kReceive}};
constexpr Launch kIntraNodeCombineFloat32[] = {
    {Kernel::intraNodeCombineSend, LaunchSize::grid, kSend},
    {Kernel::intraNodeCombineWait, LaunchSize::oneWarp, kReceive},
    {Kernel::intraNodeCombineReduceFloat32, LaunchSize::grid, kReceive}};
constexpr Launch kV1CombineBFloat16[] = {{Kernel::v1CombineSend, LaunchSize::grid, kSend},
                                         {Kernel::v1CombineWait, LaunchSize::oneWarp, kReceive},
                                         {Kernel::v1CombineForwardBFloat16, LaunchSize::rdmaGrid, kReceive},
                                         {Kernel::v1CombineOwnBFloat16, LaunchSize::grid, kReceive},
                                         {Kernel::v1CombineReceive, LaunchSize::oneWarp, kReceive},
                                         {Kernel::v1CombineReduceBFloat16, LaunchSize::grid, kReceive}};
constexpr Launch kV1CombineFloat32[] = {{Kernel::v1CombineSend, LaunchSize::grid, kSend},
                                        {Kernel::v1CombineWait, LaunchSize::oneWarp, kReceive},
                                        {Kernel::v1CombineForwardFloat32, LaunchSize::rdmaGrid, kReceive},
                                         {Kernel::v1CombineOwnFloat32, LaunchSize::grid, kReceive},
                                        {Kernel::v1CombineReceive, LaunchSize::oneWarp, kReceive},
                                        {Kernel::v1CombineReduceFloat32, LaunchSize::grid, kReceive}};
constexpr Launch kInterNodeCombineBFloat16[] = {
    {Kernel::interNodeCombineSend, LaunchSize::grid, kSend},
    {Kernel::interNodeCombineReceive, LaunchSize::oneWarp, kReceive},
    {Kernel::interNodeCombineReduceBFloat16, LaunchSize::grid, kReceive}};
constexpr Launch kInterNodeCombineFloat32[] = {
    {Kernel::interNodeCombineSend, LaunchSize::grid, kSend},
    {Kernel::interNodeCombineReceive, LaunchSize::oneWarp, kReceive},
    {Kernel::interNodeCombineReduceFloat32, LaunchSize::grid, kReceive}};

template <int count>
constexpr Launches all(const Launch (&launches)[count]) {
    return {launches, count};
}

}  // namespace

Launches launchesOf(int32_t kernelType, int32_t verb, int32_t elementType) {
    moriep_shape shape{};
    shape.kernel_type = kernelType;
    if (verb == MORIEP_VERB_DISPATCH) {
        if (isV1(shape)) return all(kV1Dispatch);
        return hasRankSections(shape) ? all(kInterNodeDispatch) : all(kIntraNodeDispatch);
    }
    const bool isFloat32 = elementType == MORIEP_FLOAT32;
    if (isV1(shape)) return isFloat32 ? all(kV1CombineFloat32) : all(kV1CombineBFloat16);
    if (hasRankSections(shape)) {
        return isFloat32 ? all(kInterNodeCombineFloat32) : all(kInterNodeCombineBFloat16);
    }
    return isFloat32 ? all(kIntraNodeCombineFloat32) : all(kIntraNodeCombineBFloat16);
}

#define MORI_ADDRESS(name, entry, verb, ...) \
    case Kernel::name:                       \
        return reinterpret_cast<const void*>(&moriep_##entry);
const void* kernelAddress(Kernel kernel) {
    switch (kernel) {
        MORI_KERNELS(MORI_ADDRESS, MORI_ADDRESS, MORI_ADDRESS)
        case Kernel::count:
            break;
    }
    return nullptr;
}
#undef MORI_ADDRESS

uint64_t sharedBytes(int32_t verb, const moriep_shape& shape, int32_t warpsPerBlock) {
    return blockMemoryBytes(verb, shape, warpsPerBlock);
}

int32_t lanesPerWarp() { return machine::kLanes; }
int32_t maxWarpsPerBlock() { return machine::kMaxWarpsPerBlock; }

}  // namespace mori::gpu
