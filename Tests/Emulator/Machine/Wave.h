// One wavefront: 64 lanes and their registers.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "Machine/LateStores.h"
#include "Machine/Translation.h"

namespace emulator {

constexpr int kLanes = 64;
/// Scalar registers as the translated functions number them.
constexpr int kProgramCounter = 256;
constexpr int kScratchStride = 259;
constexpr int kExec = 126;
constexpr int kScalarCount = 260;
/// What s_endpgm makes of the program counter.
constexpr uint64_t kEnded = ~0ull;
/// Scalar registers that read as the upper halves of the apertures' addresses.
constexpr int kSharedBase = 235;
constexpr int kPrivateBase = 237;
/// The upper half of addresses in a lane's own memory.
constexpr uint32_t kPrivateAperture = 0x7ffe0000;
/// Registers that nothing was written to read as this.
constexpr uint32_t kPoison = 0xa5c3f00d;

enum class WaveState : uint8_t { ready, atBarrier, ended };

class Wave {
public:
    Wave(uint64_t entry, int lanes, uint64_t lds, uint32_t scratchBytes)
        : scalar_(new uint32_t[kScalarCount]), vector_(new uint32_t[256 * kLanes]) {
        std::fill_n(scalar_.get(), kScalarCount, kPoison);
        std::fill_n(vector_.get(), 256 * kLanes, kPoison);
        writeConstants();
        setScalar64(kProgramCounter, entry);
        setScalar64(kExec, lanes == kLanes ? ~0ull : (1ull << lanes) - 1);
        scalar_[258] = 0;  // the scalar condition code
        scalar_[kScratchStride] = scratchBytes;
        scalar_[kSharedBase] = 0;
        scalar_[kSharedBase + 1] = static_cast<uint32_t>(lds >> 32);
        scalar_[kPrivateBase] = 0;
        scalar_[kPrivateBase + 1] = kPrivateAperture;
        if (scratchBytes != 0) {
            scratch_.reset(new uint8_t[size_t(scratchBytes) * kLanes]);
        }
        buffers_[EMULATOR_SCALAR_REGISTERS] = reinterpret_cast<uint64_t>(scalar_.get());
        buffers_[EMULATOR_VECTOR_REGISTERS] = reinterpret_cast<uint64_t>(vector_.get());
        buffers_[EMULATOR_MEMORY] = 0;
        buffers_[EMULATOR_LDS] = lds;
        buffers_[EMULATOR_SCRATCH] = reinterpret_cast<uint64_t>(scratch_.get());
        buffers_[EMULATOR_ACCUMULATION_REGISTERS] = 0;
    }

    uint32_t scalar(int number) const { return scalar_[number]; }
    void setScalar(int number, uint32_t value) { scalar_[number] = value; }
    uint64_t scalar64(int number) const {
        return scalar_[number] | uint64_t(scalar_[number + 1]) << 32;
    }
    void setScalar64(int number, uint64_t value) {
        scalar_[number] = static_cast<uint32_t>(value);
        scalar_[number + 1] = static_cast<uint32_t>(value >> 32);
    }
    uint32_t& vector(int number, int lane) { return vector_[number * kLanes + lane]; }
    uint64_t vector64(int number, int lane) {
        return vector(number, lane) | uint64_t(vector(number + 1, lane)) << 32;
    }

    uint64_t programCounter() const { return scalar64(kProgramCounter); }
    void advance(uint64_t bytes) { setScalar64(kProgramCounter, programCounter() + bytes); }
    uint64_t exec() const { return scalar64(kExec); }

    uint64_t buffer(int number) const { return buffers_[number]; }
    uint64_t lds() const { return buffers_[EMULATOR_LDS]; }
    /// Where a lane's own memory at an offset lies on the host.
    uint64_t scratchAddress(int lane, uint32_t offset) const {
        return buffers_[EMULATOR_SCRATCH] + uint64_t(lane) * scalar_[kScratchStride] + offset;
    }

    WaveState state = WaveState::ready;
    uint64_t instructions = 0;
    LateStores stores;
    /// When the stores that it left behind at its end may begin to arrive, in nanoseconds; 0:
    /// unset.
    uint64_t heldUntil = 0;
    /// The waves of its block, itself among them.
    const std::vector<std::unique_ptr<Wave>>* block = nullptr;

private:
    /// Operands 128 to 248 are constants, which the functions read like registers.
    void writeConstants() {
        for (uint32_t i = 0; i <= 64; ++i) scalar_[128 + i] = i;
        for (uint32_t i = 0; i < 16; ++i) scalar_[193 + i] = ~i;
        constexpr float kFloats[] = {0.5f, -0.5f, 1, -1, 2, -2, 4, -4};
        std::memcpy(&scalar_[240], kFloats, sizeof kFloats);
        scalar_[248] = 0x3e22f983;  // 1 / (2 pi)
    }

    std::unique_ptr<uint32_t[]> scalar_;
    std::unique_ptr<uint32_t[]> vector_;
    std::unique_ptr<uint8_t[]> scratch_;
    uint64_t buffers_[6];
};

}  // namespace emulator
