// What kernels read and wrote of rows, counted, so that tests hold it against the least there is.
#pragma once

#include <atomic>
#include <cstdint>

namespace mori::host {

/// Bytes of rows, scales and metadata that the copying and summing primitives of one warp moved.
/// What is read once and stored to several rows counts once as read.
struct Traffic {
    uint64_t read = 0;
    uint64_t written = 0;
};

/// The running warp's. A launch sets it to zero at its begin and adds it to its stream's at its
/// end.
inline thread_local Traffic warpTraffic;

inline void countTraffic(int64_t read, int64_t written) {
    warpTraffic.read += static_cast<uint64_t>(read);
    warpTraffic.written += static_cast<uint64_t>(written);
}

/// The sum over a stream's launches.
class TrafficTotal {
public:
    void add(const Traffic& warp) {
        read_.fetch_add(warp.read, std::memory_order_relaxed);
        written_.fetch_add(warp.written, std::memory_order_relaxed);
    }
    Traffic load() const {
        return {read_.load(std::memory_order_relaxed), written_.load(std::memory_order_relaxed)};
    }

private:
    std::atomic<uint64_t> read_{0};
    std::atomic<uint64_t> written_{0};
};

}  // namespace mori::host
