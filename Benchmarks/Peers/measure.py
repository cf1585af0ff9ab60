"""Measures dispatch and combine of MoriEP beside what users would pick instead: `make bench-peers`.

The systems run in turn, round by round, on the same routing and the same values; each verifies its
rows, and all three must have the same sums, bit for bit. Writes one JSON object, from which the
table (table.py) and the plot (plot.py) are made.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import table
from systems import ROOT, SYSTEMS, System, SystemFailure

HIDDEN, TOPK, EXPERTS = 7168, 8, 256


def say(text: str) -> None:
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)


def write_routing(case: dict, folder: str) -> None:
    """Draws distinct experts for each token, and writes them where all systems read them."""
    draw = random.Random(f"{case['seed']} {case['ranks']} {case['tokens']}")
    experts = range(case["ranks"] * case["experts_per_rank"])
    ranks = [
        [expert for _ in range(case["tokens"]) for expert in draw.sample(experts, case["topk"])]
        for _ in range(case["ranks"])
    ]
    per_rank = case["experts_per_rank"]
    case["rows"] = sum(
        len({expert // per_rank for expert in row[at : at + case["topk"]]})
        for row in ranks
        for at in range(0, len(row), case["topk"])
    )
    case["routing"] = f"{folder}/routing-{case['ranks']}-{case['tokens']}.json"
    with open(case["routing"], "w", encoding="ascii") as file:
        json.dump(ranks, file)


def available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def turn(system: System, case: dict, samples: dict) -> None:
    """One turn of a system: an untimed round that brings its code and data back into the caches,
    then timed ones, of which the median counts."""
    untimed = 1 if case["rounds_per_turn"] > 1 else 0
    rounds = system.measure(untimed + case["rounds_per_turn"])[untimed:]
    for phase in rounds[0]:
        samples.setdefault(phase, []).append(statistics.median(r[phase] for r in rounds))


def agree(sums: dict[str, dict[str, list[int]]]) -> bool:
    """Whether all systems have the same combined rows on every rank."""
    return len({tuple(ranks) for system in sums.values() for ranks in system.values()}) == 1


def run_together(case: dict, running: dict[str, System]) -> dict:
    """All systems' ranks are there at once, and take turns."""
    sums = {name: system.prepare(case) for name, system in running.items()}
    if not agree(sums):
        raise SystemFailure(f"the systems' sums differ: {sums}")
    order = list(running)
    samples: dict[str, dict] = {name: {} for name in order}
    for system in running.values():
        system.measure(3)
    for number in range(case["turns"]):
        for name in order[number % len(order) :] + order[: number % len(order)]:
            turn(running[name], case, samples[name])
    return samples


def run_apart(case: dict, running: dict[str, System]) -> dict:
    """For want of memory: the systems' ranks are there one after the other, several times."""
    samples: dict[str, dict] = {name: {} for name in running}
    sums = {}
    for _ in range(case["blocks"]):
        for name, system in running.items():
            system.stop()
            sums[name] = system.prepare(case)
            system.measure(1)
            for _ in range(case["turns"] // case["blocks"]):
                turn(system, case, samples[name])
            system.stop()
    if not agree(sums):
        raise SystemFailure(f"the systems' sums differ: {sums}")
    return samples


def measure(case: dict, running: dict[str, System]) -> None:
    # Tokens, packed rows, received rows, the experts' output, what comes back, and as much again.
    needed = 4 * case["rows"] * case["hidden"] * 2 * len(running)
    case["apart"] = needed > available_bytes() * 0.8
    if case["apart"]:
        case["turns"], case["blocks"] = max(2, case["turns"] // 2 * 2), 2
    began = time.monotonic()
    try:
        case["systems"] = (run_apart if case["apart"] else run_together)(case, running)
    finally:
        for system in running.values():
            if not system.takes_cases:
                system.stop()
    say(
        f"{case['ranks']} ranks, {case['tokens']} tokens, {case['type']}:"
        f" {time.monotonic() - began:.0f} s{' (one system at a time)' if case['apart'] else ''}"
    )
    del case["routing"]


def machine() -> dict:
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"processor": model, "cores": os.cpu_count()}


def commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def turns_of(tokens: int, asked: int | None) -> tuple[int, int]:
    """How many turns, and how many timed rounds in each: small rounds are short and noisy."""
    if tokens <= 128:
        return asked or 20, 3
    return asked or (12 if tokens <= 1024 else 10), 1


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def chosen(*legal: str):
    """Reads names, separated by commas, that must be among the legal ones."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in legal:
                raise argparse.ArgumentTypeError(f"{name!r}; legal are {', '.join(legal)}")
        return names

    return read


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    parser.add_argument("--ranks", type=numbers, default=[2, 4, 8])
    parser.add_argument("--tokens", type=numbers, default=[1, 8, 32, 128, 512, 4096])
    parser.add_argument(
        "--types", type=chosen("bf16", "fp8_e4m3"), default="bf16,fp8_e4m3", help="of dispatched tokens"
    )
    parser.add_argument("--rounds", type=int, help="turns of each system (default: 10 to 20)")
    parser.add_argument("--seed", type=int, default=1)
    names = [kind.name for kind in SYSTEMS]
    parser.add_argument("--systems", type=chosen(*names), default=",".join(names))
    parser.add_argument("--json", type=Path, default=ROOT / ".build/peers/peers.json")
    parser.add_argument("--append", action="store_true", help="keep the file's other cases")
    return parser.parse_args()


def key(case: dict) -> tuple:
    return case["ranks"], case["type"], case["tokens"]


def main() -> None:
    arguments = options()
    result = {"schema": "moriep.peers.v1", "machine": machine(), "cases": []}
    if arguments.append and arguments.json.exists():
        result = json.loads(arguments.json.read_text())
    kinds = [kind for kind in SYSTEMS if kind.name in arguments.systems]
    with tempfile.TemporaryDirectory(prefix="moriep-peers-") as folder:
        for ranks in arguments.ranks:
            running = {kind.name: kind() for kind in kinds}
            try:
                for tokens in arguments.tokens:
                    turns, per_turn = turns_of(tokens, arguments.rounds)
                    for element_type in arguments.types:
                        case = {
                            "ranks": ranks,
                            "tokens": tokens,
                            "hidden": HIDDEN,
                            "topk": TOPK,
                            "experts_per_rank": -(-EXPERTS // ranks),
                            "type": element_type,
                            "seed": arguments.seed,
                            "turns": turns,
                            "rounds_per_turn": per_turn,
                            "commit": commit(),
                        }
                        write_routing(case, folder)
                        measure(case, running)
                        others = [old for old in result["cases"] if key(old) != key(case)]
                        result["cases"] = sorted([*others, case], key=key)
                        arguments.json.parent.mkdir(parents=True, exist_ok=True)
                        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
            except SystemFailure as failure:
                sys.exit(f"bench-peers: {failure}")
            finally:
                for system in running.values():
                    system.stop()
    print(table.text(result))


if __name__ == "__main__":
    main()
