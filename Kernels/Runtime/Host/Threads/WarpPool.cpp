#include "Runtime/Host/Threads/WarpPool.h"

#include "Runtime/Host/Checked/Clock.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Threads/Parking.h"

namespace mori::host {

struct WarpPool::Worker {
    std::atomic<uint32_t> turn{0};  ///< goes up when `task` is set
    WarpTask* task = nullptr;
};

WarpPool& WarpPool::shared() {
    // Never destroyed: streams may still run while the process exits.
    static WarpPool* pool = new WarpPool;
    return *pool;
}

void WarpPool::run(int warps, WarpTask* tasks, void (*run)(void*, int), void* context) {
    const int needed = warps - 1;
    if (needed > 0) {
        std::unique_lock lock(mutex_);
        while (static_cast<int>(idle_.size()) < needed) {
            const int made = static_cast<int>(workers_.size());
            if (made < kMaxResidentWarps) {
                mayThrow("a warp's thread");
                workers_.push_back(std::make_unique<Worker>());
                Worker& worker = *workers_.back();
                idle_.push_back(&worker);
                announceThread();
                std::thread([this, &worker] { work(worker); }).detach();
                continue;
            }
            // Pairs with notify_all in `work`: the launches that hold threads end by themselves.
            idleChanged_.wait(lock);
        }
        for (int warp = 1; warp < warps; ++warp) {
            Worker* worker = idle_.back();
            idle_.pop_back();
            WarpTask& task = tasks[warp];
            task.run = run;
            task.context = context;
            task.warp = warp;
            task.done.store(0, std::memory_order_relaxed);
            worker->task = &task;
            worker->turn.fetch_add(1, std::memory_order_release);
            wake32(reinterpret_cast<const uint32_t*>(&worker->turn));
        }
    }
    run(context, 0);
    for (int warp = 1; warp < warps; ++warp) {
        // Pairs with the store of done in `work`.
        for (int turn = 0; tasks[warp].done.load(std::memory_order_acquire) == 0; ++turn) {
            relax32(turn, reinterpret_cast<const uint32_t*>(&tasks[warp].done), 0);
        }
    }
}

void WarpPool::work(Worker& worker) {
    beginThread();
    uint32_t seen = 0;
    for (;;) {
        for (int turn = 0; worker.turn.load(std::memory_order_acquire) == seen; ++turn) {
            relax32(turn, reinterpret_cast<const uint32_t*>(&worker.turn), seen);
        }
        ++seen;
        WarpTask* task = worker.task;
        task->run(task->context, task->warp);
        {
            // Idle before done: whoever waits for done finds the thread in the pool.
            std::lock_guard lock(mutex_);
            idle_.push_back(&worker);
        }
        idleChanged_.notify_all();
        task->done.store(1, std::memory_order_release);
        wake32(reinterpret_cast<const uint32_t*>(&task->done));
    }
}

}  // namespace mori::host
