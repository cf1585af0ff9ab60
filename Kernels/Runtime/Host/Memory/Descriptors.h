// Passing file descriptors between processes that cannot see each other in procfs.
#pragma once

#include <cstdint>

namespace mori::host {

/// A random number of this process, two words; made on first use, when the process also begins to
/// answer peers that ask for its memory's descriptors.
const uint64_t* processNumber();

/// Asks the process with this number for one of its symmetric memory's descriptors. -1 and errno
/// when it does not answer within a second, or refuses.
int receiveDescriptor(const uint64_t process[2], int32_t descriptor);

}  // namespace mori::host
