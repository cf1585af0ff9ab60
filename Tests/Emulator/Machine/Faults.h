// Accesses of memory that is not there: the end of the launch, as on a GPU, and not of the process.
#pragma once

#include <csetjmp>

namespace emulator {

/// While one exists on the machine's thread, a fault of that thread jumps to `place`.
class FaultScope {
public:
    FaultScope();
    ~FaultScope();
    FaultScope(const FaultScope&) = delete;
    FaultScope& operator=(const FaultScope&) = delete;

    /// For sigsetjmp, with no mask to be saved.
    sigjmp_buf& place() const;
};

}  // namespace emulator
