import Foundation
import Testing

@testable import MoriShmem

struct SystemFilesTests {
    @Test func aNICsPlaceIsReadFromSysfs() throws {
        let root = FileManager.default.temporaryDirectory.appendingPathComponent(
            "mori-sysfs-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: root) }
        let device = root.appendingPathComponent(
            "sys/devices/pci0000:20/0000:20:01.1/0000:21:00.0")
        let list = root.appendingPathComponent("sys/class/infiniband/mlx5_0")
        for folder in [device, list] {
            try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        }
        try FileManager.default.createSymbolicLink(
            at: list.appendingPathComponent("device"), withDestinationURL: device)
        let files = SystemFiles(root: root.path)
        let folder = "/sys/class/infiniband/mlx5_0/device"
        let path = ["pci0000:20", "0000:20:01.1", "0000:21:00.0"]
        #expect(files.location(ofDevice: folder) == HostLocation(pciPath: path))
        for (text, node) in [("1\n", 1), ("0\n", 0), ("-1\n", nil)] as [(String, Int?)] {
            try Data(text.utf8).write(to: device.appendingPathComponent("numa_node"))
            #expect(files.location(ofDevice: folder) == HostLocation(numaNode: node, pciPath: path))
        }
        #expect(files.location(ofDevice: "/sys/class/infiniband/rxe0/device") == HostLocation())
    }

    @Test func aHostHasANameAndAnIdentity() {
        #expect(!SystemFiles().hostName.isEmpty)
        #expect(SystemFiles().hostIdentity.count > 36)
        #expect(SystemFiles().hostIdentity == SystemFiles().hostIdentity)
    }
}
