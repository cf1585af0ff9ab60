#if MORI_EP_CHECKED

// The checker itself is not instrumented.
#pragma clang attribute push(__attribute__((disable_sanitizer_instrumentation)), \
                             apply_to = function)

#include <atomic>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>

#include "Runtime/Host/Checked/Checker.h"
#include "Runtime/Host/Checked/Races.h"
#include "Runtime/include/moriep_checked.h"
#include "moriep_operator.h"

namespace mori::host::races {
namespace {

/// Whoever accesses memory in an order of its own.
struct Actor {
    uint16_t number = 0;
    int period = 0;
    std::string name;
    uint32_t clock = 1;
    Knowledge knows;   ///< accesses that its own come after
    Knowledge tells;   ///< of those, what a word of its may cover
    Knowledge polled;  ///< what an acquire will add to both
    bool streams = false;
    // Within a launch.
    const void* stream = nullptr;
    const void* block = nullptr;
    int barriers = 0;
};

/// What a word tells, for its last two values.
struct Word {
    uint64_t values[2] = {};
    Knowledge tells[2];
    int next = 0;
};

struct Stream {
    Knowledge atBegin;  ///< of the launch that runs
    Knowledge now;
};

/// The barriers of a block in the launch that runs.
struct BlockBarriers {
    std::vector<Knowledge> knows, tells;
};

struct Checker {
    std::mutex mutex;
    std::map<uint64_t, Region> regions;  ///< by their begin
    std::map<std::pair<const void*, int>, Actor*> actors;
    std::vector<Actor*> all;
    std::unordered_map<const void*, Word> words;
    std::unordered_map<const void*, Knowledge> sums;  ///< words that many add to
    std::unordered_map<const void*, Stream> streams;
    std::unordered_map<const void*, BlockBarriers> blocks;
    std::unordered_map<const void*, int> ranks;  ///< of streams and queues
    Places places;
    std::vector<std::string> races;
    std::set<std::pair<uint32_t, uint32_t>> reported;
};

Checker& checker() {
    static Checker* checker = new Checker;
    return *checker;
}

std::atomic<bool> isOn{false};
/// Counts how often it was switched on. A thread may still have an actor of before: those are kept.
std::atomic<int> period{0};
std::atomic<bool> streamsRows{false};
std::atomic<uint64_t> lowest{UINT64_MAX}, highest{0};
constexpr size_t kMostRaces = 50;

thread_local Actor* current = nullptr;
/// The checker's own code may call functions that another file instrumented.
thread_local bool isInside = false;
thread_local const void* stack[64];
thread_local int depth = 0;
thread_local int bottom = 0;  ///< the depth at which the warp began

/// Holds the checker. What it calls of the standard library may be instrumented: not seen from
/// before the lock until after it.
class Inside {
public:
    Inside() {
        isInside = true;
        checker().mutex.lock();
    }
    ~Inside() {
        checker().mutex.unlock();
        isInside = false;
    }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
};

bool isIdle() { return isInside || !isOn.load(std::memory_order_relaxed); }
bool hasNoActor() {
    return isIdle() || current == nullptr ||
           current->period != period.load(std::memory_order_relaxed);
}

Actor* actorOf(Checker& all, const void* owner, int index) {
    Actor*& actor = all.actors[{owner, index}];
    if (actor != nullptr) return actor;
    if (all.all.size() >= kActors) {
        std::fprintf(stderr, "race checker: more than %d warps, streams and queues\n", kActors);
        std::abort();
    }
    actor = new Actor;
    actor->period = period.load();
    actor->number = static_cast<uint16_t>(all.all.size());
    all.all.push_back(actor);
    return actor;
}

/// The own accesses so far are known, and a later one is not among them.
void tick(Actor& actor) {
    actor.knows.clocks[actor.number] = actor.clock;
    actor.clock += 1;
}

/// The own accesses so far may be told.
void publishOwn(Actor& actor) {
    actor.tells.clocks[actor.number] = actor.clock;
    tick(actor);
}

void learn(Actor& actor, const Knowledge& knowledge) {
    actor.knows.join(knowledge);
    actor.tells.join(knowledge);
}

void setWord(Checker& all, const void* word, uint64_t value, const Knowledge& tells) {
    Word& entry = all.words[word];
    entry.next ^= 1;
    entry.values[entry.next] = value;
    entry.tells[entry.next] = tells;
}

Region* regionOf(Checker& all, uint64_t address) {
    auto found = all.regions.upper_bound(address);
    if (found == all.regions.begin()) return nullptr;
    Region& region = (--found)->second;
    return address < region.end ? &region : nullptr;
}

void report(Checker& all,
            const Region& region,
            uint64_t address,
            const Stamp& earlier,
            Kind earlierKind,
            const Stamp& later,
            Kind laterKind) {
    const uint32_t one = uint32_t(earlier.place) << 2 | uint32_t(earlierKind);
    const uint32_t other = uint32_t(later.place) << 2 | uint32_t(laterKind);
    if (all.races.size() >= kMostRaces || !all.reported.insert({one, other}).second) return;
    const auto side = [&](const Stamp& stamp, Kind kind) {
        return std::string(words(kind)) + " by " + all.all[stamp.actor]->name + " in " +
               Places::words(stamp.place);
    };
    all.races.push_back("race on " + region.words(address) + ": " + side(earlier, earlierKind) +
                        ", then, not ordered after it, " + side(later, laterKind));
}

/// Looks at one cell, and remembers the access there.
void accessCell(
    Checker& all, Region& region, uint64_t address, const Actor& actor, Stamp stamp, Kind kind) {
    Cell& cell = *region.cell(address);
    const auto conflict = [&](const Stamp& earlier, Kind earlierKind) {
        if (earlier.isKnown(actor.number, actor.knows)) return;
        report(all, region, address, earlier, earlierKind, stamp, kind);
    };
    conflict(cell.write, Kind::write);
    if (kind != Kind::read) {
        for (const Stamp& read : cell.reads) conflict(read, Kind::read);
    }
    if (kind != Kind::atomic) {
        for (const Stamp& atomic : cell.atomics) conflict(atomic, Kind::atomic);
    }
    if (kind == Kind::write) {
        cell = Cell{};
        cell.write = stamp;
        return;
    }
    Stamp* const entries = kind == Kind::read ? cell.reads : cell.atomics;
    const int count = kind == Kind::read ? Cell::kReads : Cell::kAtomics;
    // In place of one that this one comes after; else of any.
    int at = static_cast<int>(stamp.clock) % count;
    for (int i = 0; i < count; ++i) {
        if (entries[i].isKnown(actor.number, actor.knows)) at = i;
    }
    entries[at] = stamp;
}

void accessRange(
    Checker& all, Actor& actor, uint64_t address, uint64_t bytes, Kind kind, uint16_t place) {
    Region* region = regionOf(all, address);
    if (region == nullptr || bytes == 0) return;
    const Stamp stamp{actor.clock, actor.number, place};
    const uint64_t end = address + bytes < region->end ? address + bytes : region->end;
    for (uint64_t at = address & ~uint64_t(3); at < end; at += 4) {
        accessCell(all, *region, at < region->begin ? region->begin : at, actor, stamp, kind);
    }
}

bool isSymmetric(uint64_t address, uint64_t bytes) {
    return address + bytes > lowest.load(std::memory_order_relaxed) &&
           address < highest.load(std::memory_order_relaxed);
}

uint16_t placeOf(Checker& all, const void* code) {
    const void* calls[Places::kDepth];
    int count = 0;
    const int top = depth < 64 ? depth : 64;
    const int first = bottom < top ? bottom : top;
    for (int at = first; at < top && count < Places::kDepth - 1; ++at) calls[count++] = stack[at];
    calls[count++] = code;
    return all.places.number(calls, count);
}

void nameActor(Checker& all, Actor& actor, const void* owner, const std::string& what) {
    const auto rank = all.ranks.find(owner);
    actor.name = what + (rank == all.ranks.end() ? "" : " of rank " + std::to_string(rank->second));
}

}  // namespace

void access(const void* address, uint64_t bytes, Kind kind, const void* code) {
    if (hasNoActor()) return;
    const auto begin = reinterpret_cast<uint64_t>(address);
    if (!isSymmetric(begin, bytes)) return;
    Inside inside;
    Checker& all = checker();
    accessRange(all, *current, begin, bytes, kind, placeOf(all, code));
}

void enterFunction(const void* caller) {
    if (depth < 64) stack[depth] = caller;
    depth += 1;
}
void leaveFunction() {
    if (depth > 0) depth -= 1;
}

void beginLaunch(const void* stream, const void* firstBlock, uint64_t distance, int blocks) {
    if (isIdle()) return;
    Inside inside;
    Checker& all = checker();
    Stream& entry = all.streams[stream];
    entry.atBegin = entry.now;
    for (int block = 0; block < blocks; ++block) {
        const char* address = static_cast<const char*>(firstBlock);
        all.blocks[address + static_cast<uint64_t>(block) * distance] = BlockBarriers{};
    }
}

void beginWarp(const void* stream, const void* block, int warp) {
    current = nullptr;
    if (isIdle()) return;
    Inside inside;
    Checker& all = checker();
    current = actorOf(all, stream, warp);
    nameActor(all, *current, stream, "warp " + std::to_string(warp));
    current->stream = stream;
    current->block = block;
    current->barriers = 0;
    current->polled = Knowledge{};
    learn(*current, all.streams[stream].atBegin);
    bottom = depth;
}

void endWarp(const void* stream) {
    if (!hasNoActor()) {
        Inside inside;
        Actor& actor = *current;
        actor.streams = false;
        publishOwn(actor);
        Stream& entry = checker().streams[stream];
        entry.now.join(actor.knows);
        entry.now.join(actor.polled);
    }
    current = nullptr;
}

void arrive() {
    if (hasNoActor()) return;
    Inside inside;
    Actor& actor = *current;
    tick(actor);
    BlockBarriers& block = checker().blocks[actor.block];
    const size_t at = static_cast<size_t>(actor.barriers);
    if (block.knows.size() <= at) {
        block.knows.resize(at + 1);
        block.tells.resize(at + 1);
    }
    block.knows[at].join(actor.knows);
    block.tells[at].join(actor.tells);
}

void leave() {
    if (hasNoActor()) return;
    Inside inside;
    Actor& actor = *current;
    const BlockBarriers& block = checker().blocks[actor.block];
    const size_t at = static_cast<size_t>(actor.barriers++);
    if (at >= block.knows.size()) return;  // switched on in between
    actor.knows.join(block.knows[at]);
    actor.tells.join(block.tells[at]);
}

void publish() {
    if (hasNoActor()) return;
    Inside inside;
    if (!current->streams) publishOwn(*current);
}

void noteStreaming(void* destination, const void* source, uint64_t bytes) {
    if (hasNoActor()) return;
    const void* code = __builtin_return_address(0);
    Inside inside;
    Checker& all = checker();
    const uint16_t place = placeOf(all, code);
    current->streams = true;
    accessRange(all, *current, reinterpret_cast<uint64_t>(source), bytes, Kind::read, place);
    accessRange(all, *current, reinterpret_cast<uint64_t>(destination), bytes, Kind::write, place);
}

void finishStreaming() {
    if (!hasNoActor()) current->streams = false;
}

void acquire() {
    if (hasNoActor()) return;
    Inside inside;
    learn(*current, current->polled);
}

void tell(const void* word, uint64_t value) {
    if (hasNoActor()) return;
    Inside inside;
    if (!current->streams) publishOwn(*current);
    setWord(checker(), word, value, current->tells);
}

void poll(const void* word, uint64_t value) {
    if (hasNoActor()) return;
    Inside inside;
    const auto found = checker().words.find(word);
    if (found == checker().words.end()) return;
    for (int i = 0; i < 2; ++i) {
        if (found->second.values[i] == value) current->polled.join(found->second.tells[i]);
    }
}

void tellSum(const void* word) {
    if (hasNoActor()) return;
    Inside inside;
    checker().sums[word].join(current->tells);
    tick(*current);
}

void pollSum(const void* word) {
    if (hasNoActor()) return;
    Inside inside;
    current->polled.join(checker().sums[word]);
}

void nameMemory(const void* operatorFields) {
    if (isIdle()) return;
    const auto& op = *static_cast<const moriep_operator*>(operatorFields);
    Inside inside;
    if (current != nullptr && checker().ranks.emplace(current->stream, op.rank).second) {
        current->name += " of rank " + std::to_string(op.rank);
    }
    const uint64_t base = reinterpret_cast<const uint64_t*>(op.peers)[op.rank];
    Region* region = regionOf(checker(), base);
    if (region != nullptr) region->nameBuffers(op);
}

void addMemory(uint64_t address, uint64_t bytes) {
    Inside inside;
    Region& region = checker().regions[address];
    region = Region{};
    region.begin = address;
    region.end = address + bytes;
    if (address < lowest.load()) lowest.store(address);
    if (address + bytes > highest.load()) highest.store(address + bytes);
}

void removeMemory(uint64_t address) {
    Inside inside;
    const auto found = checker().regions.find(address);
    if (found == checker().regions.end()) return;
    found->second.release();
    checker().regions.erase(found);
}

bool streamsAlways() { return streamsRows.load(std::memory_order_relaxed); }

}  // namespace mori::host::races

