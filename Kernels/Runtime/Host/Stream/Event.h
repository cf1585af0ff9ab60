// Events of the host device: a mark in a stream, with the time at which it was reached.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "moriep.h"

namespace mori::host {

/// Lives as long as a command or its owner needs it.
class Event {
public:
    explicit Event(bool timed) : timed_(timed) {}

    bool timed() const { return timed_; }
    /// A record was enqueued; returns its number.
    uint32_t request() { return requested_.fetch_add(1, std::memory_order_acq_rel) + 1; }
    /// The number of the last record enqueued; 0: never recorded.
    uint32_t requested() const { return requested_.load(std::memory_order_acquire); }
    /// The stream reached a record.
    void reach();
    /// Whether record `number` was reached.
    bool reached(uint32_t number) const;
    /// Returns once record `number` was reached.
    void wait(uint32_t number) const;
    /// When the last record was reached, in nanoseconds of the monotonic clock.
    uint64_t time() const { return time_.load(std::memory_order_relaxed); }

private:
    bool timed_;
    std::atomic<uint32_t> requested_{0};
    std::atomic<uint32_t> reached_{0};
    std::atomic<uint64_t> time_{0};
};

moriep_status eventCreate(int32_t device, int32_t timed, moriep_event** out);
moriep_status eventDestroy(moriep_event* event);
moriep_status eventRecord(moriep_event* event, moriep_stream* stream);
moriep_status eventSynchronize(moriep_event* event);
moriep_status eventQuery(moriep_event* event);
moriep_status eventElapsed(moriep_event* start, moriep_event* stop, int64_t* out);

}  // namespace mori::host

struct moriep_event {
    std::shared_ptr<mori::host::Event> event;
};
