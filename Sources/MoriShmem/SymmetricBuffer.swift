package import MoriDevice

/// Memory of one size that every rank of a world has and every rank of the host can reach.
///
/// The world keeps it until it is freed, collectively, or until the world itself goes: a peer's
/// kernel may still read it when its owner has forgotten it.
package final class SymmetricBuffer: Sendable {
    /// Bytes, the same on every rank.
    package let byteCount: Int
    /// Where it lies for this rank's device, by the rank that owns it; 0 on other hosts.
    package let addresses: [UInt]
    /// The same addresses in device memory, 8 bytes each, for kernels.
    package let addressTable: DeviceBuffer

    private let own: DeviceBuffer
    private let peers: [ImportedBuffer?]

    init(own: DeviceBuffer, peers: [ImportedBuffer?], addressTable: DeviceBuffer) {
        self.own = own
        self.peers = peers
        self.addresses = peers.map { $0?.address ?? 0 }
        self.addressTable = addressTable
        self.byteCount = own.byteCount
    }
}