using namespace mori::host::races;

void moriep_check_races(int32_t on) {
    isOn.store(false);
    Inside inside;
    Checker& all = checker();
    if (on != 0) {
        for (auto& [begin, region] : all.regions) region.clear();
        period.fetch_add(1);
        all.actors.clear();
        all.all.clear();
        all.words.clear();
        all.sums.clear();
        all.streams.clear();
        all.blocks.clear();
        all.ranks.clear();
        all.races.clear();
        all.reported.clear();
    }
    isOn.store(on != 0);
}
int32_t moriep_race_count(void) { return static_cast<int32_t>(checker().races.size()); }
const char* moriep_race(int32_t index) {
    const auto at = static_cast<size_t>(index);
    return at < checker().races.size() ? checker().races[at].c_str() : nullptr;
}
void moriep_stream_always(int32_t on) { streamsRows.store(on != 0); }

void moriep_race_become(const void* proxy, int32_t rank) {
    current = nullptr;
    if (isIdle() || proxy == nullptr) return;
    Inside inside;
    current = actorOf(checker(), proxy, 0);
    current->name = "the proxy of rank " + std::to_string(rank);
}

void moriep_race_take(const void* word, uint64_t value) {
    poll(word, value);
    acquire();
}
void moriep_race_tell(const void* word, uint64_t value) { tell(word, value); }

