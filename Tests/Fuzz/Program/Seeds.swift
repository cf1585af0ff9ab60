import FoundationEssentials
import MoriDevice
@testable import MoriEP
@testable import MoriShmem
import NIOCore

/// Writes what the search begins with: an input of every kind that each target knows.
func writeSeeds(to folder: String) throws {
    for (target, seeds) in try allSeeds() {
        let path = URL(filePath: folder).appending(path: target.rawValue)
        try FileManager.default.createDirectory(at: path, withIntermediateDirectories: true)
        for (number, seed) in seeds.enumerated() {
            try Data(seed).write(to: path.appending(path: "seed-\(number)"))
        }
    }
}

private func allSeeds() throws -> [FuzzTarget: [[UInt8]]] {
    let id = GatherID(name: "plan", call: 3)
    let ranks: [RankMessage] = [
        .gather(id, value: [1, 2, 3]), .query(id), .abort(culprit: 1, message: "why"), .goodbye,
    ]
    let stores: [StoreMessage] = [
        .gathered(id, values: [[1], [2, 3]]), .incomplete(id, missing: [1]),
        .departed(id, ranks: [0]), .peerLost(rank: 1),
        .aborted(by: 0, culprit: nil, message: "why"),
        .failed(MoriError(.timedOut, "late", ranks: [1])), .farewell,
    ]
    let key = WorldKey(secret: [1], tag: Array(repeating: 7, count: WorldKey.tagSize))
    let greeting = Greeting(.challenge, tag: key.tag)
    let hello = Hello(Credentials(rank: 1, worldSize: 2, processID: 3), to: greeting, key: key)
    var endpoints = VerbsEndpoints()
    endpoints.peers = [1, 2]
    endpoints.ports = [VerbsEndpoints.Port(gid: Array(0..<16), localIdentifier: 1, mtu: 4096)]
    endpoints.queues = [VerbsEndpoints.Queue(number: 17, firstPacket: 5)]

    func bytes(_ kind: UInt8, _ buffer: ByteBuffer) -> [UInt8] {
        [kind] + Array(buffer.readableBytesView)
    }
    let messages =
        ranks.map { bytes(0, $0.encoded()) } + stores.map { bytes(1, $0.encoded()) }
        + [
            bytes(2, hello.encoded()), bytes(3, greeting.encoded()),
            bytes(4, Verdict.welcome.encoded(to: hello, after: greeting, key: key)),
            [5] + endpoints.bytes,
        ]
    let frames = ranks.flatMap { message -> [UInt8] in
        let payload = message.encoded()
        return [UInt8(payload.readableBytes)] + Array(payload.readableBytesView)
    }
    return [
        .messages: messages,
        .store: [
            [0, UInt8(hello.encoded().readableBytes)] + Array(hello.encoded().readableBytesView),
            [1] + frames, bytes(2, framed(hello.encoded())), bytes(3, framed(ranks[0].encoded())),
        ],
        .uniqueID: [
            try UniqueID(address: .loopback).bytes, [UInt8](repeating: 0, count: 128),
        ],
        .environment: environments.map { Array($0.utf8) },
        .slurm: ["node[01-03,7],other", "2(x3),1", "a[1-2]b[3-4]", "4"].map { Array($0.utf8) },
        .tuning: [PackageResources.PublishedTuning_json, Array(table.utf8)],
        .trace: TraceTarget.seeds,
    ]
}

private let environments = [
    "RANK=1\nWORLD_SIZE=4\nLOCAL_RANK=1\nLOCAL_WORLD_SIZE=2\nMASTER_ADDR=host\nMASTER_PORT=29500",
    "OMPI_COMM_WORLD_RANK=0\nOMPI_COMM_WORLD_SIZE=2\nOMPI_COMM_WORLD_LOCAL_RANK=0\n"
        + "OMPI_COMM_WORLD_LOCAL_SIZE=2\nPMIX_NAMESPACE=job",
    "SLURM_PROCID=3\nSLURM_STEP_NUM_TASKS=4\nSLURM_LOCALID=1\nSLURM_NODEID=1\n"
        + "SLURM_STEP_TASKS_PER_NODE=2(x2)\nSLURM_STEP_NODELIST=n[1-2]\nSLURM_JOB_ID=77",
    "MORI_EP_DEVICE=host\nMORI_EP_TIMEOUT=2.5\nMORI_SHMEM_HEAP_SIZE=6G\nMORI_EP_FABRIC=loopback",
    "MORI_RDMA_DEVICES=^mlx5_2,mlx5_3:1\nMORI_IB_GID_INDEX=3\nMORI_RDMA_TC=64\nMORI_IB_PATH_MTU=4096",
    "MORI_GLOBAL_LOG_LEVEL=trace\nMORI_EP_LAUNCH_CONFIG_MODE=AUTO\nMORI_EP_TUNING_CONFIG=none\n"
        + "MORI_BOOTSTRAP_TIMEOUT=1000000\nMORI_BOOTSTRAP_SECRET=x\nMORI_UNKNOWN=1",
]

private let table = """
    {"version": "1.0", "tables": [{"device": "MI300X", "architecture": "gfx942",
    "kernel": "intranode", "ep_size": 8, "phase": "combine", "rules": [{"dtype": "bf16",
    "num_tokens": 128, "hidden_dim": 7168, "topk": 8, "zero_copy": true, "quant_type": "none",
    "block_num": 80, "rdma_block_num": 8, "warp_per_block": 16, "bandwidth_gbps": 1.5e2,
    "latency_us": 3, "comment": "\\u00e9\\n"}]}]}
    """
