import MoriShmem

/// An RDMA NIC as sysfs describes it, and as libibverbs does where that can be asked.
struct NICReport: Encodable {
    /// An address of a port.
    struct GID: Encodable {
        var index: Int
        var address: String
        /// "IB/RoCE v1" or "RoCE v2".
        var type: String
        /// The network interface that it belongs to.
        var interface: String?
    }

    /// A port.
    struct Port: Encodable {
        var number: Int
        /// "ACTIVE", "DOWN", ...
        var state: String
        var isActive: Bool
        /// "Ethernet" or "InfiniBand".
        var linkLayer: String
        /// "100 Gb/sec (4X EDR)".
        var rate: String?
        var gids: [GID]
    }

    /// How far it is from a device.
    struct Distance: Encodable {
        /// "amd 0000:3b:00.0", or "host" for the processor of the calling thread.
        var device: String
        /// "same", "other" or "unknown".
        var numa: String
        /// Steps over bridges; nil where they are not known.
        var pciHops: Int?
    }

    var name: String
    var pciAddress: String?
    var numaNode: Int?
    var firmware: String?
    var ports: [Port]
    var distances: [Distance]
    /// Why it cannot be used at all.
    var problem: String?

    init(_ name: String, _ files: SystemFiles, to places: [(String, HostLocation)]) {
        let folder = "/sys/class/infiniband/\(name)"
        let location = files.location(ofDevice: folder + "/device")
        self.name = name
        pciAddress = location.pciPath.last
        numaNode = location.numaNode
        firmware = files.text(of: folder + "/fw_ver")
        ports = files.entries(of: folder + "/ports").compactMap { number in
            Int(number).map { Self.port($0, folder + "/ports/\(number)", files) }
        }
        distances = places.map { Self.distance(from: location, to: $1, called: $0) }
    }

    static func all(_ files: SystemFiles, to places: [(String, HostLocation)]) -> [NICReport] {
        files.entries(of: "/sys/class/infiniband").map { NICReport($0, files, to: places) }
    }

    private static func port(_ number: Int, _ folder: String, _ files: SystemFiles) -> Port {
        // "4: ACTIVE"
        let state = files.text(of: folder + "/state").map {
            String($0.split(separator: ":").last ?? "").trimmingBlanks
        }
        let gids = files.entries(of: folder + "/gids").compactMap { name -> GID? in
            guard let index = Int(name), let address = files.text(of: folder + "/gids/\(name)"),
                address.contains(where: { $0 != "0" && $0 != ":" })
            else { return nil }
            return GID(
                index: index, address: address,
                type: files.text(of: folder + "/gid_attrs/types/\(name)") ?? "unknown",
                interface: files.text(of: folder + "/gid_attrs/ndevs/\(name)"))
        }
        return Port(
            number: number, state: state ?? "unknown", isActive: state == "ACTIVE",
            linkLayer: files.text(of: folder + "/link_layer") ?? "unknown",
            rate: files.text(of: folder + "/rate"), gids: gids)
    }

    private static func distance(
        from location: HostLocation, to other: HostLocation, called name: String
    ) -> Distance {
        let distance = location.distance(to: other)
        let numa =
            switch distance.numa {
            case .same: "same"
            case .unknown: "unknown"
            case .other: "other"
            }
        return Distance(
            device: name, numa: numa, pciHops: distance.hops == .max ? nil : distance.hops)
    }

    /// The network interfaces of an Ethernet NIC.
    static func interfaces(of nic: String, _ files: SystemFiles) -> [String] {
        files.entries(of: "/sys/class/infiniband/\(nic)/device/net")
    }
}
