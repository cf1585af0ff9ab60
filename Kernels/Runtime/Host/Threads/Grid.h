// Runs a kernel's grid on threads.
#pragma once

#include <cstdlib>
#include <memory>
#include <vector>

#include "Device/Device.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Checked/Races.h"
#include "Runtime/Host/Memory/Traffic.h"
#include "Runtime/Host/Threads/WarpPool.h"

namespace mori::host {

/// What one stream keeps to run grids: block states and block memory, grown when a launch needs
/// more and used again, so that a launch allocates nothing in the steady state.
class GridRunner {
public:
    /// kernel(block) for every warp of every block, side by side.
    template <class Kernel>
    void run(int blocks, int warpsPerBlock, bool streaming, const Kernel& kernel) {
        if (launchFails()) throw std::bad_alloc();
        reserve(blocks, blocks * warpsPerBlock);
        for (int block = 0; block < blocks; ++block) {
            states_[block].warps = warpsPerBlock;
            states_[block].memory = memory_[block].get();
        }
        races::beginLaunch(this, states_.get(), sizeof(BlockState), blocks);
        struct Launch {
            GridRunner* grid;
            const Kernel* kernel;
            int blocks;
            int warpsPerBlock;
            bool streaming;
        } launch{this, &kernel, blocks, warpsPerBlock, streaming};
        const auto warp = [](void* context, int index) {
            Launch& launch = *static_cast<Launch*>(context);
            const int at = index / launch.warpsPerBlock;
            Block block(launch.grid->states_[at],
                        at,
                        launch.blocks,
                        index % launch.warpsPerBlock,
                        launch.streaming);
            warpTraffic = {};
            races::beginWarp(launch.grid, &launch.grid->states_[at], index);
            (*launch.kernel)(block);
            races::endWarp(launch.grid);
            launch.grid->traffic_.add(warpTraffic);
            // The launch's end covers what it stored, as a word would.
            finishStreaming();
        };
        WarpPool::shared().run(blocks * warpsPerBlock, tasks_.get(), warp, &launch);
    }

    /// Of all launches that have ended.
    Traffic traffic() const { return traffic_.load(); }

private:
    struct Free {
        void operator()(std::byte* memory) const { std::free(memory); }
    };

    void reserve(int blocks, int warps) {
        if (warps > taskCount_) {
            mayThrow("a launch's tasks");
            tasks_ = std::make_unique<WarpTask[]>(static_cast<size_t>(warps));
            taskCount_ = warps;
        }
        while (static_cast<int>(memory_.size()) < blocks) {
            mayThrow("block memory");
            void* memory = std::aligned_alloc(64, kSharedBytes);
            if (memory == nullptr) throw std::bad_alloc();
            memory_.emplace_back(static_cast<std::byte*>(memory));
        }
        if (blocks > stateCount_) {
            mayThrow("block states");
            states_ = std::make_unique<BlockState[]>(static_cast<size_t>(blocks));
            stateCount_ = blocks;
        }
    }

    std::unique_ptr<WarpTask[]> tasks_;
    std::unique_ptr<BlockState[]> states_;
    std::vector<std::unique_ptr<std::byte, Free>> memory_;
    TrafficTotal traffic_;
    int taskCount_ = 0;
    int stateCount_ = 0;
};

}  // namespace mori::host
