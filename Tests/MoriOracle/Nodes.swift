/// How ranks are spread over nodes: `devicesPerNode` to each in ascending order, what is left to the
/// last one.
public struct Nodes: Hashable, Sendable {
    /// Ranks of all nodes.
    public let worldSize: Int
    /// Ranks of every node but the last, which may have fewer.
    public let devicesPerNode: Int

    /// Spreads ranks over nodes.
    public init(worldSize: Int, devicesPerNode: Int) {
        self.worldSize = worldSize
        self.devicesPerNode = devicesPerNode
    }

    /// How many there are.
    public var count: Int { (worldSize + devicesPerNode - 1) / devicesPerNode }

    /// The node that a rank is on.
    public func node(of rank: Int) -> Int { rank / devicesPerNode }

    /// The ranks of a node, ascending.
    public func ranks(of node: Int) -> Range<Int> {
        node * devicesPerNode..<min((node + 1) * devicesPerNode, worldSize)
    }
}
