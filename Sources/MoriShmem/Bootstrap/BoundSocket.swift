import Glibc
import MoriDevice
import NIOCore

/// A TCP socket that is bound but does not listen yet, so that its port stays this process's.
final class BoundSocket: Sendable {
    /// The sockets of the unique ids that this process made and that rank 0 has not joined with.
    static let kept = Locked<[UniqueID: BoundSocket]>([:])

    /// The port that the kernel chose.
    let port: Int

    private let descriptor: Locked<CInt?>

    /// Binds a socket.
    ///
    /// - Parameters:
    ///   - address: One of this host's addresses.
    ///   - port: The port, 0 for one that the kernel chooses.
    /// - Throws: `.networkFailure`.
    init(address: IPAddress, port: Int) throws(MoriError) {
        let family = address.bytes.count == 4 ? AF_INET : AF_INET6
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(family, type, 0)
        guard descriptor >= 0 else { throw Self.failure("socket", address) }
        do throws(MoriError) {
            self.port = try Self.bind(descriptor, address, port)
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        self.descriptor = Locked(descriptor)
    }

    deinit {
        if let descriptor = take() { Glibc.close(descriptor) }
    }

    /// Hands the descriptor over to the caller, who closes it; nil when that was done before.
    func take() -> CInt? {
        descriptor.withLock { descriptor in
            defer { descriptor = nil }
            return descriptor
        }
    }

    private static func bind(
        _ descriptor: CInt, _ address: IPAddress, _ port: Int
    ) throws(MoriError) -> Int {
        // With this a process that was handed the id can listen while its maker keeps the port;
        // the kernel gives a port that it chose to nobody else either way.
        var on: CInt = 1
        let size = socklen_t(MemoryLayout<CInt>.size)
        guard unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, size) == 0 else {
            throw failure("setsockopt", address)
        }
        guard let wanted = try? address.socketAddress(port: port),
            unsafe wanted.withSockAddr({ unsafe Glibc.bind(descriptor, $0, socklen_t($1)) }) == 0
        else { throw failure("bind", address) }
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(descriptor, $0, &length)
            }
        }
        guard result == 0 else { throw failure("getsockname", address) }
        // The port has the same place in both families: after the family, in network order.
        return unsafe withUnsafeBytes(of: &storage) {
            unsafe Int($0[2]) << 8 | Int($0[3])
        }
    }

    private static func failure(_ call: String, _ address: IPAddress) -> MoriError {
        MoriError(
            .networkFailure, "no port can be bound at \(address)",
            cause: .errno(call: call, code: errno))
    }
}
