#if RDMA
import CIBVerbs
import CRDMACM

// The objects of libibverbs and librdmacm, each given back when the last reference goes, and before
// those that it was made from. One thread at a time uses an object. A failure to give one back has
// nobody to go to.
//
// Both modules contain libibverbs' types, and the compiler takes either for their home: files that
// name fields of these types import both.

/// A NIC that was opened.
@safe
final class NICContext: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ibv_context>

    init(_ pointer: UnsafeMutablePointer<ibv_context>) {
        unsafe self.pointer = unsafe pointer
    }

    deinit { _ = unsafe ibv_close_device(pointer) }
}

/// What registrations and queue pairs that belong together are made in.
@safe
final class ProtectionDomain: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ibv_pd>
    private let context: NICContext

    init(_ pointer: UnsafeMutablePointer<ibv_pd>, of context: NICContext) {
        unsafe self.pointer = unsafe pointer
        self.context = context
    }

    deinit { _ = unsafe ibv_dealloc_pd(pointer) }
}

/// Memory that a NIC may reach.
@safe
final class MemoryRegion: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ibv_mr>
    private let domain: ProtectionDomain

    init(_ pointer: UnsafeMutablePointer<ibv_mr>, of domain: ProtectionDomain) {
        unsafe self.pointer = unsafe pointer
        self.domain = domain
    }

    deinit { _ = unsafe ibv_dereg_mr(pointer) }
}

/// Where completions arrive.
@safe
final class CompletionQueue: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ibv_cq>
    private let context: NICContext

    init(_ pointer: UnsafeMutablePointer<ibv_cq>, of context: NICContext) {
        unsafe self.pointer = unsafe pointer
        self.context = context
    }

    deinit { _ = unsafe ibv_destroy_cq(pointer) }
}

/// One end of a connection.
@safe
final class QueuePair: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ibv_qp>
    private let domain: ProtectionDomain
    private let completions: CompletionQueue

    init(
        _ pointer: UnsafeMutablePointer<ibv_qp>, of domain: ProtectionDomain,
        completions: CompletionQueue
    ) {
        unsafe self.pointer = unsafe pointer
        self.domain = domain
        self.completions = completions
    }

    deinit { _ = unsafe ibv_destroy_qp(pointer) }
}

/// Where librdmacm's events arrive.
@safe
final class EventChannel: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<rdma_event_channel>

    init(_ pointer: UnsafeMutablePointer<rdma_event_channel>) {
        unsafe self.pointer = unsafe pointer
    }

    deinit { unsafe rdma_destroy_event_channel(pointer) }
}

/// librdmacm's side of a connection, or of a listener.
@safe
final class ConnectionID: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<rdma_cm_id>
    private let channel: EventChannel

    init(_ pointer: UnsafeMutablePointer<rdma_cm_id>, of channel: EventChannel) {
        unsafe self.pointer = unsafe pointer
        self.channel = channel
    }

    deinit { _ = unsafe rdma_destroy_id(pointer) }
}
#endif
