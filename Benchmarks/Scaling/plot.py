"""The plot of a result of measure.py, as PNG and SVG: `plot.py FILE FOLDER`.

One column a variable. Above, the time of a dispatch and of a combine; in the middle, the bytes of
received rows and, between nodes, the requests of the network; below, the time by the bytes,
relative to the least of the series: what grows faster than the bytes would rise there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = [
    ("ranks", ["ranks, 1 token", "ranks, 2048 tokens in all"]),
    ("tokens of a rank", ["tokens"]),
    ("experts", ["experts, 1 token", "experts, 256 tokens"]),
    ("top-k", ["top-k"]),
    ("ranks, nodes of 8", ["internode-v1, nodes of 8", "internode-v1ll, nodes of 8"]),
]
COLOURS = ["#1b6ca8", "#c8553d"]
STYLES = {"dispatch": "o-", "combine": "s--"}


def draw(result: dict) -> plt.Figure:
    figure, rows = plt.subplots(3, len(COLUMNS), figsize=(16, 9), sharex="col")
    for column, (title, series) in enumerate(COLUMNS):
        times, sizes, growth = (rows[row][column] for row in range(3))
        for name, colour in zip(series, COLOURS):
            found = [one for one in result["points"] if one["series"] == name]
            if not found:
                continue
            values = [one["value"] for one in found]
            for verb, style in STYLES.items():
                phase = [one[verb] for one in found]
                label = f"{verb}: {name}" if len(series) > 1 else verb
                times.plot(
                    values, [p["us"] for p in phase], style, ms=3, color=colour, label=label
                )
                rate = [p["us"] / p["row_bytes"] for p in phase]
                growth.plot(values, [r / min(rate) for r in rate], style, ms=3, color=colour)
            sizes.plot(
                values, [one["dispatch"]["row_bytes"] for one in found], "-", color=colour,
                label=f"bytes: {name}",
            )
            if "network" in found[0]["dispatch"]:
                sizes.plot(
                    values,
                    [one["dispatch"]["network"]["work_requests"] for one in found],
                    ":",
                    color=colour,
                    label=f"requests: {name}",
                )
        times.set_title(title, fontsize=10)
        growth.set_xlabel(title)
        for axes in (times, sizes, growth):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            ticks = sorted({one["value"] for one in result["points"] if one["series"] in series})
            axes.set_xticks(ticks, [str(tick) for tick in ticks])
            axes.minorticks_off()
            axes.grid(True, alpha=0.25)
            for side in ("top", "right"):
                axes.spines[side].set_visible(False)
        times.legend(frameon=False, fontsize=6)
        if len(series) > 1:
            sizes.legend(frameon=False, fontsize=6)
    rows[0][0].set_ylabel("microseconds, all ranks on the same cores")
    rows[1][0].set_ylabel("bytes of received rows; requests of a dispatch")
    rows[2][0].set_ylabel("time by bytes, relative to the least")
    figure.tight_layout()
    return figure


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        result = json.load(file)
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams["svg.hashsalt"] = "scaling"
    figure = draw(result)
    figure.savefig(folder / "scaling.png", dpi=100, metadata={"Software": None})
    figure.savefig(folder / "scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
