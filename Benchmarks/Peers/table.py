"""The table of a result of measure.py: `table.py [--markdown] [--ranks N] FILE`."""

from __future__ import annotations

import argparse
import json
import statistics

#: What is compared: the name of a line, MoriEP's phase, the others' phase.
PHASES = [
    ("dispatch", "dispatch zero-copy", "dispatch"),
    ("combine, zero copy", "combine zero-copy", "combine"),
    ("combine, external", "combine external", "combine"),
]
PEERS = {"openmpi": "Open MPI", "gloo": "gloo"}


def ratios(case: dict, ours: str, peer: str, theirs: str) -> list[float]:
    """How many times as long the peer takes, turn by turn."""
    mine = case["systems"]["moriep"][ours]
    other = case["systems"][peer][theirs]
    return [slow / fast for slow, fast in zip(other, mine)]


def spread(values: list[float], digits: int = 1) -> str:
    """The median, with the lowest and the highest."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def row_bytes(case: dict, phase: str) -> int:
    wide = case["type"] == "bf16" or phase.startswith("combine")
    return case["rows"] * case["hidden"] * (2 if wide else 1)


def gbps(case: dict, phase: str, microseconds: float) -> float:
    """Received rows by time, all ranks together."""
    return row_bytes(case, phase) / microseconds / 1e3


def lines(result: dict) -> list[list[str]]:
    peers = [name for name in PEERS if all(name in c["systems"] for c in result["cases"])]
    head = ["ranks", "type", "tokens", "phase", "turns", "us", "GB/s"]
    for peer in peers:
        head += [f"{PEERS[peer]} us", f"times {PEERS[peer]}"]
    table = [head]
    for case in result["cases"]:
        for name, ours, theirs in PHASES:
            mine = statistics.median(case["systems"]["moriep"][ours])
            line = [str(case["ranks"]), case["type"], str(case["tokens"]), name]
            line += [str(case["turns"]) + ("*" if case["apart"] else "")]
            line += [f"{mine:.0f}", f"{gbps(case, name, mine):.1f}"]
            for peer in peers:
                line.append(f"{statistics.median(case['systems'][peer][theirs]):.0f}")
                line.append(spread(ratios(case, ours, peer, theirs)))
            table.append(line)
    return table


def rates(result: dict) -> list[list[str]]:
    """How many times as many tokens a second each system dispatches in fp8 as in bf16."""
    times = {}
    for case in result["cases"]:
        for system, phases in case["systems"].items():
            phase = "dispatch zero-copy" if system == "moriep" else "dispatch"
            key = case["ranks"], case["tokens"], system, case["type"]
            times[key] = statistics.median(phases[phase])
    names = {"moriep": "MoriEP", **PEERS}
    table = [["ranks", "tokens", *(f"{name}, fp8 by bf16" for name in names.values())]]
    for ranks, tokens in sorted({key[:2] for key in times}):
        line = [str(ranks), str(tokens)]
        for system in names:
            wide = times.get((ranks, tokens, system, "bf16"))
            narrow = times.get((ranks, tokens, system, "fp8_e4m3"))
            line.append(f"{wide / narrow:.2f}" if wide and narrow else "-")
        table.append(line)
    return table


def arranged(table: list[list[str]], markdown: bool) -> list[str]:
    if markdown:
        rule = ["---"] * len(table[0])
        return ["| " + " | ".join(line) + " |" for line in [table[0], rule, *table[1:]]]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in table]


def text(result: dict, markdown: bool = False) -> str:
    tables = [*arranged(lines(result), markdown), "", *arranged(rates(result), markdown)]
    notes = [
        "",
        "us: from the earliest begin of all ranks to the latest end, by the host's clock, median of"
        " the turns; times: how many",
        "times as long the other takes, turn by turn, median (lowest to highest). *: the systems'"
        " ranks did not fit into memory",
        "together, and ran one system after the other, twice.",
    ]
    return "\n".join(tables + ([] if markdown else notes))


def main() -> None:
    parser = argparse.ArgumentParser(prog="table", description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--ranks", type=int, help="worlds of so many ranks only")
    arguments = parser.parse_args()
    with open(arguments.file, encoding="utf-8") as file:
        result = json.load(file)
    if arguments.ranks is not None:
        result["cases"] = [c for c in result["cases"] if c["ranks"] == arguments.ranks]
    print(text(result, arguments.markdown))


if __name__ == "__main__":
    main()
