import Testing
@testable import mori_ep

/// What doctor's rounds hold what they got against.
@Suite struct SelfTestTests {
    @Test func sumsAreRightOnlyWhereAllAreThereAndFiveTimesTheTokens() {
        let tokens: [Float] = [1, 2, 3]
        #expect(SelfTestRank.mistake(in: [5, 10, 15], of: tokens) == nil)
        #expect(
            SelfTestRank.mistake(in: [5, 11, 15], of: tokens)
                == "element 1 of the sums is 11.0, not 10.0")
        // Sums that are missing are no sums.
        #expect(
            SelfTestRank.mistake(in: [5, 10], of: tokens) == "there are 2 elements of sums, not 3")
        #expect(SelfTestRank.mistake(in: [], of: tokens) != nil)
        #expect(SelfTestRank.mistake(in: [5, 10, 15, 20], of: tokens) != nil)
        #expect(SelfTestRank.mistake(in: [5, 10, .nan], of: tokens) != nil)
    }
}