void moriep_race_post(const void* queue) {
    if (hasNoActor()) return;
    Inside inside;
    tick(*current);
    Actor& actor = *actorOf(checker(), queue, 0);
    actor.knows.join(current->knows);
    // What a post knew is told by the words of its queue; what others post later is not.
    actor.tells.join(current->tells);
    actor.name = "a queue of " + current->name;
}

uint32_t moriep_race_payload(const void* queue,
                             void* destination,
                             const void* source,
                             uint64_t bytes) {
    if (isIdle()) return 0;
    Inside inside;
    Checker& all = checker();
    Actor& actor = *actorOf(all, queue, 0);
    const void* here = reinterpret_cast<const void*>(&moriep_race_payload);
    const uint16_t place = all.places.number(&here, 1);
    accessRange(all, actor, reinterpret_cast<uint64_t>(source), bytes, Kind::read, place);
    accessRange(all, actor, reinterpret_cast<uint64_t>(destination), bytes, Kind::write, place);
    const uint32_t clock = actor.clock;
    publishOwn(actor);
    return clock;
}

void moriep_race_word(const void* queue, const void* word, uint64_t value) {
    if (isIdle()) return;
    Inside inside;
    setWord(checker(), word, value, actorOf(checker(), queue, 0)->tells);
}

void moriep_race_complete(const void* queue, uint32_t clock) {
    if (hasNoActor()) return;
    Inside inside;
    Actor& actor = *actorOf(checker(), queue, 0);
    Knowledge known;
    known.clocks[actor.number] = clock;
    learn(*current, known);
}

#pragma clang attribute pop

#endif
