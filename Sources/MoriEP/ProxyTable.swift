/// Who takes a rank's packets at each other node, in the kernels InterNodeV1 and InterNodeV1LL.
///
/// Rank i of a node, counted within it, has rank i modulo the node's size at every other node. When
/// that one is masked, the next active one of its node takes over (protocol rule P6); a node without
/// any has no proxy, and nothing is sent there.
struct ProxyTable: Hashable, Sendable {
    /// Ranks of the world.
    let worldSize: Int
    /// Ranks of a node; the last node may have fewer.
    let devicesPerNode: Int
    /// Ranks that take no part: they send and receive nothing.
    var masked: Set<Int> = []

    var nodeCount: Int { (worldSize + devicesPerNode - 1) / devicesPerNode }

    func node(of rank: Int) -> Int { rank / devicesPerNode }

    func ranks(of node: Int) -> Range<Int> {
        let first = node * devicesPerNode
        return first..<min(first + devicesPerNode, worldSize)
    }

    /// Who takes the packets of `source` at another node; nil where nobody is left.
    func proxy(of source: Int, at node: Int) -> Int? {
        let ranks = ranks(of: node)
        return active(from: ranks.lowerBound + source % devicesPerNode % ranks.count, at: node)
    }

    /// Who takes them when that one is gone; nil where it is alone.
    func fallback(of source: Int, at node: Int) -> Int? {
        guard let proxy = proxy(of: source, at: node) else { return nil }
        let next = active(from: proxy + 1, at: node)
        return next == proxy ? nil : next
    }

    /// The first active rank of a node from a place of it on, around.
    private func active(from first: Int, at node: Int) -> Int? {
        let ranks = ranks(of: node)
        return ranks.indices.lazy
            .map { ranks.lowerBound + (first + $0 - 2 * ranks.lowerBound) % ranks.count }
            .first { !masked.contains($0) }
    }

    /// The sources whose packets land at a rank, one a section, in the order of its sections.
    func sources(of rank: Int) -> [Int] { others(of: rank) { proxy(of: $0, at: $1) == rank } }

    /// Sections that every rank has room for: its sources, and those of one dead neighbour.
    var sectionCount: Int {
        (0..<worldSize).map { sources(of: $0).count + fallbackSources(of: $0).count }.max() ?? 0
    }

    /// The ranks that a rank exchanges writes with, its fallbacks included, ascending.
    func peers(of rank: Int) -> [Int] {
        var peers = Set(sources(of: rank) + fallbackSources(of: rank))
        for other in 0..<nodeCount where other != node(of: rank) {
            if let proxy = proxy(of: rank, at: other) { peers.insert(proxy) }
            if let next = fallback(of: rank, at: other) { peers.insert(next) }
        }
        return peers.sorted()
    }

    private func fallbackSources(of rank: Int) -> [Int] {
        others(of: rank) { fallback(of: $0, at: $1) == rank }
    }

    /// The active ranks of other nodes of which something holds towards a rank's own node.
    private func others(of rank: Int, where holds: (_ source: Int, _ own: Int) -> Bool) -> [Int] {
        let own = node(of: rank)
        return (0..<worldSize).filter {
            node(of: $0) != own && !masked.contains($0) && holds($0, own)
        }
    }

    // The tables as kernels read them (Kernels/Shmem/Proxies.h), of one rank.

    /// i32 [nodes]: who takes its packets; -1 for its own node and where nobody is left.
    func proxies(of rank: Int) -> [Int32] {
        (0..<nodeCount).map { other in
            guard other != node(of: rank), let proxy = proxy(of: rank, at: other) else { return -1 }
            return Int32(proxy)
        }
    }

    /// i32 [nodes]: in which of that rank's sections they land; -1 where there is none.
    func sections(of rank: Int) -> [Int32] {
        (0..<nodeCount).map { other in
            guard other != node(of: rank), let proxy = proxy(of: rank, at: other),
                let section = sources(of: proxy).firstIndex(of: rank)
            else { return -1 }
            return Int32(section)
        }
    }

    /// i32 [sectionCount]: who sends to each of its sections; -1: nobody.
    func sectionSources(of rank: Int) -> [Int32] {
        let sources = sources(of: rank).map(Int32.init)
        return sources + Array(repeating: -1, count: sectionCount - sources.count)
    }
}
