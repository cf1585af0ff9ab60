import ArgumentParser
import MoriDevice
import MoriLauncher

/// `mori-ep info`: the devices and NICs that the library finds here.
struct InfoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "info",
        abstract: "Shows the devices and the RDMA NICs of this machine, or why there are none.")

    func run() {
        for kind in Device.Kind.allCases {
            Console.print("\(kind) devices\n")
            for line in Self.devices(of: kind) { Console.print("  \(line)\n") }
        }
        Console.print("default device\n")
        do throws(MoriError) {
            Console.print("  \(try Device.selected()), from MORI_EP_DEVICE or what answers\n")
        } catch {
            Console.print("  \(error)\n")
        }
        Console.print("RDMA NICs\n")
        for line in RDMANICs.lines() { Console.print("  \(line)\n") }
    }

    /// A line for each device, or the reason why there is none.
    private static func devices(of kind: Device.Kind) -> [String] {
        var lines: [String] = []
        do throws(MoriError) {
            while true {
                let device = try Device(kind, ordinal: lines.count)
                let found = try device.properties()
                lines.append(
                    "\(device): \(found.name), \(found.architecture), \(found.computeUnits)"
                        + " compute units of \(found.lanesPerWarp) lanes, \(found.memoryByteCount >> 30)"
                        + " GiB, library \(device.library.path)")
            }
        } catch {
            // Past the last device; with none, the words say why.
            return lines.isEmpty ? ["none: \(error)"] : lines
        }
    }
}
