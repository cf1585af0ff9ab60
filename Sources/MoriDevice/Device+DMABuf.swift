import CHIP

extension Device {
    /// A piece of device memory as a DMA-BUF, by which a NIC's driver reaches it.
    package struct DMABuf: Sendable {
        /// The file descriptor; whoever asked for it closes it.
        package var descriptor: Int32
        /// Where the memory begins in it, in bytes.
        package var offset: UInt64
    }

    /// Exports device memory as a DMA-BUF.
    ///
    /// - Returns: nil where the device or its driver exports none.
    package func exportDMABuf(address: UInt, byteCount: Int) -> DMABuf? {
        var found = DMABuf(descriptor: -1, offset: 0)
        do throws(MoriError) {
            try library.check(
                unsafe library.table.pointee.memory_export_dmabuf(
                    Int32(ordinal), UInt64(address), UInt64(byteCount), &found.descriptor,
                    &found.offset), "memory_export_dmabuf")
        } catch {
            return nil
        }
        return found
    }
}
