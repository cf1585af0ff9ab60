"""One rank of index_select + all_to_all_single + index_add over PyTorch's gloo.

    peer_torch.py PREFIX

with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set; the same requests and answers as
Benchmarks/Peers/MPI/main.cpp.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist

import values
from values import Case

# What gloo and index_select know of 2 and 1 bytes: bits are moved, whatever they mean.
CARRIER = {"bf16": torch.float16, "fp8_e4m3": torch.uint8}
NUMPY_CARRIER = {"bf16": np.float16, "fp8_e4m3": np.uint8}


def meet() -> None:
    """Waits for all ranks and lets them go on at the same moment."""
    last = torch.tensor([time.monotonic_ns()])
    dist.all_reduce(last, op=dist.ReduceOp.MAX)
    start = int(last.item()) + 3_000_000
    # The last millisecond is yielded away: how late a machine wakes sleepers is not what is timed.
    time.sleep(max(0, start - 1_000_000 - time.monotonic_ns()) / 1e9)
    while time.monotonic_ns() < start:
        os.sched_yield()


def part() -> None:
    """Leaves the cores to the ranks that are still timed."""
    time.sleep(0.001)


class Exchange:
    """One rank's part of the exchange of a case; all memory is allocated before the first round."""

    def __init__(self, case: Case) -> None:
        self.case = case
        copies = case.tokens * min(case.ranks, case.top_k)
        most = case.tokens * case.ranks
        row = CARRIER[case.element_type]
        self.send_rows = torch.empty(copies, case.hidden, dtype=row)
        self.send_tables = torch.empty(copies, 2 * case.top_k, dtype=torch.int32)
        self.rows = torch.empty(most, case.hidden, dtype=row)
        self.tables = torch.empty(most, 2 * case.top_k, dtype=torch.int32)
        self.back = torch.empty(copies, case.hidden, dtype=torch.float16)
        self.sums = torch.empty(case.tokens, case.hidden, dtype=torch.float32)
        self.combined = torch.empty(case.tokens, case.hidden, dtype=torch.bfloat16)

    def dispatch(self, tokens: torch.Tensor, weights: torch.Tensor, experts: torch.Tensor) -> None:
        """[tokens, hidden] of the carrier, f32 [tokens, top_k], i32 [tokens, top_k]."""
        case = self.case
        goes = torch.zeros(case.tokens, case.ranks, dtype=torch.bool)
        owner = torch.div(experts, case.experts_per_rank, rounding_mode="floor")
        goes.scatter_(1, owner.long(), True)
        # By destination, then by token.
        destination, self.token = goes.t().nonzero(as_tuple=True)
        counts = torch.bincount(destination, minlength=case.ranks)
        receive_counts = torch.empty_like(counts)
        dist.all_to_all_single(receive_counts, counts)
        self.send_counts, self.receive_counts = counts.tolist(), receive_counts.tolist()
        self.sent, self.received = len(self.token), sum(self.receive_counts)
        rows = torch.index_select(tokens, 0, self.token, out=self.send_rows[: self.sent])
        self._exchange(self.rows[: self.received], rows)
        # Weights and experts' ids in one table.
        table = torch.cat([weights.view(torch.int32), experts], dim=1)
        tables = torch.index_select(table, 0, self.token, out=self.send_tables[: self.sent])
        self._exchange(self.tables[: self.received], tables)

    def _exchange(self, received: torch.Tensor, sent: torch.Tensor) -> None:
        dist.all_to_all_single(received, sent, self.receive_counts, self.send_counts)

    def combine(self, output: torch.Tensor) -> None:
        """[received, hidden], bf16 as f16, in the order of the received rows."""
        back = self.back[: self.sent]
        dist.all_to_all_single(back, output, self.send_counts, self.receive_counts)
        self.sums.zero_()
        self.sums.index_add_(0, self.token, back.view(torch.bfloat16).float())
        self.combined.copy_(self.sums)

    def poison(self) -> None:
        """Makes what the last round wrote unusable, so that nothing is right by having been there."""
        for tensor, count in (
            (self.send_rows, self.sent),
            (self.rows, self.received),
            (self.tables, self.received),
            (self.back, self.sent),
            (self.combined, self.case.tokens),
        ):
            tensor[:count].view(torch.uint8).fill_(0xFF)


