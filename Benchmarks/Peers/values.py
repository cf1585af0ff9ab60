"""What is moved, and what must come of it: the values of Tests/MoriOracle, computed here again.

numpy only, a row or many at once; integers wrap around on purpose.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

TOKEN, WEIGHT = 1, 2  # what a number is for


@dataclass
class Case:
    ranks: int
    tokens: int
    hidden: int
    top_k: int
    experts_per_rank: int
    element_type: str  # bf16 or fp8_e4m3
    seed: int
    experts: np.ndarray  # int32 [ranks, tokens, top_k]

    @classmethod
    def parse(cls, words: list[str]) -> Case:
        """Reads the words of a request (systems.py)."""
        routing = words[0]
        ranks, tokens, hidden, top_k, experts_per_rank = map(int, words[1:6])
        with open(routing, encoding="ascii") as file:
            table = json.load(file)
        experts = np.array(table, dtype=np.int32).reshape(ranks, tokens, top_k)
        return cls(ranks, tokens, hidden, top_k, experts_per_rank, words[6], int(words[7]), experts)

    def goes_to(self, rank: int) -> np.ndarray:
        """bool [ranks, tokens]: which tokens have an expert at `rank`."""
        return (self.experts // self.experts_per_rank == rank).any(axis=2)


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


def place_bits(seed: int, *coordinates) -> np.ndarray:
    """64 mixed bits for places, whose coordinates are integers or arrays of them."""
    with np.errstate(over="ignore"):
        x = np.uint64((seed + 0x9E3779B97F4A7C15) % 2**64)
        for coordinate in coordinates + (0,) * (4 - len(coordinates)):
            step = np.asarray(coordinate, dtype=np.uint64) * np.uint64(0xD6E8FEB86659FD93)
            x = _mix(x ^ step)
        return x


def token_rows(case: Case, rank: np.ndarray, token: np.ndarray) -> np.ndarray:
    """f32 [rows, hidden]: the tokens before they are rounded to an element type."""
    base = place_bits(case.seed, TOKEN, rank, token)[:, None]
    column = np.arange(case.hidden, dtype=np.uint32) * np.uint32(0x9E3779B1)
    x = base.astype(np.uint32) + column
    x = (x ^ x >> np.uint32(15)) * np.uint32(0x85EBCA77)
    x ^= x >> np.uint32(13) ^ (base >> np.uint64(32)).astype(np.uint32)
    return ((x >> np.uint32(16)).astype(np.int32) - 32768).astype(np.float32) * np.float32(2**-14)


def token_weights(case: Case, rank: np.ndarray, token: np.ndarray) -> np.ndarray:
    """f32 [rows, top_k]."""
    slot = np.arange(case.top_k)
    bits = place_bits(case.seed, WEIGHT, np.asarray(rank)[:, None], np.asarray(token)[:, None], slot)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)


def rank_factors(case: Case, rank: int, experts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """f32 [rows]: what the experts of one rank together make of each token."""
    magnitude = np.float32(0.375) + np.float32(0.25) * (experts % 11).astype(np.float32)
    factor = np.where(experts % 2 == 0, magnitude, -magnitude)
    here = experts // case.experts_per_rank == rank
    total = np.zeros(len(experts), dtype=np.float32)
    for slot in range(case.top_k):
        total = np.where(here[:, slot], total + weights[:, slot] * factor[:, slot], total)
    scale = np.float32(1) + np.float32(0.0625) * np.float32(rank % 16)
    return total * scale + np.float32(0.5)


def to_bf16(values: np.ndarray) -> np.ndarray:
    """The bits of the nearest bf16, the even one on ties; values are finite f32."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(
        np.uint16
    )


def from_bf16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def _e4m3_values() -> np.ndarray:
    magnitudes = [
        (fraction / 8) * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
        for exponent in range(16)
        for fraction in range(8)
    ]
    return np.array(magnitudes + [-value for value in magnitudes], dtype=np.float32)


E4M3 = _e4m3_values()


def _e4m3_codes() -> np.ndarray:
    """The code of every value that a token's element can have, by value * 2^14 + 32768."""
    middles = (E4M3[:126].astype(np.float64) + E4M3[1:127]) / 2
    steps = np.arange(0, 32769) * 2.0**-14
    below = np.searchsorted(middles, steps, side="left")
    on_tie = (below < len(middles)) & (middles[np.minimum(below, len(middles) - 1)] == steps)
    # The middle between code and code + 1 rounds to the even one.
    codes = np.where(on_tie & (below % 2 == 1), below + 1, below).astype(np.uint8)
    negative = codes[:0:-1] | 0x80
    return np.concatenate([negative, codes[:-1]])


_E4M3_CODES = _e4m3_codes()


def to_element(case: Case, rows: np.ndarray) -> np.ndarray:
    """Bits of the case's element type, uint16 or uint8."""
    if case.element_type == "bf16":
        return to_bf16(rows)
    return _E4M3_CODES[(rows * np.float32(2**14)).astype(np.int32) + 32768]


def from_element(case: Case, bits: np.ndarray) -> np.ndarray:
    return from_bf16(bits) if case.element_type == "bf16" else E4M3[bits]


def combined_rows(case: Case, rank: int, tokens: np.ndarray) -> np.ndarray:
    """bf16 bits [rows, hidden]: fp32 sums over the ranks of each token, ascending, rounded once."""
    ranks = np.full(len(tokens), rank)
    elements = from_element(case, to_element(case, token_rows(case, ranks, tokens)))
    weights = token_weights(case, ranks, tokens)
    experts = case.experts[rank, tokens]
    total = np.zeros_like(elements)
    for destination in range(case.ranks):
        goes = (experts // case.experts_per_rank == destination).any(axis=1)
        factor = rank_factors(case, destination, experts, weights)[goes]
        total[goes] += from_bf16(to_bf16(elements[goes] * factor[:, None]))
    return to_bf16(total)


def checksum(rows: np.ndarray, first: int = 0) -> int:
    """See RowChecksum of bench-dispatch-combine; `first` is the place of the first element."""
    flat = rows.reshape(-1).astype(np.uint64)
    places = np.arange(first, first + len(flat), dtype=np.uint64)
    with np.errstate(over="ignore"):
        return int((flat * (places * np.uint64(2) + np.uint64(1))).sum(dtype=np.uint64))
