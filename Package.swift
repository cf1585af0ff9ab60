// swift-tools-version: 6.2
import PackageDescription

// Targets from bottom to top; arrows point down only (docs/architecture.md).
let package = Package(
    name: "MoriEP",
    products: [
        .library(name: "MoriEP", targets: ["MoriEP", "MoriShmem", "MoriDevice"]),
        .executable(name: "bench-dispatch-combine", targets: ["bench-dispatch-combine"]),
        .executable(name: "mori-ep", targets: ["mori-ep"]),
    ],
    traits: [
        .trait(
            name: "Checked",
            description: """
                For this package's own tests: seeded mistakes, a race checker and a virtual clock in \
                the host device.
                """),
        .trait(
            name: "RDMA",
            description: "Looks for RDMA NICs through libibverbs, librdmacm and libnuma."),
        .default(enabledTraits: ["RDMA"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
    ],
    targets: [
        // The C ABI between Swift and the kernels, and the host device behind it.
        .systemLibrary(name: "CHIP"),
        .target(
            name: "MoriHostKernels",
            path: "Kernels",
            sources: ["Runtime/Host"],
            publicHeadersPath: "Runtime/include",
            cxxSettings: [
                .headerSearchPath("."), .headerSearchPath("../Sources/CHIP"),
                .define("MORI_EP_CHECKED", .when(traits: ["Checked"])),
            ]),
        .target(
            name: "CMoriSystem",
            cSettings: [.define("MORI_EP_CHECKED", .when(traits: ["Checked"]))]),

        // The message authentication of the bootstrap's handshake.
        .systemLibrary(
            name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),

        // The header by which frameworks give each other tensors; nothing is linked.
        .systemLibrary(name: "CDLPack", providers: [.apt(["libdlpack-dev"])]),

        // What Debian's rdma-core and libnuma give, behind the trait RDMA.
        .systemLibrary(
            name: "CIBVerbs", pkgConfig: "libibverbs", providers: [.apt(["libibverbs-dev"])]),
        .systemLibrary(
            name: "CRDMACM", pkgConfig: "librdmacm", providers: [.apt(["librdmacm-dev"])]),
        .systemLibrary(name: "CNUMA", pkgConfig: "numa", providers: [.apt(["libnuma-dev"])]),

        // The library.
        .target(
            name: "MoriDevice",
            dependencies: ["CDLPack", "CHIP", "MoriHostKernels", "CMoriSystem"],
            swiftSettings: .strict),
        .target(
            name: "MoriShmem",
            dependencies: [
                "MoriDevice", "CMoriSystem", "CSodium",
                .target(name: "MoriHostKernels", condition: .when(traits: ["Checked"])),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .target(name: "CIBVerbs", condition: .when(traits: ["RDMA"])),
                .target(name: "CRDMACM", condition: .when(traits: ["RDMA"])),
                .target(name: "CNUMA", condition: .when(traits: ["RDMA"])),
            ],
            swiftSettings: .strict),
        .target(
            name: "MoriEP",
            dependencies: [
                "CHIP", "MoriDevice", "MoriShmem",
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            // Into the code and not into a bundle, which would have to lie beside each program.
            resources: [.embedInCode("Tuning/PublishedTuning.json")],
            swiftSettings: .strict),

        // The tools.
        .target(
            name: "MoriLauncher",
            dependencies: ["CMoriSystem", "MoriDevice"],
            swiftSettings: .strict),
        .target(
            name: "MoriOptions",
            dependencies: [
                "MoriDevice", "MoriEP",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: .strict),
        .target(
            name: "MoriTraceReport",
            dependencies: ["MoriDevice", "MoriEP", "MoriShmem"],
            resources: [.embedInCode("TraceReport.html")],
            swiftSettings: .strict),
        .executableTarget(
            name: "mori-ep",
            dependencies: [
                "MoriEP", "MoriLauncher", "MoriOptions", "MoriShmem", "MoriTraceReport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: .strict),
        .target(name: "CRoofline", path: "Benchmarks/Roofline"),
        .executableTarget(
            name: "bench-instructions", dependencies: ["MoriEP", "MoriLauncher"],
            path: "Benchmarks/Instructions", exclude: ["thresholds.json"], swiftSettings: .strict),
        .executableTarget(
            name: "bench-dispatch-combine",
            dependencies: [
                "CRoofline", "MoriDevice", "MoriEP", "MoriLauncher", "MoriOptions", "MoriOracle",
                "MoriShmem",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
            ],
            path: "Benchmarks/DispatchCombine",
            swiftSettings: .strict),

        .executableTarget(
            name: "bench-ring",
            dependencies: ["CMoriSystem", "MoriDevice", "MoriShmem"],
            path: "Benchmarks/Ring",
            swiftSettings: .strict),

        // The tests: one target a module, and the oracle, which shares no code with the kernels
        // and depends on nothing.
        .target(name: "MoriOracle", path: "Tests/MoriOracle", swiftSettings: .strict),
        .target(
            name: "MoriTestSupport",
            dependencies: ["CHIP", "CStandin", "MoriDevice", "MoriEP", "MoriOracle"],
            path: "Tests/MoriTestSupport",
            swiftSettings: .strict),
        // What runs inside the virtual machines of `make test-rdma`.
        .executableTarget(
            name: "mori-lab",
            dependencies: [
                "CMoriSystem", "MoriDevice", "MoriEP", "MoriOracle", "MoriShmem", "MoriTestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Tests/Lab/Program",
            swiftSettings: .strict),
        // The primitives of the kernel language, alone: the host device's.
        .target(
            name: "CPrimitives",
            dependencies: ["MoriHostKernels"],
            path: "Tests/Primitives",
            exclude: ["GPU"],
            cxxSettings: [
                .headerSearchPath("."), .headerSearchPath("../../Kernels"),
                .headerSearchPath("../../Sources/CHIP"),
                // One program has one kind of kernels: inline functions are shared.
                .define("MORI_EP_CHECKED", .when(traits: ["Checked"])),
            ]),
        .testTarget(
            name: "MoriDeviceTests",
            dependencies: [
                "CDLPack", "CHIP", "CPrimitives", "MoriDevice", "MoriHostKernels", "MoriOracle",
                "MoriTestSupport",
            ],
            swiftSettings: .strict),
        .target(name: "CAllocationCount", path: "Tests/CAllocationCount"),
        .testTarget(
            name: "MoriShmemTests",
            dependencies: [
                "CAllocationCount", "CMoriSystem", "MoriDevice",
                "MoriShmem", "MoriTestSupport",
                .product(name: "InMemoryLogging", package: "swift-log"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: .strict),
        .testTarget(
            name: "MoriEPTests",
            dependencies: [
                "CAllocationCount", "CHIP", "MoriDevice", "MoriEP", "MoriLauncher", "MoriOracle",
                "MoriTestSupport", "MoriTraceReport", "bench-dispatch-combine", "mori-ep",
                "mori-lab",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "MetricsTestKit", package: "swift-metrics"),
                .product(name: "InMemoryLogging", package: "swift-log"),
                .product(name: "Logging", package: "swift-log"),
            ],
            // Compiled by a test, which expects their errors.
            exclude: ["PythonNames"],
            swiftSettings: .strict),
        // Empty without the trait Checked: make test-mutants, test-races, test-faults.
        .testTarget(
            name: "MoriCheckedTests",
            dependencies: [
                "CHIP", "MoriDevice", "MoriEP", "MoriHostKernels", "MoriOracle", "MoriShmem",
                "MoriTestSupport",
            ],
            swiftSettings: .strict),
        // The AMD kernels' machine code and the runtime around it, without a GPU: `make test-emulated`.
        .systemLibrary(name: "CStandin", path: "Tests/Emulator/HIP/include"),
        .testTarget(
            name: "MoriEmulatedTests",
            dependencies: [
                "CHIP", "CPrimitives", "MoriDevice", "MoriEP", "MoriOracle", "MoriShmem",
                "MoriTestSupport",
            ],
            swiftSettings: .strict),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c11,
    cxxLanguageStandard: .cxx20
)

// The build folders of `make test-tsan`, `test-asan` and of what needs the trait Checked: these test targets.
if let tests = Context.environment["MORI_EP_TESTS"]?.split(separator: " ") {
    package.targets.removeAll { $0.type == .test && !tests.contains($0.name[...]) }
}

// `make fuzz`: its main function is libFuzzer's, which only a build with that sanitizer links.
if Context.environment["MORI_EP_FUZZ"] != nil {
    package.targets += [
        .executableTarget(
            name: "mori-ep-fuzz",
            dependencies: [
                "MoriDevice", "MoriEP", "MoriShmem", "MoriTraceReport",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
            ],
            path: "Tests/Fuzz/Program",
            swiftSettings: .strict)
    ]
}

extension [SwiftSetting] {
    /// Swift 6 mode with strict memory safety and the upcoming features that change meaning.
    static var strict: [SwiftSetting] {
        [
            .strictMemorySafety(),
            .treatAllWarnings(as: .error),
            .enableUpcomingFeature("ExistentialAny"),
            .enableUpcomingFeature("InternalImportsByDefault"),
            .enableUpcomingFeature("MemberImportVisibility"),
        ]
    }
}
