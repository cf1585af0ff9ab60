import Glibc
import MoriDevice
import MoriTestSupport
import Testing

@Suite struct DeviceTests {
    @Test func theHostDeviceIsAlwaysThere() throws {
        let device = try Device(.host)
        #expect(device.description == "host:0")
        #expect(try device == Device(.host, ordinal: 0))
        let properties = try device.properties()
        #expect(!properties.name.isEmpty)
        #expect(["x86_64", "aarch64"].contains(properties.architecture))
        #expect(properties.lanesPerWarp == 1)
        #expect(properties.computeUnits >= 1)
        #expect(properties.maxWarpsPerBlock == 32)
        #expect(properties.maxResidentWarps >= properties.maxWarpsPerBlock)
        #expect(properties.memoryIsHostMemory)
        #expect(properties.memoryByteCount > 1 << 28)
    }

    @Test(arguments: [1, -1, Int.max])
    func thereIsOneHostDevice(ordinal: Int) throws {
        let error = try #require(throws: MoriError.self) {
            _ = try Device(.host, ordinal: ordinal)
        }
        #expect(error.code == .noDevice)
        #expect(error.message.contains("no host device \(ordinal); this machine has 1"))
    }

    /// Ranks share devices round-robin when there are fewer.
    @Test(.timeLimit(.minutes(1)), arguments: ["host", "auto", ""])
    func theEnvironmentChoosesTheDevice(wish: String) async {
        await #expect(processExitsWith: .success) { [wish] in
            set("MORI_EP_DEVICE", wish)
            for localRank in 0..<3 {
                let device = try Device.selected(localRank: localRank)
                guard wish != "host" || device.description == "host:0" else {
                    throw Mismatch("\(wish) gave \(device)")
                }
            }
        }
    }

    @Test(.timeLimit(.minutes(1)), arguments: ["Host", "gpu", "host:0", "cuda", " "])
    func aWishThatMeansNothingIsNamedWithWhatIsLegal(wish: String) async {
        await #expect(processExitsWith: .success) { [wish] in
            set("MORI_EP_DEVICE", wish)
            let error = try #require(throws: MoriError.self) { _ = try Device.selected() }
            #expect(error.code == .invalidConfiguration)
            #expect(error.message.contains("MORI_EP_DEVICE is \"\(wish)\""), "\(error)")
            #expect(error.message.contains("auto, host, amd, nvidia and emulated"), "\(error)")
        }
    }

    /// A library that cannot be loaded is named, with the loader's own words, and every other place.
    @Test(.timeLimit(.minutes(1)), arguments: ["amd", "nvidia"])
    func askingForAGPUThatIsNotThereNamesWhatWasTried(kind: String) async {
        await #expect(processExitsWith: .success) { [kind] in
            set("MORI_EP_LIBRARY", "/proc/self/no-such-folder")
            try checkMissing(#require(Device.Kind(rawValue: kind)))
        }
    }

    /// A file that is there and is no library is reported in the loader's words, too.
    @Test func aFileThatIsNoLibraryIsReported() throws {
        // Only this file is tried, whichever libraries this machine has. It is text.
        let path = "/proc/self/status"
        let error = try #require(throws: MoriError.self) {
            _ = try KernelLibrary.open(.nvidia, at: [path])
        }
        #expect(error.code == .noDevice)
        // The loader says the path first; it is not said twice.
        #expect(error.message.contains("tried \(path) (invalid ELF header)"), "\(error)")
    }
}

private func set(_ variable: String, _ value: String) { unsafe setenv(variable, value, 1) }

/// The library is not where MORI_EP_LIBRARY says, and most likely nowhere.
private func checkMissing(_ kind: Device.Kind) throws {
    let library: KernelLibrary
    do {
        library = try KernelLibrary.load(kind)
    } catch {
        if error.code == .unsupported {
            // Somebody built it before its interface changed.
            #expect(error.message.contains("from one checkout"), "\(error)")
            return
        }
        let name = "libmoriep_\(kind).so"
        #expect(error.code == .noDevice)
        for words in [
            "/proc/self/no-such-folder/\(name) (", "No such file", ".build/kernels/\(name)",
            "make kernels", "MORI_EP_LIBRARY",
        ] {
            #expect(error.message.contains(words), "\(error)")
        }
        return
    }
    // Somebody built it. Then either the device answers, or its runtime says why it does not.
    do {
        _ = try Device(kind)
    } catch {
        #expect(error.code == .noDevice, "\(error)")
        #expect(
            error.message.contains(library.path) || error.message.contains("this machine has 0"))
    }
}

@Suite struct KernelLibraryTests {
    @Test func candidatesAreTriedInTheDocumentedOrder() {
        let all = KernelLibrary.candidates(
            .amd, environment: ["MORI_EP_LIBRARY": "/opt/mori"],
            executable: "/srv/package/.build/x86_64-unknown-linux-gnu/debug/tool")
        #expect(
            all == [
                "/opt/mori/libmoriep_amd.so",
                "/srv/package/.build/x86_64-unknown-linux-gnu/debug/libmoriep_amd.so",
                "/srv/package/.build/kernels/libmoriep_amd.so",
                ".build/kernels/libmoriep_amd.so", "libmoriep_amd.so",
            ])
    }

    @Test func theVariableMayNameTheFileItself() {
        let all = KernelLibrary.candidates(
            .nvidia, environment: ["MORI_EP_LIBRARY": "/opt/special.so"], executable: nil)
        #expect(
            all == [
                "/opt/special.so", ".build/kernels/libmoriep_nvidia.so", "libmoriep_nvidia.so",
            ])
    }

    @Test func anEmptyVariableCountsAsNotSet() {
        let all = KernelLibrary.candidates(
            .amd, environment: ["MORI_EP_LIBRARY": ""], executable: "/usr/bin/tool")
        #expect(
            all == [
                "/usr/bin/libmoriep_amd.so", "/usr/lib/libmoriep_amd.so",
                ".build/kernels/libmoriep_amd.so", "libmoriep_amd.so",
            ])
    }

    @Test func theHostsLibraryIsLinkedIn() throws {
        let library = try KernelLibrary.load(.host)
        #expect(library.kind == .host && library.path == "linked in")
        #expect(try KernelLibrary.load(.host) === library)
    }
}
