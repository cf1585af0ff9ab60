import MoriTestSupport
import Testing

/// What the stand-in of HIP and the emulator run; one test after the other, because both are one for
/// the process.
@Suite(.serialized, .enabled(if: Emulator.isWanted, "MORI_EP_DEVICE is not emulated"))
struct EmulatedTests {}
