#if Checked
import Testing

/// What needs a checked build (`--traits Checked`); one after the other, because what is switched
/// on is so for the whole process.
@Suite(.serialized) enum CheckedTests {
    /// Every seeded mistake is noticed.
    @Suite struct MutantTests {}
    /// Everything that ranks access in symmetric memory is ordered.
    @Suite struct RaceTests {}
    /// Memory, threads and mappings that are not to be had.
    @Suite struct AllocationTests {}
    /// Networks, machines and devices that fail, by the virtual clock.
    @Suite struct FaultTests {}
}
#endif
