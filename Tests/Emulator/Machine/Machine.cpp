#include "Machine/Machine.h"

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>

#include "Machine/BlockMemory.h"
#include "Machine/Faults.h"
#include "Machine/Instructions.h"

namespace emulator {
namespace {

/// The fields of a kernel descriptor (AMDGPU's code object format, version 3 and later).
struct Descriptor {
    explicit Descriptor(const uint8_t* bytes) {
        std::memcpy(&lds, bytes, 4);
        std::memcpy(&scratch, bytes + 4, 4);
        std::memcpy(&argumentBytes, bytes + 8, 4);
        std::memcpy(&entry, bytes + 16, 8);
        std::memcpy(&resources1, bytes + 48, 4);
        std::memcpy(&resources2, bytes + 52, 4);
        std::memcpy(&properties, bytes + 56, 2);
        std::memcpy(&preloads, bytes + 58, 2);
    }
    int userScalars() const { return static_cast<int>(resources2 >> 1 & 31); }
    bool hasBlockIndex(int axis) const { return (resources2 >> (7 + axis) & 1) != 0; }
    /// Whether numbers too small for the exponent are zero.
    bool flushesSmallNumbers() const { return (resources1 >> 16 & 3) == 0; }

    uint32_t lds = 0, scratch = 0, argumentBytes = 0;
    int64_t entry = 0;
    uint32_t resources1 = 0, resources2 = 0;
    uint16_t properties = 0, preloads = 0;
};

void put(std::vector<uint8_t>& bytes, size_t offset, uint64_t value, size_t size) {
    std::memcpy(bytes.data() + offset, &value, size);
}

/// The argument segment of a launch.
std::vector<uint8_t> argumentSegment(const Request& request, const Descriptor& descriptor) {
    std::vector<uint8_t> bytes(descriptor.argumentBytes + 256, 0);
    const uint32_t blocks[] = {request.blocks.x, request.blocks.y, request.blocks.z};
    const uint32_t threads[] = {request.threads.x, request.threads.y, request.threads.z};
    int given = 0;
    for (uint32_t i = 0; i < request.kernel->argument_count; ++i) {
        const emulator_argument& argument = request.kernel->arguments[i];
        switch (argument.kind) {
            case 'e':
                std::memcpy(
                    bytes.data() + argument.offset, request.arguments[given++], argument.bytes);
                break;
            case 'c':
                put(bytes, argument.offset, blocks[argument.axis], argument.bytes);
                break;
            case 's':
                put(bytes, argument.offset, threads[argument.axis], argument.bytes);
                break;
            case 'd':
                put(bytes,
                    argument.offset,
                    blocks[2] > 1   ? 3
                    : blocks[1] > 1 ? 2
                                    : 1,
                    argument.bytes);
                break;
            case 'l':
                put(bytes, argument.offset, request.dynamicLDS, argument.bytes);
                break;
            default:
                break;
        }
    }
    return bytes;
}

/// The dispatch packet, which kernels may read their sizes from.
std::vector<uint8_t> dispatchPacket(const Request& request,
                                    const Descriptor& descriptor,
                                    const void* segment) {
    std::vector<uint8_t> bytes(64, 0);
    const Dimensions& blocks = request.blocks;
    const Dimensions& threads = request.threads;
    put(bytes, 4, threads.x, 2);
    put(bytes, 6, threads.y, 2);
    put(bytes, 8, threads.z, 2);
    put(bytes, 12, blocks.x * threads.x, 4);
    put(bytes, 16, blocks.y * threads.y, 4);
    put(bytes, 20, blocks.z * threads.z, 4);
    put(bytes, 24, descriptor.scratch, 4);
    put(bytes, 28, descriptor.lds + request.dynamicLDS, 4);
    put(bytes, 40, reinterpret_cast<uint64_t>(segment), 8);
    return bytes;
}

constexpr uint64_t kQuanta[] = {1, 7, 50, 400, 4000};
/// How long stores of a wave that has ended are held back, at most, in nanoseconds: long enough
/// that another launch can begin meanwhile, which takes a host's thread.
constexpr uint64_t kHeldAtEnd = 2000000;
constexpr double kSpeeds[] = {1.0, 0.3, 0.03};

}  // namespace

struct Machine::Block {
    Launch* launch;
    uint64_t lds;
    double speed;
    std::vector<std::unique_ptr<Wave>> waves;
};

struct Machine::Launch {
    Launch(const Request& asked, const Schedule& schedule, uint64_t number)
        : request(asked),
          descriptor(asked.program->image() + asked.kernel->descriptor),
          segment(argumentSegment(asked, descriptor)),
          packet(dispatchPacket(asked, descriptor, segment.data())),
          lateStores(schedule.lateStores),
          seed(schedule.seed * 1000003 + number) {}

