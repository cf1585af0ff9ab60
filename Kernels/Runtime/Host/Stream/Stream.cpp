#include "Runtime/Host/Stream/Stream.h"

#include <cstring>
#include <thread>

#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Checked/Clock.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Checked/Races.h"
#include "Runtime/Host/Memory/Copy.h"
#include "Runtime/Host/Stream/Launch.h"
#include "Runtime/Host/Threads/Parking.h"

using namespace mori::host;

namespace mori::host {

std::atomic<int64_t>& liveEvents() {
    static std::atomic<int64_t> count{0};
    return count;
}
std::atomic<int64_t>& liveStreams() {
    static std::atomic<int64_t> count{0};
    return count;
}
std::atomic<int64_t>& liveGraphs() {
    static std::atomic<int64_t> count{0};
    return count;
}

namespace {

constexpr size_t kInitialCommands = 64;

const uint32_t* address(const std::atomic<uint32_t>& word) {
    return reinterpret_cast<const uint32_t*>(&word);
}

/// A command that accesses memory as a launch of one warp would.
struct AsOneWarp {
    explicit AsOneWarp(const GridRunner* stream) : stream(stream) {
        races::beginLaunch(stream, nullptr, 0, 0);
        races::beginWarp(stream, nullptr, 0);
    }
    ~AsOneWarp() { races::endWarp(stream); }
    const GridRunner* stream;
};

template <class... Handlers>
struct Overloaded : Handlers... {
    using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace
}  // namespace mori::host

moriep_stream::moriep_stream() : ring_(kInitialCommands) {}

moriep_stream* moriep_stream::create() {
    std::unique_ptr<moriep_stream> stream(new moriep_stream);
    mayThrow("a stream's thread");
    announceThread();
    std::thread([stream = stream.get()] {
        beginThread();
        stream->run();
        delete stream;
        endThread();
    }).detach();
    liveStreams().fetch_add(1, std::memory_order_relaxed);
    return stream.release();
}

void moriep_stream::close() {
    liveStreams().fetch_sub(1, std::memory_order_relaxed);
    push(StopStream{});
}

moriep_status moriep_stream::enqueue(Command command) {
    {
        std::lock_guard lock(mutex_);
        if (capture_ != nullptr) {
            if (std::holds_alternative<WaitEvent>(command) ||
                std::holds_alternative<LaunchGraph>(command)) {
                return fail(MORIEP_CAPTURE_INVALID,
                            0,
                            "a capture on the host device records one stream: no waits for events "
                            "of other streams and no graphs inside graphs");
            }
            capture_->commands.push_back(std::move(command));
            return MORIEP_SUCCESS;
        }
        if (auto* record = std::get_if<RecordEvent>(&command)) record->event->request();
    }
    push(std::move(command));
    return MORIEP_SUCCESS;
}

void moriep_stream::push(Command&& command) {
    {
        std::lock_guard lock(mutex_);
        if (size_ == ring_.size()) {
            mayThrow("a stream's ring");
            std::vector<Command> larger(ring_.size() * 2);
            for (size_t at = 0; at < size_; ++at) {
                larger[at] = std::move(ring_[(head_ + at) % ring_.size()]);
            }
            ring_ = std::move(larger);
            head_ = 0;
        }
        ring_[(head_ + size_) % ring_.size()] = std::move(command);
        size_ += 1;
        pushed_.fetch_add(1, std::memory_order_release);
        // Inside the lock: after StopStream the thread frees the stream as soon as it can take it.
        offer();
    }
}

/// Tells the stream's thread that there is a command, unless somebody waits, who runs it instead,
/// or the thread was told before. Inside the lock.
void moriep_stream::offer() {
    if (size_ == 0 || waiting_ > 0 || expected_ > 0 || isRunning_ || isOffered_) return;
    isOffered_ = true;
    offered_.fetch_add(1, std::memory_order_release);
    wake32(address(offered_));
}

/// Takes the next command, unless there is none or it is another thread's to run.
bool moriep_stream::take(Command& command, bool waits) {
    std::lock_guard lock(mutex_);
    if (!waits) isOffered_ = false;
    if (isRunning_ || size_ == 0 || (waiting_ > 0 && !waits)) return false;
    isRunning_ = true;
    command = std::move(ring_[head_]);
    ring_[head_] = Command();
    head_ = (head_ + 1) % ring_.size();
    size_ -= 1;
    return true;
}

/// After a command: others see it done, and may take the next.
void moriep_stream::finish(bool waits) {
    std::lock_guard lock(mutex_);
    isRunning_ = false;
    done_.fetch_add(1, std::memory_order_release);
    if (waiting_ > (waits ? 1 : 0)) wake32(address(done_));
}

void moriep_stream::run() {
    for (int turn = 0;;) {
        const uint32_t offered = offered_.load(std::memory_order_acquire);
        Command command;
        if (!take(command, false)) {
            // Pairs with the addition in `offer`.
            relax32(turn++, address(offered_), offered);
            continue;
        }
        turn = 0;
        if (std::holds_alternative<StopStream>(command)) return;
        execute(command);
        command = Command();  // what it held is released before anyone sees it done
        finish(false);
    }
}

void moriep_stream::execute(const Command& command) {
    std::visit(
        Overloaded{
            [](const StopStream&) {},
            [this](const CopyBytes& copy) {
                const AsOneWarp warp(&grid_);
                std::memmove(reinterpret_cast<void*>(copy.destination),
                             reinterpret_cast<const void*>(copy.source),
                             copy.bytes);
            },
            [this](const FillBytes& fill) {
                const AsOneWarp warp(&grid_);
                std::memset(reinterpret_cast<void*>(fill.address), fill.byte, fill.bytes);
            },
            [](const RecordEvent& record) { record.event->reach(); },
            [](const WaitEvent& wait) { wait.event->wait(wait.number); },
            [](const HostCallback& callback) { callback.function(callback.context); },
            [this](const LaunchGraph& launch) {
                for (const Command& step : launch.graph->commands) {
                    if (auto* record = std::get_if<RecordEvent>(&step)) record->event->request();
                    execute(step);
                }
            },
            [this](const moriep_dispatch_arguments& arguments) { runDispatch(grid_, arguments); },
            [this](const moriep_received_arguments& arguments) { runReceived(grid_, arguments); },
            [this](const moriep_combine_arguments& arguments) { runCombine(grid_, arguments); },
        },
        command);
}

moriep_status moriep_stream::synchronize() {
    if (isCapturing()) {
        return fail(MORIEP_CAPTURE_INVALID, 0, "a stream that captures cannot be awaited");
    }
    {
        std::lock_guard lock(mutex_);
        waiting_ += 1;
    }
    const uint32_t target = pushed_.load(std::memory_order_acquire);
    for (int turn = 0;;) {
        const uint32_t done = done_.load(std::memory_order_acquire);
        if (static_cast<int32_t>(done - target) >= 0) break;
        Command command;
        if (!take(command, true)) {
            // Pairs with the addition in `finish`; every wait of a command is bounded.
            relax32(turn++, address(done_), done);
            continue;
        }
        turn = 0;
        execute(command);
        command = Command();
        finish(true);
    }
    std::lock_guard lock(mutex_);
    waiting_ -= 1;
    offer();  // what came after the target
    return MORIEP_SUCCESS;
}

void moriep_stream::expectWait(bool expects) {
    std::lock_guard lock(mutex_);
    expected_ += expects ? 1 : -1;
    offer();
}

bool moriep_stream::isIdle() const {
    return done_.load(std::memory_order_acquire) == pushed_.load(std::memory_order_acquire);
}

moriep_status moriep_stream::beginCapture() {
    std::lock_guard lock(mutex_);
    if (capture_ != nullptr) {
        return fail(MORIEP_CAPTURE_INVALID, 0, "this stream already captures");
    }
    capture_ = std::make_unique<Graph>();
    return MORIEP_SUCCESS;
}

moriep_status moriep_stream::endCapture(moriep_graph** out) {
    std::lock_guard lock(mutex_);
    if (capture_ == nullptr) {
        return fail(MORIEP_CAPTURE_INVALID, 0, "this stream does not capture");
    }
    *out = new moriep_graph{std::shared_ptr<const Graph>(std::move(capture_))};
    liveGraphs().fetch_add(1, std::memory_order_relaxed);
    return MORIEP_SUCCESS;
}

bool moriep_stream::isCapturing() {
    std::lock_guard lock(mutex_);
    return capture_ != nullptr;
}
