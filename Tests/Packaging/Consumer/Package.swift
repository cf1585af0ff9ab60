// swift-tools-version: 6.2
import PackageDescription

// A user's package: it knows the repository by address and version. `make test-package` tags a copy of
// this checkout and says where it is; CONSUMER_TRAITS is "none" for a build without RDMA's libraries.
let repository = Context.environment["CONSUMER_REPOSITORY"] ?? "https://example.org/MoriEP"
let dependency: Package.Dependency =
    Context.environment["CONSUMER_TRAITS"] == "none"
    ? .package(url: repository, from: "0.1.0", traits: [])
    : .package(url: repository, from: "0.1.0")

let package = Package(
    name: "Consumer",
    dependencies: [dependency],
    targets: [
        .executableTarget(
            name: "Consumer",
            dependencies: [.product(name: "MoriEP", package: "MoriEP")])
    ]
)
