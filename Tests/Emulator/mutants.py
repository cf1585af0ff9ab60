#!/usr/bin/env python3
"""Kernels with one mistake each, which the emulator's tests have to find.

    mutants.py list                     their names
    mutants.py check SOURCES            whether each mistake finds its text in the sources
    mutants.py make NAME SOURCES OUT    copies the kernels' sources, and makes the mistake

A mistake replaces one piece of text, which must be there exactly once.
"""

import pathlib
import shutil
import sys

PUBLISH = """        machine::releaseSystem();
        sync();
"""
LAST = "        if (count != static_cast<uint32_t>(parts)) return false;\n"
BEFORE_RESERVING = """    countRows(warp, source.reread(), range, block.warps(), shared);
    block.sync();
"""
COMBINE_WAIT = """        // Pairs with signalRanks in every rank's combineSend.
        const bool came = awaitSignals(
"""

MUTANTS = {
    # No barrier waits for other waves' stores: the leader's fence is one wave's.
    "leader-fences-behind-the-barrier": (
        "Device/Lanes.h", PUBLISH,
        """        sync();
        if (warp_.index() == 0) machine::releaseSystem();
"""),
    "nobody-fences": ("Device/Lanes.h", PUBLISH, "        sync();\n"),
    "publish-has-no-barrier": ("Device/Lanes.h", PUBLISH, "        machine::releaseSystem();\n"),
    "slots-reserved-before-all-are-counted": (
        "Shmem/Placement.h", BEFORE_RESERVING,
        BEFORE_RESERVING.replace("    block.sync();\n", "")),
    "first-block-signals": (
        "Shmem/Rows.h", LAST,
        """        if (count != 1) {
            if (count == static_cast<uint32_t>(parts)) *finished = 0;
            return false;
        }
        if (parts > 1) return true;
"""),
    "combine-waits-for-nobody": (
        "IntraNode/Combine.h", COMBINE_WAIT, COMBINE_WAIT.replace("came = ", "came = true || ")),
}


def mistaken(name, sources):
    """The file of a mistake, and its text with the mistake."""
    path, before, after = MUTANTS[name]
    text = (pathlib.Path(sources) / path).read_text()
    if text.count(before) != 1:
        sys.exit(f"mutants: {path} has the text of {name} {text.count(before)} times, not once")
    return path, text.replace(before, after)


def make(name, sources, out):
    path, text = mistaken(name, sources)
    shutil.copytree(sources, out)
    (pathlib.Path(out) / path).write_text(text)


def main():
    match sys.argv[1:]:
        case ["list"]:
            print("\n".join(MUTANTS))
        case ["check", sources]:
            for name in MUTANTS:
                mistaken(name, sources)
        case ["make", name, sources, out] if name in MUTANTS:
            make(name, sources, out)
        case _:
            sys.exit(__doc__)


main()
