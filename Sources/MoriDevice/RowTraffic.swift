import MoriHostKernels

/// Bytes of rows, with their scales and metadata, that kernels moved.
///
/// What is read once and stored at several places counts once as read, so a number that is the least
/// there is says that nothing was read twice.
package struct RowTraffic: Equatable, Sendable {
    package var bytesRead: Int
    package var bytesWritten: Int

    package init(bytesRead: Int, bytesWritten: Int) {
        self.bytesRead = bytesRead
        self.bytesWritten = bytesWritten
    }

    package static func - (later: Self, earlier: Self) -> Self {
        Self(
            bytesRead: later.bytesRead - earlier.bytesRead,
            bytesWritten: later.bytesWritten - earlier.bytesWritten)
    }
}

extension DeviceStream {
    /// What this stream's kernels have moved so far; nil on GPUs, which do not count.
    package var rowTraffic: RowTraffic? {
        guard device.kind == .host else { return nil }
        var read: UInt64 = 0
        var written: UInt64 = 0
        unsafe moriep_host_stream_traffic(UnsafeRawPointer(handle), &read, &written)
        return RowTraffic(bytesRead: Int(read), bytesWritten: Int(written))
    }
}
