// Streams of the host device: commands that run in order, on the stream's own thread or on one that
// waits for them.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <variant>
#include <vector>

#include "Runtime/Host/Stream/Event.h"
#include "Runtime/Host/Threads/Grid.h"
#include "moriep.h"

namespace mori::host {

struct Graph;

struct CopyBytes {
    uint64_t destination, source, bytes;
};
struct FillBytes {
    uint64_t address, bytes;
    uint8_t byte;
};
struct RecordEvent {
    std::shared_ptr<Event> event;
};
struct WaitEvent {
    std::shared_ptr<Event> event;
    uint32_t number;
};
struct HostCallback {
    void (*function)(void*);
    void* context;
};
struct LaunchGraph {
    std::shared_ptr<const Graph> graph;
};
struct StopStream {};

using Command = std::variant<StopStream,
                             CopyBytes,
                             FillBytes,
                             RecordEvent,
                             WaitEvent,
                             HostCallback,
                             LaunchGraph,
                             moriep_dispatch_arguments,
                             moriep_combine_arguments,
                             moriep_received_arguments>;

/// Commands recorded by a capture, to be replayed as often as wanted.
struct Graph {
    std::vector<Command> commands;
};

/// Counts for live_counts.
std::atomic<int64_t>& liveEvents();
std::atomic<int64_t>& liveStreams();
std::atomic<int64_t>& liveGraphs();

}  // namespace mori::host

struct moriep_graph {
    std::shared_ptr<const mori::host::Graph> graph;
};

struct moriep_stream {
public:
    /// Makes the stream and its thread.
    static moriep_stream* create();
    /// Does not block: the thread runs what was enqueued, then ends and frees the stream.
    void close();

    /// Appends a command, or records it while a capture is active. Never blocks on the device.
    moriep_status enqueue(mori::host::Command command);
    /// Returns once everything enqueued before has run. Runs what nobody runs yet itself: a caller
    /// that waits anyway need not hand its work to another thread and wait to be woken.
    moriep_status synchronize();
    /// A thread is about to wait for what it enqueues (true), or no longer (false): until then the
    /// stream's thread is not woken. It looks by itself every 10 ms.
    void expectWait(bool expects);
    bool isIdle() const;
    /// Bytes that its launches moved.
    mori::host::Traffic traffic() const { return grid_.traffic(); }

    moriep_status beginCapture();
    moriep_status endCapture(moriep_graph** out);
    bool isCapturing();

private:
    moriep_stream();
    void run();
    void execute(const mori::host::Command& command);
    void push(mori::host::Command&& command);
    bool take(mori::host::Command& command, bool waits);
    void finish(bool waits);
    void offer();

    std::mutex mutex_;
    // A ring that grows when it is full and never shrinks: no allocation in the steady state.
    std::vector<mori::host::Command> ring_;
    size_t head_ = 0;
    size_t size_ = 0;
    bool isRunning_ = false;  ///< whether some thread runs a command
    int waiting_ = 0;         ///< threads inside synchronize; they run commands, and no one else
    int expected_ = 0;        ///< threads that will be
    bool isOffered_ = false;  ///< whether the stream's thread was told and has not looked yet
    std::unique_ptr<mori::host::Graph> capture_;

    std::atomic<uint32_t> pushed_{0};
    std::atomic<uint32_t> offered_{0};  ///< goes up when there may be a command to take
    std::atomic<uint32_t> done_{0};
    mori::host::GridRunner grid_;
};
