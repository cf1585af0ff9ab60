import Testing

@testable import MoriEP

/// Who takes whose packets: every source has one proxy at each other node, and both sides agree.
@Suite struct ProxyTableTests {
    private static let tables = [
        (4, 2), (5, 2), (13, 4), (12, 8), (16, 1), (9, 8), (32, 8), (3, 3),
    ]
    .map { ProxyTable(worldSize: $0.0, devicesPerNode: $0.1) }

    @Test func sourcesAndProxiesAgree() {
        for table in Self.tables {
            for rank in 0..<table.worldSize {
                let proxies = table.proxies(of: rank)
                let sections = table.sections(of: rank)
                for node in 0..<table.nodeCount {
                    guard node != table.node(of: rank) else {
                        #expect(proxies[node] == -1 && sections[node] == -1)
                        continue
                    }
                    let proxy = Int(proxies[node])
                    #expect(table.ranks(of: node).contains(proxy))
                    #expect(table.sectionSources(of: proxy)[Int(sections[node])] == Int32(rank))
                }
            }
        }
    }

    @Test func everySectionHasOneSource() {
        for table in Self.tables {
            for rank in 0..<table.worldSize {
                let sources = table.sectionSources(of: rank)
                #expect(sources.count == table.sectionCount)
                let known = sources.filter { $0 >= 0 }
                #expect(Set(known).count == known.count)
                #expect(known.allSatisfy { table.node(of: Int($0)) != table.node(of: rank) })
            }
            // Nobody is forgotten: each rank has a proxy at each other node.
            let all = (0..<table.worldSize).flatMap { table.sources(of: $0) }
            #expect(all.count == table.worldSize * (table.nodeCount - 1) || table.nodeCount == 1)
        }
    }

    /// Queue pairs lead to whom a kernel can write, fallbacks included, and to nobody else.
    @Test func peersAreProxiesAndFallbacksOfBothDirections() {
        for table in Self.tables {
            for rank in 0..<table.worldSize {
                for other in 0..<table.worldSize {
                    let uses = [(rank, other), (other, rank)].contains { source, target in
                        let node = table.node(of: target)
                        guard node != table.node(of: source) else { return false }
                        return table.proxy(of: source, at: node) == target
                            || table.fallback(of: source, at: node) == target
                    }
                    #expect(table.peers(of: rank).contains(other) == uses)
                }
            }
        }
    }

    /// Full nodes of eight: two of eight ranks of each other node, not all.
    @Test func fullNodesNeedTwoPeersAtEachOther() {
        let table = ProxyTable(worldSize: 32, devicesPerNode: 8)
        for rank in 0..<32 {
            #expect(table.sources(of: rank).count == 3)
            // Its proxy, its proxy's fallback, and those whose fallback it is.
            #expect(table.peers(of: rank).count == 9)
        }
        #expect(table.sectionCount == 6)
    }
}
