// Feeds one parser with bytes that libFuzzer makes up; its main function calls these two.
//
//   MORI_EP_FUZZ_TARGET=... mori-ep-fuzz [libFuzzer's arguments]   look for an input that breaks a promise
//   MORI_EP_FUZZ_SEEDS=FOLDER mori-ep-fuzz                         write the inputs that a search begins with

import FoundationEssentials
import Glibc

/// Called once: chooses the target, or writes the seeds.
@_cdecl("LLVMFuzzerInitialize")
public func initialize(
    _ count: UnsafeMutablePointer<CInt>?,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>?
) -> CInt {
    let environment = ProcessInfo.processInfo.environment
    if let folder = environment["MORI_EP_FUZZ_SEEDS"] {
        do {
            try writeSeeds(to: folder)
            exit(0)
        } catch {
            print("\(error)")
            exit(1)
        }
    }
    let name = environment["MORI_EP_FUZZ_TARGET"] ?? ""
    guard let target = FuzzTarget(rawValue: name) else {
        print("MORI_EP_FUZZ_TARGET is \"\(name)\"; legal is one of")
        for target in FuzzTarget.allCases { print(target.rawValue) }
        exit(2)
    }
    unsafe FuzzTarget.current = target
    return 0
}

/// Called for each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> CInt {
    let bytes = unsafe UnsafeBufferPointer(start: data, count: size)
    unsafe FuzzTarget.current.check(Array(bytes))
    return 0
}
