"""The plot of a result of measure.py, as PNG and SVG: `plot.py FILE FOLDER [RANKS]`.

Above the time of each system, below how many times as long as MoriEP the others take, both over the
tokens of a rank: medians of the turns, and from the lowest to the highest in a lighter colour.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from table import PEERS, ratios

NAMES = {"moriep": "MoriEP", **PEERS}
COLOURS = {"moriep": "#1b6ca8", "openmpi": "#c8553d", "gloo": "#6b8f3a"}
#: A column: its title, the type of dispatched tokens, MoriEP's phase, the others' phase.
COLUMNS = [
    ("dispatch, bf16", "bf16", "dispatch zero-copy", "dispatch"),
    ("dispatch, fp8", "fp8_e4m3", "dispatch zero-copy", "dispatch"),
    ("combine of bf16, zero copy", "bf16", "combine zero-copy", "combine"),
    ("combine of bf16, external input", "bf16", "combine external", "combine"),
]


def curve(axes, tokens: list[int], samples: list[list[float]], colour: str, label: str) -> None:
    axes.plot(tokens, [statistics.median(s) for s in samples], "o-", ms=3, color=colour, label=label)
    low, high = [min(s) for s in samples], [max(s) for s in samples]
    axes.fill_between(tokens, low, high, color=colour, alpha=0.18, linewidth=0)


def decorate(axes, tokens: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(tokens, [str(count) for count in tokens])
    axes.minorticks_off()
    axes.grid(True, alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw(result: dict, ranks: int) -> plt.Figure:
    figure, rows = plt.subplots(2, len(COLUMNS), figsize=(13, 6), sharex="col", sharey="row")
    for column, (title, element_type, ours, theirs) in enumerate(COLUMNS):
        cases = [c for c in result["cases"] if c["ranks"] == ranks and c["type"] == element_type]
        cases.sort(key=lambda case: case["tokens"])
        if not cases:
            continue
        tokens = [case["tokens"] for case in cases]
        times, times_as_long = rows[0][column], rows[1][column]
        times.set_title(title, fontsize=10)
        for system, name in NAMES.items():
            if not all(system in case["systems"] for case in cases):
                continue
            phase = ours if system == "moriep" else theirs
            measured = [case["systems"][system][phase] for case in cases]
            curve(times, tokens, measured, COLOURS[system], name)
            if system != "moriep":
                slower = [ratios(case, ours, system, theirs) for case in cases]
                curve(times_as_long, tokens, slower, COLOURS[system], name)
        times_as_long.axhline(1, color=COLOURS["moriep"], linewidth=1)
        times_as_long.set_xlabel("tokens of a rank")
        for axes in (times, times_as_long):
            decorate(axes, tokens)
    rows[0][0].set_ylabel("microseconds")
    rows[1][0].set_ylabel("times as long as MoriEP")
    plain = [1, 2, 5, 10, 20, 50]
    rows[1][0].set_yticks(plain, [str(value) for value in plain])
    rows[0][0].legend(frameon=False, fontsize=9)
    machine = result["machine"]
    case = next(case for case in result["cases"] if case["ranks"] == ranks)
    figure.suptitle(
        f"{ranks} ranks on {machine['cores']} cores ({machine['processor']}), hidden"
        f" {case['hidden']}, top-{case['topk']} of {ranks * case['experts_per_rank']} experts",
        fontsize=11,
    )
    figure.tight_layout()
    return figure


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        result = json.load(file)
    ranks = int(sys.argv[3]) if len(sys.argv) > 3 else max(c["ranks"] for c in result["cases"])
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    # The same file from the same numbers: no date, and no random ids.
    plt.rcParams["svg.hashsalt"] = "peers"
    figure = draw(result, ranks)
    figure.savefig(folder / "peers.png", dpi=110, metadata={"Software": None})
    figure.savefig(folder / "peers.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