class Run:
    """A case, verified when it is made."""

    def __init__(self, case: Case, rank: int) -> None:
        self.case, self.rank = case, rank
        self.exchange = Exchange(case)
        own = np.arange(case.tokens)
        ranks = np.full(case.tokens, rank)
        elements = np.empty((case.tokens, case.hidden), NUMPY_CARRIER[case.element_type])
        for piece in self._pieces(case.tokens):
            rows = values.token_rows(case, ranks[piece], own[piece])
            elements[piece] = values.to_element(case, rows).view(elements.dtype)
        self.tokens = torch.from_numpy(elements)
        self.weights = torch.from_numpy(values.token_weights(case, ranks, own))
        self.experts = torch.from_numpy(case.experts[rank].copy())
        self._verify()

    def _pieces(self, count: int) -> list[slice]:
        """Rows in pieces that fit a cache."""
        step = max(1, 2**18 // self.case.hidden)
        return [slice(first, min(count, first + step)) for first in range(0, count, step)]

    def _dispatch(self) -> None:
        self.exchange.dispatch(self.tokens, self.weights, self.experts)

    def _verify(self) -> None:
        case, exchange = self.case, self.exchange
        self._dispatch()
        self.output = torch.zeros(exchange.received, case.hidden, dtype=torch.float16)
        exchange.combine(self.output)
        exchange.poison()
        self._dispatch()
        source, token = case.goes_to(self.rank).nonzero()
        if len(source) != exchange.received:
            raise ValueError(f"rank {self.rank} received {exchange.received}, not {len(source)}")
        rows = exchange.rows[: exchange.received].numpy()
        tables = exchange.tables[: exchange.received].numpy()
        bits = np.uint16 if case.element_type == "bf16" else np.uint8
        output = self.output.numpy().view(np.uint16)
        for piece in self._pieces(exchange.received):
            found = rows[piece].view(bits)
            sent = values.to_element(case, values.token_rows(case, source[piece], token[piece]))
            weights = values.token_weights(case, source[piece], token[piece])
            experts = case.experts[source[piece], token[piece]]
            table = np.concatenate([weights.view(np.int32), experts], axis=1)
            if not (np.array_equal(found, sent) and np.array_equal(tables[piece], table)):
                raise ValueError(f"rank {self.rank}: received rows {piece} are not what was sent")
            factor = values.rank_factors(case, self.rank, experts, weights)
            output[piece] = values.to_bf16(values.from_element(case, found) * factor[:, None])
        exchange.combine(self.output)
        combined = self._combined()
        for piece in self._pieces(case.tokens):
            expected = values.combined_rows(case, self.rank, np.arange(case.tokens)[piece])
            if not np.array_equal(combined[piece], expected):
                raise ValueError(f"rank {self.rank}: combined rows {piece} differ from the oracle's")

    def _combined(self) -> np.ndarray:
        return self.exchange.combined.view(torch.int16).numpy().view(np.uint16)

    def checksum(self) -> int:
        combined = self._combined()
        total = 0
        for piece in self._pieces(self.case.tokens):
            total += values.checksum(combined[piece], piece.start * self.case.hidden)
        return total % 2**64

    def round(self) -> dict[str, list[int]]:
        meet()
        began = time.monotonic_ns()
        self._dispatch()
        dispatch = [began, time.monotonic_ns()]
        part()
        meet()
        began = time.monotonic_ns()
        self.exchange.combine(self.output)
        combine = [began, time.monotonic_ns()]
        part()
        return {"dispatch": dispatch, "combine": combine}


def main() -> None:
    prefix = sys.argv[1]
    rank = int(os.environ["RANK"])
    # Ranks share the cores already, as torchrun assumes too.
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    run = None
    # Blocking reads: a rank that waits for a request takes nothing from the other systems.
    with open(f"{prefix}.requests.{rank}", encoding="ascii") as requests, open(
        f"{prefix}.answers.{rank}", "w", encoding="ascii"
    ) as answers:
        while line := requests.readline():
            words = line.split()
            if words[0] == "case":
                run = None
                run = Run(Case.parse(words[1:]), rank)
                answer = {"verified": True, "checksums": {"combine": run.checksum()}}
            else:
                answer = [run.round() for _ in range(int(words[0]))]
            print(json.dumps(answer, separators=(",", ":")), file=answers, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
