"""The model of docs/performance.md: what dispatch and combine take on GPUs that were not at hand.

    model.py                     the tables for EP8 to EP256 on MI300X with 400 Gb/s NICs
    model.py --check FILE        its bytes and requests beside those counted by bench-scaling

Bytes, requests and phases follow from the routing and are what the kernels count; rates and
latencies are assumptions, each an option, so that a reader can put in their own. Nothing here was
measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

NODE = 8  # ranks of a node
CHUNK = 64  # tokens of a chunk (InterNodeV1, InterNodeV1LL)

# Published, of the best edition: (system, {ranks: (dispatch, combine)}); see docs/performance.md.
PUBLISHED_LATENCY = [
    ("DeepEP V1, H800, CX7", {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314),
                              128: (192, 369), 256: (194, 360)}),
    ("pplx-garden, H100/H200, CX7", {8: (50.5, 65.3), 16: (110, 186), 32: (154, 266),
                                     64: (188, 309)}),
    ("UCCL-EP, MI300X, CX7", {8: (65, 92), 16: (136, 207), 32: (224, 341)}),
    ("MORI V1LL, MI300X, CX7", {8: (35, 47), 16: (76, 122), 32: (157, 280)}),
]
PUBLISHED_BANDWIDTH = [
    ("DeepEP V1, H800, CX7", {16: (43, 43), 32: (58, 57), 64: (51, 50)}),
    ("DeepEP V2, SM90, CX7 (8192 tokens)", {16: (90, 81), 32: (61, 61)}),
    ("UCCL-EP, MI300X, CX7", {8: (260, 304), 16: (74, 78), 32: (60, 60), 64: (52, 51)}),
    ("MORI InterNodeV1, MI300X, CX7", {8: (307, 330), 16: (52, 67), 32: (57, 50)}),
]


def round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


@dataclass
class Shape:
    """What is moved, on average over uniform routing."""

    ranks: int
    tokens: int
    hidden: int = 7168
    topk: int = 8
    experts: int = 256
    dispatch_bytes: int = 1  # of an element
    combine_bytes: int = 2
    scales: int = 56  # fp32 scales of a dispatched token

    @property
    def nodes(self) -> int:
        return -(-self.ranks // NODE)

    def hit(self, experts: int) -> float:
        """The probability that one of a token's distinct experts is among so many."""
        missed = math.comb(self.experts - experts, self.topk)
        return 1 - missed / math.comb(self.experts, self.topk)

    @property
    def copies(self) -> float:
        """Ranks of a token."""
        return self.ranks * self.hit(self.experts // self.ranks)

    @property
    def other_nodes(self) -> float:
        """Other nodes of a token: the packets that leave its node."""
        return (self.nodes - 1) * self.hit(self.experts // self.nodes)

    @property
    def own_node(self) -> float:
        return self.hit(self.experts // self.nodes)

    @property
    def dispatch_row(self) -> int:
        return self.hidden * self.dispatch_bytes + self.scales * 4

    @property
    def dispatch_packet(self) -> int:
        """row | scales | weights | expert ids | source, to a multiple of 16 (Kernels/Layout)."""
        return round_up(round_up(self.dispatch_row, 4) + self.topk * 8 + 4, 16)

    @property
    def combine_packet(self) -> int:
        return round_up(self.hidden * self.combine_bytes, 16)

    @property
    def chunks(self) -> int:
        return max(1, -(-self.tokens // CHUNK))

    @property
    def requests(self) -> int:
        """Of a rank's dispatch: a write and a word for each chunk and other node. A chunk without a
        token for a node sends its word only, which is rare."""
        return 2 * self.chunks * (self.nodes - 1)

    def network_bytes(self, packet: int) -> float:
        return self.tokens * self.other_nodes * packet

    def fabric_bytes(self, row: int) -> float:
        """What a rank stores to, or reads from, other GPUs of a node. The last hop of each copy is
        inside a node, and one of its ranks is the GPU itself."""
        peers = min(NODE, self.ranks)
        return self.tokens * self.copies * row * (peers - 1) / peers


@dataclass
class Machine:
    """Rates in bytes a microsecond, times in microseconds."""

    network: float
    fabric: float
    memory: float
    launch: float
    hop: float
    word: float
    request: float

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Machine:
        # 400 Gb/s, less 82 bytes of headers and gaps of each packet of 4096 (RoCEv2).
        wire = 50_000 * 4096 / (4096 + 82)
        return cls(
            network=wire * arguments.network_efficiency,
            fabric=7 * 64_000 * arguments.fabric_efficiency,
            memory=5_300_000 * arguments.memory_efficiency,
            launch=arguments.launch,
            hop=arguments.hop,
            word=arguments.word,
            request=arguments.request,
        )


def dispatch(shape: Shape, machine: Machine) -> float:
    """Microseconds."""
    fabric = shape.fabric_bytes(shape.dispatch_row) / machine.fabric
    if shape.nodes == 1:
        return 3 * machine.launch + fabric + machine.word
    sent = shape.network_bytes(shape.dispatch_packet)
    staging = sent * 2 / machine.memory
    network = max(sent / machine.network, shape.requests * machine.request)
    last = fabric * min(1, CHUNK / shape.tokens) * (1 - 1 / shape.nodes)
    return 5 * machine.launch + staging + max(network, fabric) + machine.hop + last + machine.word


def combine(shape: Shape, machine: Machine) -> float:
    """Microseconds; zero copy."""
    row = shape.hidden * shape.combine_bytes
    fabric = shape.fabric_bytes(row) / machine.fabric
    if shape.nodes == 1:
        return 3 * machine.launch + machine.word + fabric
    sent = shape.network_bytes(shape.combine_packet)
    network = max(sent / machine.network, shape.requests * machine.request)
    first = fabric * min(1, CHUNK / shape.tokens) * (1 - 1 / shape.nodes)
    summed = shape.tokens * (shape.other_nodes + 2) * row / machine.memory
    return 6 * machine.launch + machine.word + first + max(network, fabric) + machine.hop + summed


def bound(shape: Shape, row: int, packet: int) -> float:
    """The wire alone: no latencies, links at their rates."""
    wire = 50_000 * 4096 / (4096 + 82)
    return max(shape.network_bytes(packet) / wire, shape.fabric_bytes(row) / (7 * 64_000))


def pair(values: tuple[float, float] | None, digits: int = 0) -> str:
    return "-" if values is None else f"{values[0]:.{digits}f} / {values[1]:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> None:
    for cells in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(cells) + " |")
    print()


WORLDS = (8, 16, 32, 64, 128, 256)


def counts(tokens: int) -> None:
    rows = []
    for ranks in WORLDS:
        shape = Shape(ranks, tokens)
        rows.append(
            [
                f"EP{ranks}",
                f"{shape.copies:.2f}",
                f"{shape.other_nodes:.2f}",
                f"{shape.network_bytes(shape.dispatch_packet) / 1e6:.2f}",
                f"{shape.network_bytes(shape.combine_packet) / 1e6:.2f}",
                f"{shape.fabric_bytes(shape.dispatch_row) / 1e6:.2f}",
                f"{shape.fabric_bytes(shape.hidden * 2) / 1e6:.2f}",
                str(shape.requests),
            ]
        )
    table(
        ["", "copies", "other nodes", "dispatch MB network", "combine MB network",
         "dispatch MB XGMI", "combine MB XGMI", "requests"],
        rows,
    )


def latencies(machine: Machine, tokens: int) -> None:
    rows = []
    for ranks in WORLDS:
        shape = Shape(ranks, tokens)
        least = (
            bound(shape, shape.dispatch_row, shape.dispatch_packet),
            bound(shape, shape.hidden * 2, shape.combine_packet),
        )
        modelled = (dispatch(shape, machine), combine(shape, machine))
        published = [pair(values.get(ranks)) for _, values in PUBLISHED_LATENCY]
        rows.append([f"EP{ranks}", pair(least), pair(modelled), *published])
    table(["us", "the links alone", "model", *(name for name, _ in PUBLISHED_LATENCY)], rows)


def bandwidths(machine: Machine, tokens: int) -> None:
    rows = []
    for ranks in WORLDS:
        shape = Shape(ranks, tokens)
        # What the projects publish: (token, node) pairs with the own node, of one node (token, rank).
        pairs = shape.copies if shape.nodes == 1 else shape.other_nodes + shape.own_node
        times = (dispatch(shape, machine), combine(shape, machine))
        sizes = (shape.hidden, shape.hidden * 2)
        logical = tuple(tokens * pairs * size / time / 1e3 for size, time in zip(sizes, times))
        published = [pair(values.get(ranks)) for _, values in PUBLISHED_BANDWIDTH]
        rows.append([f"EP{ranks}", pair(times), pair(logical), *published])
    names = [name for name, _ in PUBLISHED_BANDWIDTH]
    table(["GB/s", "model, us", "model", *names], rows)


def check(path: Path) -> None:
    """The model's bytes and requests beside counted ones."""
    rows = []
    for one in json.loads(path.read_text())["points"]:
        network = one["dispatch"].get("network")
        if not network:
            continue
        of = one["options"]
        shape = Shape(of["ranks"], of["tokens"], of["hidden"], of["topk"], of["experts"], 2, 2, 0)
        for verb, packet in (("dispatch", shape.dispatch_packet), ("combine", shape.combine_packet)):
            counted = one[verb]["network"]
            expected = shape.network_bytes(packet) * shape.ranks
            requests = shape.requests * shape.ranks
            rows.append(
                [
                    of["kernel"],
                    f"EP{of['ranks']}",
                    verb,
                    f"{counted['payload_bytes']:,}",
                    f"{expected:,.0f}",
                    f"{counted['payload_bytes'] / expected:.3f}",
                    f"{counted['work_requests']:,}",
                    f"{requests:,}",
                ]
            )
    table(
        ["kernel", "", "verb", "bytes counted", "of the model", "ratio", "requests counted",
         "of the model"],
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="model", description=__doc__)
    parser.add_argument("--check", type=Path, help="a result of bench-scaling")
    parser.add_argument("--network-efficiency", type=float, default=0.9)
    parser.add_argument("--fabric-efficiency", type=float, default=0.75)
    parser.add_argument("--memory-efficiency", type=float, default=0.7)
    parser.add_argument("--launch", type=float, default=2.0, help="of a kernel in a graph, us")
    parser.add_argument("--hop", type=float, default=5.0, help="ring, proxy, NIC, switch, NIC, us")
    parser.add_argument("--word", type=float, default=1.0, help="a word between GPUs, us")
    parser.add_argument("--request", type=float, default=0.15, help="the proxy's work, us")
    arguments = parser.parse_args()
    if arguments.check:
        check(arguments.check)
        return
    machine = Machine.of(arguments)
    print("128 tokens of a rank: dispatch fp8 with 56 scales, combine bf16; dispatch / combine\n")
    latencies(machine, 128)
    counts(128)
    print("4096 tokens of a rank, logical GB/s of a rank; dispatch / combine\n")
    bandwidths(machine, 4096)
    counts(4096)


if __name__ == "__main__":
    main()