    void makeBlocks();
    void makeWave(Block& block, uint32_t first, const uint32_t (&index)[3]);
    void end(Block& block);

    Request request;
    Descriptor descriptor;
    std::vector<uint8_t> segment, packet;
    uint64_t lateStores, seed;
    std::vector<std::unique_ptr<Block>> blocks;
    size_t blocksLeft = 0;
    Outcome outcome;
    bool hasEnded = false;
};

void Machine::Launch::makeBlocks() {
    if (descriptor.preloads != 0) {
        outcome.error = "kernels whose arguments are preloaded into registers are not emulated";
        return;
    }
    const Dimensions& grid = request.blocks;
    for (uint32_t z = 0; z < grid.z; ++z) {
        for (uint32_t y = 0; y < grid.y; ++y) {
            for (uint32_t x = 0; x < grid.x; ++x) {
                auto block = std::make_unique<Block>();
                block->launch = this;
                block->speed = 1;
                block->lds = takeBlockMemory();
                if (block->lds == 0) {
                    outcome.error = "no memory for block memory";
                    return;
                }
                const uint32_t index[3] = {x, y, z};
                for (uint32_t first = 0; first < request.threads.count(); first += kLanes) {
                    makeWave(*block, first, index);
                }
                blocks.push_back(std::move(block));
            }
        }
    }
    blocksLeft = blocks.size();
}

void Machine::Launch::makeWave(Block& block, uint32_t first, const uint32_t (&index)[3]) {
    const uint64_t threads = request.threads.count();
    const int lanes = static_cast<int>(std::min<uint64_t>(kLanes, threads - first));
    const uint64_t entry = request.program->base() + request.kernel->descriptor +
                           static_cast<uint64_t>(descriptor.entry);
    auto wave = std::make_unique<Wave>(entry, lanes, block.lds, descriptor.scratch);
    wave->block = &block.waves;
    int scalar = 0;
    const auto pair = [&](int bit, uint64_t value) {
        if ((descriptor.properties >> bit & 1) == 0) return;
        wave->setScalar64(scalar, value);
        scalar += 2;
    };
    if ((descriptor.properties & 1) != 0) scalar += 4;  // a buffer for scratch, of older GPUs
    pair(1, reinterpret_cast<uint64_t>(packet.data()));
    pair(2, 0);
    pair(3, reinterpret_cast<uint64_t>(segment.data()));
    pair(4, 0);
    pair(5, 0);
    int position = descriptor.userScalars();
    for (int axis = 0; axis < 3; ++axis) {
        if (descriptor.hasBlockIndex(axis)) wave->setScalar(position++, index[axis]);
    }
    const uint32_t width = request.threads.x;
    const uint32_t height = request.threads.y;
    for (int lane = 0; lane < lanes; ++lane) {
        const uint32_t thread = first + static_cast<uint32_t>(lane);
        wave->vector(0, lane) =
            thread / (width * height) << 20 | thread / width % height << 10 | thread % width;
    }
    if (lateStores != 0) {
        wave->stores = LateStores(seed * 4099 + outcome.waves, lateStores);
    }
    outcome.waves += 1;
    block.waves.push_back(std::move(wave));
}

void Machine::Launch::end(Block& block) {
    for (const std::unique_ptr<Wave>& wave : block.waves) {
        outcome.instructions += wave->instructions;
        outcome.mostOfOneWave = std::max(outcome.mostOfOneWave, wave->instructions);
    }
    giveBackBlockMemory(block.lds);
    block.waves.clear();
    blocksLeft -= 1;
}

Machine& Machine::shared() {
    static Machine* machine = [] {
        Machine* made = new Machine;  // outlives static destruction, as its thread does
        std::thread([made] { made->work(); }).detach();
        return made;
    }();
    return *machine;
}

void Machine::setSchedule(const Schedule& schedule) {
    std::lock_guard lock(mutex_);
    schedule_ = schedule;
    scheduleChanged_ = true;
    launches_ = 0;
}

namespace {

uint64_t hostTime() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<uint64_t>(time.tv_sec) * 1000000000u + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace

void Machine::setClock(Clock clock) {
    clock.start = hostTime();
    std::lock_guard lock(clockMutex_);
    clock_ = clock;
}

uint64_t Machine::ticks(uint64_t instructions) {
    std::lock_guard lock(clockMutex_);
    if (!clock_.isHosts) return instructions;
    const int64_t now = static_cast<int64_t>(hostTime());
    const int64_t passed = now - static_cast<int64_t>(clock_.start);
    return static_cast<uint64_t>(now + clock_.ahead + passed * clock_.gain / 1000000) / 10;
}

Outcome Machine::run(const Request& request) {
    std::unique_lock lock(mutex_);
    auto launch = std::make_shared<Launch>(request, schedule_, launches_++);
    arrived_.push_back(launch);
    changed_.notify_all();
    changed_.wait(lock, [&] { return launch->hasEnded; });
    return launch->outcome;
}

void Machine::work() {
    std::vector<std::shared_ptr<Launch>> launches;
    std::vector<Block*> blocks;
    for (;;) {
        {
            std::unique_lock lock(mutex_);
            if (launches.empty()) changed_.wait(lock, [&] { return !arrived_.empty(); });
            if (scheduleChanged_) random_ = Random(schedule_.seed);
            scheduleChanged_ = false;
            for (std::shared_ptr<Launch>& launch : arrived_) {
                launch->makeBlocks();
                for (const auto& block : launch->blocks) blocks.push_back(block.get());
                launches.push_back(std::move(launch));
            }
            arrived_.clear();
        }
        worked_ = false;
        runRound(blocks);
        std::erase_if(blocks, [](Block* block) {
            return block->waves.empty() || !block->launch->outcome.error.empty();
        });
        std::erase_if(launches, [&](const std::shared_ptr<Launch>& launch) {
            if (launch->blocksLeft != 0 && launch->outcome.error.empty()) return false;
            finish(*launch);
            return true;
        });
        // All waves wait: for the host's threads, who need the processor for it.
        if (!worked_) sched_yield();
    }
}

void Machine::finish(Launch& launch) {
    launch.blocks.clear();
    std::lock_guard lock(mutex_);
    launch.hasEnded = true;
    changed_.notify_all();
}

void Machine::runRound(std::vector<Block*>& blocks) {
    for (size_t i = blocks.size(); i > 1; --i) std::swap(blocks[i - 1], blocks[random_.below(i)]);
    // From time to time some blocks begin to lag far behind.
    if (round_++ % 64 == 0) {
        for (Block* block : blocks) block->speed = kSpeeds[random_.below(std::size(kSpeeds))];
    }
    for (Block* block : blocks) {
        if (static_cast<double>(random_.below(1000)) >= block->speed * 1000) continue;
        runBlock(*block);
    }
}

void Machine::runBlock(Block& block) {
    std::vector<std::unique_ptr<Wave>>& waves = block.waves;
    const size_t first = random_.below(waves.size());
    bool hasReady = false, hasEnded = true;
    for (size_t i = 0; i < waves.size(); ++i) {
        Wave& wave = *waves[(first + i) % waves.size()];
        if (wave.state == WaveState::ready) {
            if (!runWave(block, wave, kQuanta[random_.below(std::size(kQuanta))])) return;
        }
        if (wave.state == WaveState::ended) arriveLater(wave);
        hasReady |= wave.state == WaveState::ready;
        hasEnded &= wave.state == WaveState::ended && wave.stores.isEmpty();
    }
    if (hasEnded) {
        block.launch->end(block);
    } else if (!hasReady) {
        // All are at the barrier, or have ended, which counts as having come.
        for (const std::unique_ptr<Wave>& wave : waves) {
            if (wave->state == WaveState::atBarrier) wave->state = WaveState::ready;
        }
    }
}

void Machine::arriveLater(Wave& wave) {
    if (wave.stores.isEmpty()) return;
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const uint64_t time = static_cast<uint64_t>(std::chrono::nanoseconds(now).count());
    if (wave.heldUntil == 0) wave.heldUntil = time + random_.below(kHeldAtEnd);
    if (time < wave.heldUntil) return;
    for (uint64_t ticks = random_.below(400); ticks > 0; --ticks) wave.stores.tick();
    worked_ = true;
}

bool Machine::runWave(Block& block, Wave& wave, uint64_t quantum) {
    Launch& launch = *block.launch;
    const Program& program = *launch.request.program;
    const emulator_translation& translation = program.translation();
    const uint32_t unflushed = _mm_getcsr();
    if (launch.descriptor.flushesSmallNumbers()) _mm_setcsr(unflushed | 0x8040);
    // What a fault leaves is read after it: not in registers.
    volatile uint64_t done = 0;
    bool isRunning = true;
    const char* volatile refused = nullptr;
    const FaultScope faults;
    if (sigsetjmp(faults.place(), 0) != 0) {
        refused = "an access of memory that is not there";
        isRunning = false;
    }
    while (isRunning && done < quantum) {
        const uint64_t at = wave.programCounter();
        const uint64_t offset = at - program.base();
        const uint16_t number =
            offset < translation.image_bytes ? translation.code[offset / 4] : uint16_t{0};
        if (number == 0) {
            refused = "no instruction";
            break;
        }
        const emulator_pattern& pattern = translation.patterns[number - 1];
        const auto* words = reinterpret_cast<const uint32_t*>(at);
        done = done + 1;
        wave.stores.tick();
        bool isKnown = true;
        switch (pattern.kind) {
            case EMULATOR_SKIP:
                wave.advance(pattern.bytes);
                break;
            case EMULATOR_ACCESS:
                isKnown = runAccess(wave, words);
                break;
            case EMULATOR_WAIT:
                runWait(wave, words[0]);
                break;
            case EMULATOR_TIME:
                runTime(wave, words[0], ticks(instructions_ + done));
                break;
            case EMULATOR_CONTROL:
                isKnown = runControl(wave, words[0]);
                break;
            case EMULATOR_PERMUTE:
                isKnown = runPermute(wave, words);
                break;
            default: {
                uint64_t arguments[6] = {};
                for (int i = 0; i < pattern.buffer_count; ++i) {
                    arguments[i] = wave.buffer(pattern.buffers[i]);
                }
                pattern.function(arguments[0],
                                 arguments[1],
                                 arguments[2],
                                 arguments[3],
                                 arguments[4],
                                 arguments[5]);
                if (pattern.kind == EMULATOR_BARRIER) {
                    wave.state = WaveState::atBarrier;
                    isRunning = false;
                } else if (pattern.kind == EMULATOR_SLEEP) {
                    isRunning = false;
                } else if (wave.programCounter() == kEnded) {
                    wave.state = WaveState::ended;
                    isRunning = false;
                }
            }
        }
        if (!isKnown) {
            refused = "an instruction that the emulator does not know";
            break;
        }
    }
    _mm_setcsr(unflushed);
    if (done == quantum || wave.state != WaveState::ready) worked_ = true;
    wave.instructions += done;
    __atomic_store_n(&instructions_, instructions_ + done, __ATOMIC_RELAXED);
    if (refused == nullptr) return true;
    char text[256];
    std::snprintf(text,
                  sizeof text,
                  "%s: at offset 0x%llx of the code object: %s",
                  launch.request.kernel->name,
                  static_cast<unsigned long long>(wave.programCounter() - program.base()),
                  refused);
    launch.outcome.error = text;
    return false;
}

}  // namespace emulator
