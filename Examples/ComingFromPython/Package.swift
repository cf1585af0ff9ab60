// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "ComingFromPython",
    dependencies: [.package(name: "MoriEP", path: "../..")],
    targets: [
        .executableTarget(
            name: "ComingFromPython",
            dependencies: [.product(name: "MoriEP", package: "MoriEP")],
            swiftSettings: [.strictMemorySafety(), .treatAllWarnings(as: .error)])
    ],
    swiftLanguageModes: [.v6]
)
