/// Who takes a rank's packets at each other node, in the kernels InterNodeV1 and InterNodeV1LL.
///
/// Rank i of a node, counted within it, has rank i modulo the node's size at every other node. When
/// that one dies, the next of its node takes over: queue pairs and landing memory exist for that from
/// the start (protocol rule P6).
struct ProxyTable: Hashable, Sendable {
    /// Ranks of the world.
    let worldSize: Int
    /// Ranks of a node; the last node may have fewer.
    let devicesPerNode: Int

    var nodeCount: Int { (worldSize + devicesPerNode - 1) / devicesPerNode }

    func node(of rank: Int) -> Int { rank / devicesPerNode }

    func ranks(of node: Int) -> Range<Int> {
        let first = node * devicesPerNode
        return first..<min(first + devicesPerNode, worldSize)
    }

    /// Who takes the packets of `source` at another node.
    func proxy(of source: Int, at node: Int) -> Int {
        let ranks = ranks(of: node)
        return ranks.lowerBound + source % devicesPerNode % ranks.count
    }

    /// Who takes them when that one is gone; nil where it is alone.
    func fallback(of source: Int, at node: Int) -> Int? {
        let ranks = ranks(of: node)
        guard ranks.count > 1 else { return nil }
        let next = proxy(of: source, at: node) + 1
        return ranks.contains(next) ? next : ranks.lowerBound
    }

    /// The sources whose packets land at a rank, one a section, in the order of its sections.
    func sources(of rank: Int) -> [Int] {
        let own = node(of: rank)
        return (0..<worldSize).filter { node(of: $0) != own && proxy(of: $0, at: own) == rank }
    }

    /// Sections that every rank has room for: its sources, and those of one dead neighbour.
    var sectionCount: Int {
        (0..<worldSize).map { sources(of: $0).count + fallbackSources(of: $0).count }.max() ?? 0
    }

    /// The ranks that a rank exchanges writes with, its fallbacks included, ascending.
    func peers(of rank: Int) -> [Int] {
        var peers = Set(sources(of: rank) + fallbackSources(of: rank))
        for other in 0..<nodeCount where other != node(of: rank) {
            peers.insert(proxy(of: rank, at: other))
            if let next = fallback(of: rank, at: other) { peers.insert(next) }
        }
        return peers.sorted()
    }

    private func fallbackSources(of rank: Int) -> [Int] {
        let own = node(of: rank)
        return (0..<worldSize).filter { node(of: $0) != own && fallback(of: $0, at: own) == rank }
    }

    // The tables as kernels read them (Kernels/Shmem/Proxies.h), of one rank.

    /// i32 [nodes]: who takes its packets; -1 for its own node.
    func proxies(of rank: Int) -> [Int32] {
        (0..<nodeCount).map { $0 == node(of: rank) ? -1 : Int32(proxy(of: rank, at: $0)) }
    }

    /// i32 [nodes]: in which of that rank's sections they land; -1 for its own node.
    func sections(of rank: Int) -> [Int32] {
        (0..<nodeCount).map { other in
            guard other != node(of: rank) else { return -1 }
            let section = sources(of: proxy(of: rank, at: other)).firstIndex(of: rank)
            return section.map(Int32.init) ?? -1
        }
    }

    /// i32 [sectionCount]: who sends to each of its sections; -1: nobody.
    func sectionSources(of rank: Int) -> [Int32] {
        let sources = sources(of: rank).map(Int32.init)
        return sources + Array(repeating: -1, count: sectionCount - sources.count)
    }
}
