"""Measures how a round's cost grows with ranks, tokens, experts and top-k: `make bench-scaling`.

Each point is a run of bench-dispatch-combine, verified, with the ranks as threads of one process,
so that 128 of them fit a small machine. Beside the time stand the bytes that the kernels moved, the
requests that they made of the network, and the time of a plain loop over the same bytes in the same
run (the roofline). Writes one JSON object, from which the plot is made (plot.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".build/release/bench-dispatch-combine"
HIDDEN = 7168


def point(series: str, variable: str, value: int, **options) -> dict:
    """A point of a series: the options of its run, with the defaults of all."""
    shape = {"ranks": 8, "tokens": 128, "experts": 256, "topk": 8, "hidden": HIDDEN}
    shape |= {"kernel": "intranode"} | options | ({variable: value} if variable else {})
    return {"series": series, "variable": variable, "value": value, "options": shape}


def points() -> list[dict]:
    """All of them. A series with 1 token shows what a call costs, one with many what bytes cost."""
    found = []
    for ranks in (2, 4, 8, 16, 32, 64, 128):
        experts = {"experts": max(256, 2 * ranks)}
        found.append(point("ranks, 1 token", "ranks", ranks, tokens=1, **experts))
        # The same rows in all: what grows is the number of ranks.
        tokens = 2048 // ranks
        found.append(
            point("ranks, 2048 tokens in all", "ranks", ranks, tokens=tokens, **experts)
        )
    for tokens in (1, 4, 16, 64, 256, 1024, 4096):
        found.append(point("tokens", "tokens", tokens))
    for experts in (8, 32, 128, 512, 2048):
        found.append(point("experts, 1 token", "experts", experts, tokens=1))
        found.append(point("experts, 256 tokens", "experts", experts, tokens=256))
    for topk in (1, 2, 4, 8, 16, 32):
        found.append(point("top-k", "topk", topk, tokens=256))
    for kernel in ("internode-v1", "internode-v1ll"):
        for ranks in (16, 32, 64, 128):
            found.append(
                point(
                    f"{kernel}, nodes of 8", "ranks", ranks, tokens=128, hidden=1024, kernel=kernel
                )
            )
    return found


def command(shape: dict, iterations: int, path: str) -> list[str]:
    options = {
        "kernel": shape["kernel"],
        "ranks": shape["ranks"],
        "tokens": shape["tokens"],
        "hidden": shape["hidden"],
        "topk": shape["topk"],
        "experts-per-rank": shape["experts"] // shape["ranks"],
        "world": "thread",
        "iterations": iterations,
        "json": path,
    }
    if shape["kernel"] != "intranode":
        options["gpus-per-node"] = 8
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    return [str(PROGRAM), "--zero-copy", *words]


def measure(one: dict, iterations: int) -> None:
    shape = one["options"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "point.json")
        ended = subprocess.run(
            command(shape, iterations, str(path)), stdout=subprocess.DEVNULL, check=False
        )
        if ended.returncode != 0:
            status = f"ended with {ended.returncode}"
            sys.exit(f"bench-scaling: {one['series']} at {one['value']}: {status}")
        found = json.loads(path.read_text())
    one["verified"] = found["verified"]
    for verb in ("dispatch", "combine"):
        phase = found[verb]
        row_bytes = phase["received_tokens"] * shape["hidden"] * 2
        # The rooflines count the same rows by their own time.
        one[verb] = {
            "us": phase["p50_us"],
            "p99_us": phase["p99_us"],
            "roofline_us": row_bytes / phase["roofline_gbps"] / 1e3,
            "wall_us": row_bytes / phase["gbps_total"] / 1e3,
            "row_bytes": row_bytes,
        }
        one[verb] |= found.get("moved", {}).get(verb, {})
        network = found.get("network")
        if network:
            keys = ("work_requests", "posts", "payload_bytes", "minimum_bytes", "signal_bytes")
            one[verb]["network"] = {key: network[verb][key] for key in keys}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench-scaling", description=__doc__)
    parser.add_argument("--iterations", type=int, default=15, help="timed rounds of a point")
    parser.add_argument("--series", default="", help="only series whose name contains this")
    parser.add_argument("--json", type=Path, default=ROOT / ".build/measured/scaling.json")
    arguments = parser.parse_args()
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    result = {
        "schema": "moriep.scaling.v1",
        "commit": head.stdout.strip() or "unknown",
        "cores": os.cpu_count(),
        "points": [],
    }
    chosen = [one for one in points() if arguments.series in one["series"]]
    if arguments.series and arguments.json.exists():
        old = json.loads(arguments.json.read_text())["points"]
        result["points"] = [one for one in old if arguments.series not in one["series"]]
    for one in chosen:
        began = time.monotonic()
        measure(one, arguments.iterations)
        result["points"].append(one)
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        print(
            f"bench-scaling: {one['series']}, {one['variable']} {one['value']}:"
            f" dispatch {one['dispatch']['us']:.0f} us, combine {one['combine']['us']:.0f} us"
            f" ({time.monotonic() - began:.0f} s)",
            file=sys.stderr,
            flush=True,
        )
    print(text(result))


def text(result: dict) -> str:
    """The table, one line a point and verb."""
    lines = [
        "| series | value | verb | us | row MB | us per MB | of the roofline | bytes read |"
        " bytes written | requests | payload bytes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in result["points"]:
        for verb in ("dispatch", "combine"):
            phase = one[verb]
            network = phase.get("network", {})
            megabytes = phase["row_bytes"] / 1e6
            cells = [
                one["series"],
                f"{one['value']:,}",
                verb,
                f"{phase['us']:,.0f}",
                f"{megabytes:,.2f}",
                f"{phase['us'] / megabytes:,.1f}",
                f"{phase['roofline_us'] / phase['wall_us']:.2f}",
                f"{phase.get('bytes_read', 0):,}",
                f"{phase.get('bytes_written', 0):,}",
                f"{network['work_requests']:,}" if network else "-",
                f"{network['payload_bytes']:,}" if network else "-",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
