import Testing

@testable import MoriShmem

/// Who failed, by the ranks' own words.
struct InquestTests {
    private func culprits(
        _ waits: [Int: Set<Int>], rank: Int = 0, hasSpoken: Bool = true, leader: Int = 0,
        ranks: Int = 5
    ) -> [Int] {
        Inquest.culprits(
            of: waits, rank: rank, hasSpoken: hasSpoken, leader: leader, members: Set(0..<ranks))
    }

    @Test func whoIsWaitedForAndSaysNothingIsTheCulprit() {
        #expect(culprits([0: [3], 1: [3], 2: [3]]) == [3])
        #expect(culprits([0: [3, 4], 1: [3], 2: [4]]) == [3, 4])
    }

    @Test func whoWaitedForTheCulpritIsABystander() {
        // 0 waits for its forwarder 1, which waits for 2, which waits for 3.
        #expect(culprits([0: [1], 1: [2], 2: [3]]) == [3])
        #expect(culprits([0: [1], 1: [2], 2: [3], 4: []]) == [3])
    }

    @Test func whoSaysThatItWaitsForNobodyIsLate() {
        #expect(culprits([0: [1], 1: [2], 2: []]) == [2])
    }

    @Test func aRankLearnsThatItIsTheCulpritItself() {
        #expect(culprits([0: [2], 1: [2]], rank: 2, hasSpoken: false) == [2])
    }

    @Test func whoDoesNotHearItsOwnWordsBlamesTheStore() {
        #expect(culprits([:], rank: 3) == [0])
        #expect(culprits([:], rank: 3, leader: 1) == [1])
        #expect(culprits([1: [4]], rank: 3, hasSpoken: false) == [4])
    }

    @Test func ranksThatWaitForOneAnotherNameTheirPeer() {
        #expect(culprits([0: [1], 1: [0]]) == [1])
        #expect(culprits([0: [1], 1: [0]], rank: 1) == [0])
    }

    @Test func whoIsNoMemberIsNoCulprit() {
        #expect(culprits([0: [1, 7], 2: [1]], ranks: 3) == [1])
    }
}
