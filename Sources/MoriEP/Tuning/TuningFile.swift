import FoundationEssentials
package import MoriDevice

/// Tuning rules for devices, kernels and numbers of ranks, as a file holds them.
///
/// docs/tuning.md describes the file.
package struct TuningFile: Sendable {
    /// Dispatch or combine.
    enum Phase: String, Hashable, Sendable, CaseIterable {
        case dispatch
        case combine
    }

    /// The rules of one device, kernel type, number of ranks and phase.
    struct Table: Hashable, Sendable {
        /// The device, by words of its name: "MI300X".
        var device: String
        /// Its architecture: "gfx942".
        var architecture: String
        var kernelType: KernelType
        var worldSize: Int
        var phase: Phase
        var rules: [TuningRule]

        /// Whether the device is the one that a runtime calls so.
        func isFor(name: String) -> Bool {
            let words = Self.words(name)
            return Self.words(device).allSatisfy(words.contains)
        }

        /// Whether the architecture is the one that a runtime calls so.
        ///
        /// What follows a colon are features: "gfx942:sramecc+:xnack-".
        func isFor(architecture found: String) -> Bool {
            found.prefix { $0 != ":" }.lowercased() == architecture.lowercased()
        }

        private static func words(_ name: String) -> [String] {
            name.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init)
        }
    }

    /// What the file is called.
    let name: String
    /// Who measured it.
    let origin: String
    let tables: [Table]

    /// The rules that come with the library.
    static let published = Result { () throws(MoriError) -> TuningFile in
        try TuningFile(PackageResources.PublishedTuning_json, name: "the published rules")
    }

    /// Reads a file.
    ///
    /// - Throws: `invalidConfiguration` when it cannot be read, or with the line and the key of what
    ///   is wrong, what was found and what is legal.
    package init(contentsOf path: String) throws(MoriError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            throw MoriError(
                .invalidConfiguration,
                "MORI_EP_TUNING_CONFIG names \(path), which cannot be read; legal is a JSON file of"
                    + " tuning rules, or published, or none", cause: .other("\(error)"))
        }
        try self.init(Array(data), name: path)
    }

    /// Reads a file's text.
    init(_ bytes: [UInt8], name: String) throws(MoriError) {
        self.name = name
        (origin, tables) = try TuningReader.file(LocatedJSON.parse(bytes, name: name), name: name)
    }

    /// The rules of a kernel type, first those of the device, then those of others of its
    /// architecture.
    func rules(
        for device: Device.Properties, kernelType: KernelType, worldSize: Int, phase: Phase
    ) -> (own: [TuningRule], others: [TuningRule]) {
        let fitting = tables.filter {
            $0.kernelType == kernelType && $0.worldSize == worldSize && $0.phase == phase
                && $0.isFor(architecture: device.architecture)
        }
        let own = fitting.filter { $0.isFor(name: device.name) }
        let others = fitting.filter { !$0.isFor(name: device.name) }
        return (own.flatMap(\.rules), others.flatMap(\.rules))
    }

    /// Refuses a file that says nothing about a device or its architecture.
    ///
    /// - Throws: `invalidConfiguration` with the device and those that the file is for.
    package func check(for device: Device.Properties) throws(MoriError) {
        guard !tables.contains(where: { $0.isFor(architecture: device.architecture) }) else {
            return
        }
        var known: [String] = []
        for table in tables {
            let text = "\(table.device) (\(table.architecture))"
            if !known.contains(text) { known.append(text) }
        }
        throw MoriError(
            .invalidConfiguration,
            "MORI_EP_TUNING_CONFIG names \(name), which is for \(known.joined(separator: ", ")); this"
                + " device is \(device.name) (\(device.architecture)): name a file with a table of its"
                + " architecture, or published, or none")
    }
}
