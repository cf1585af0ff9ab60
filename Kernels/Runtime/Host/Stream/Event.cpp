#include "Runtime/Host/Stream/Event.h"

#include "Runtime/Host/Api/Status.h"
#include "Runtime/Host/Checked/Faults.h"
#include "Runtime/Host/Stream/Stream.h"
#include "Runtime/Host/Threads/Parking.h"

namespace mori::host {

void Event::reach() {
    time_.store(now(), std::memory_order_relaxed);
    reached_.fetch_add(1, std::memory_order_release);
    wake32(reinterpret_cast<const uint32_t*>(&reached_));
}

bool Event::reached(uint32_t number) const {
    return static_cast<int32_t>(reached_.load(std::memory_order_acquire) - number) >= 0;
}

void Event::wait(uint32_t number) const {
    // Pairs with the addition in `reach`, by a stream whose every wait is bounded.
    for (int turn = 0; !reached(number); ++turn) {
        relax32(turn,
                reinterpret_cast<const uint32_t*>(&reached_),
                reached_.load(std::memory_order_relaxed));
    }
}

moriep_status eventCreate(int32_t, int32_t timed, moriep_event** out) {
    mayThrow("an event");
    *out = new moriep_event{std::make_shared<Event>(timed != 0)};
    liveEvents().fetch_add(1, std::memory_order_relaxed);
    return MORIEP_SUCCESS;
}

moriep_status eventDestroy(moriep_event* event) {
    delete event;
    liveEvents().fetch_sub(1, std::memory_order_relaxed);
    return MORIEP_SUCCESS;
}

moriep_status eventRecord(moriep_event* event, moriep_stream* stream) {
    return stream->enqueue(RecordEvent{event->event});
}

moriep_status eventSynchronize(moriep_event* event) {
    event->event->wait(event->event->requested());
    return MORIEP_SUCCESS;
}

moriep_status eventQuery(moriep_event* event) {
    return event->event->reached(event->event->requested()) ? MORIEP_SUCCESS : MORIEP_NOT_READY;
}

moriep_status eventElapsed(moriep_event* start, moriep_event* stop, int64_t* out) {
    const Event& first = *start->event;
    const Event& last = *stop->event;
    if (!first.timed() || !last.timed()) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "elapsed time between events made without timing");
    }
    if (first.requested() == 0 || last.requested() == 0) {
        return fail(MORIEP_INVALID_ARGUMENT, 0, "elapsed time of an event never recorded");
    }
    if (!first.reached(first.requested()) || !last.reached(last.requested())) {
        return fail(MORIEP_NOT_READY, 0, "an event was not reached yet");
    }
    *out = static_cast<int64_t>(last.time() - first.time());
    return MORIEP_SUCCESS;
}

}  // namespace mori::host
