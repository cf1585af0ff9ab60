// The threads that are the host device's warps, shared by all streams of the process.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace mori::host {

/// Warps of all launches of the process together, beside those on the streams' own threads.
constexpr int kMaxResidentWarps = 256;

/// One call of `run(context, warp)`.
struct WarpTask {
    void (*run)(void* context, int warp) = nullptr;
    void* context = nullptr;
    int warp = 0;
    /// Set to done by the thread that ran it.
    std::atomic<uint32_t> done{0};
};

/// A launch gets threads for all its warps or waits until it can: no launch holds some and waits
/// for more. Launches on the pool never wait for peers, so a launch that waits here gets its turn.
class WarpPool {
public:
    /// The process's pool. Its threads are made when they are first needed.
    static WarpPool& shared();

    /// Runs run(context, warp) for warp 0 ..< warps side by side, warp 0 on the calling thread, and
    /// returns when all are done. `tasks` has room for `warps` entries.
    void run(int warps, WarpTask* tasks, void (*run)(void*, int), void* context);

private:
    struct Worker;

    void work(Worker& worker);

    std::mutex mutex_;
    std::condition_variable idleChanged_;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<Worker*> idle_;
};

}  // namespace mori::host
