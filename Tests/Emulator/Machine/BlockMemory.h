// Block memory (LDS): host memory at addresses whose upper half tells it from all other memory.
#pragma once

#include <cstdint>

namespace emulator {

/// 64 KiB and some room behind them, at a multiple of 4 GiB; filled with poison. 0: no memory.
uint64_t takeBlockMemory();
void giveBackBlockMemory(uint64_t address);

}  // namespace emulator
