// The machine: all waves of all launches under way, taking turns on one thread of the host.
//
// Every launch is resident as a whole from its first instruction to its last, so waves that wait
// for other waves, other blocks or other launches make progress. Which wave runs and for how long
// is drawn from a seed. The clock counts instructions, unless it is told to go as the host's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "Machine/Translation.h"
#include "Machine/Wave.h"

namespace emulator {

/// A code object in memory, with its translation.
class Program {
public:
    /// Loads a code object for the host's memory.
    ///
    /// \returns null and says why if it is none, or if no translation is this one's.
    static std::unique_ptr<Program> load(const void* codeObject,
                                         size_t bytes,
                                         emulator_translation_function translations,
                                         std::string* error);
    ~Program();
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;

    const emulator_kernel* kernel(const char* name) const;
    const emulator_translation& translation() const { return *translation_; }
    const uint8_t* image() const { return image_; }
    uint64_t base() const { return reinterpret_cast<uint64_t>(image_); }

private:
    Program() = default;

    uint8_t* image_ = nullptr;
    const emulator_translation* translation_ = nullptr;
};

struct Dimensions {
    uint32_t x, y, z;
    uint64_t count() const { return uint64_t(x) * y * z; }
};

/// What a launch came to.
struct Outcome {
    uint64_t instructions = 0;  ///< of all its waves
    uint64_t waves = 0;
    uint64_t mostOfOneWave = 0;
    std::string error;  ///< empty: it ended well
};

struct Request {
    const Program* program;
    const emulator_kernel* kernel;
    Dimensions blocks, threads;
    uint32_t dynamicLDS;
    const void* const* arguments;  ///< one for each explicit argument
};

/// How the waves' turns are drawn.
struct Schedule {
    uint64_t seed = 1;
    /// 0: stores are visible at once; n: late, each instruction lets one arrive with a chance 1/n.
    uint64_t lateStores = 0;
};

/// The device's clock.
struct Clock {
    bool isHosts = false;  ///< it goes as CLOCK_MONOTONIC, from now on; else it counts instructions
    int64_t ahead = 0;     ///< by so many nanoseconds
    int64_t gain = 0;      ///< and gains so many in a million
    uint64_t start = 0;    ///< what CLOCK_MONOTONIC said when this was set
};

class Machine {
public:
    static Machine& shared();

    /// For every look at the clock from now on.
    void setClock(Clock clock);
    /// What s_memrealtime says between instructions: hundredths of a microsecond.
    uint64_t ticks(uint64_t instructions);

    /// For the launches that begin from now on.
    void setSchedule(const Schedule& schedule);

    /// Runs a launch to its end, beside all others.
    Outcome run(const Request& request);

    /// Instructions run since the process began.
    uint64_t instructions() const { return __atomic_load_n(&instructions_, __ATOMIC_RELAXED); }

private:
    struct Block;
    struct Launch;

    Machine() = default;
    void work();
    void runRound(std::vector<Block*>& blocks);
    void runBlock(Block& block);
    /// Lets what an ended wave stored arrive: no wave waits for its stores at its end.
    void arriveLater(Wave& wave);
    bool runWave(Block& block, Wave& wave, uint64_t quantum);
    void finish(Launch& launch);

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::shared_ptr<Launch>> arrived_;
    std::mutex clockMutex_;
    Clock clock_;
    Schedule schedule_;
    bool scheduleChanged_ = false;
    uint64_t launches_ = 0;

    // Of the machine's own thread.
    Random random_{1};
    uint64_t round_ = 0;
    uint64_t instructions_ = 0;
    bool worked_ = false;
};

}  // namespace emulator
