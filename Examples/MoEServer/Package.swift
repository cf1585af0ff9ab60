// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .strictMemorySafety(), .treatAllWarnings(as: .error), .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
    name: "MoEServer",
    dependencies: [
        .package(name: "MoriEP", path: "../.."),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // What a CPU computes; fast in debug builds too.
        .target(name: "CModelMath", cSettings: [.unsafeFlags(["-O3"])]),
        // The model, and its experts on the ranks of a world.
        .target(
            name: "MoEModel",
            dependencies: ["CModelMath", .product(name: "MoriEP", package: "MoriEP")],
            swiftSettings: strict),
        // Ranks at work: continuous batching, and what happens when one is lost.
        .target(
            name: "MoEServing",
            dependencies: [
                "MoEModel",
                .product(name: "MoriEP", package: "MoriEP"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "moe-server",
            dependencies: [
                "MoEModel", "MoEServing",
                .product(name: "MoriEP", package: "MoriEP"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            // Into the program, which then needs no folder beside it.
            resources: [.embedInCode("Web/index.html")],
            swiftSettings: strict),
        .testTarget(
            name: "MoEServerTests",
            dependencies: [
                "MoEModel", "MoEServing", .product(name: "MoriEP", package: "MoriEP"),
                .product(name: "Logging", package: "swift-log"),
            ],
            exclude: ["Fixtures"],
            swiftSettings: strict),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c11
)
