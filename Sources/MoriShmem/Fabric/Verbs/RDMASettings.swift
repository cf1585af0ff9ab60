/// What the environment says about RDMA.
package struct RDMASettings: Hashable, Sendable {
    /// MORI_RDMA_DEVICES: the NICs that may be used.
    package var devices = RDMADeviceList.all
    /// MORI_IB_GID_INDEX: the entry of the ports' GID tables; nil for the best.
    package var gidIndex: Int?
    /// MORI_RDMA_SL: the service level, 0 to 15.
    package var serviceLevel = 0
    /// MORI_RDMA_TC: the traffic class, 0 to 255.
    package var trafficClass = 0
    /// MORI_RDMA_CM: whether librdmacm makes the connections where the NICs have IP addresses.
    package var usesConnectionManager = false
    /// MORI_DISABLE_TOPO: whether a NIC's distance from the device does not matter.
    package var ignoresTopology = false
    /// MORI_IB_PATH_MTU: bytes of a packet, at most; nil for the smaller of both ports'.
    package var pathMTU: Int?
    /// Whether words travel inside their requests where the NIC can do that.
    ///
    /// Only the lab says no, to test what other NICs get.
    package var usesInlineWords = true

    /// What holds where nothing is set.
    package init() {}
}
