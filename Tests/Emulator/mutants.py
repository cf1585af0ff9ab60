#!/usr/bin/env python3
"""Kernels with one mistake each, which the emulator's tests have to find.

    mutants.py list                     their names
    mutants.py make NAME SOURCES OUT    copies the kernels' sources, and makes the mistake

A mistake replaces one piece of text, which must be there exactly once.
"""

import pathlib
import shutil
import sys

PUBLISH = """        machine::releaseSystem();
        sync();
"""
LAST = "        if (before + 1 != static_cast<uint32_t>(parts)) return false;\n"
BEFORE_RESERVING = """    countRows(warp, source.reread(), range, block.warps(), shared);
    block.sync();
"""
COMBINE_WAIT = """        // Pairs with signalRanks in every rank's combineSend.
        const bool came = awaitRanks(warp,
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
        """        if (before != 0) {
            if (before + 1 == static_cast<uint32_t>(parts)) *finished = 0;
            return false;
        }
        if (parts > 1) return true;
"""),
    "combine-waits-for-nobody": (
        "IntraNode/Combine.h", COMBINE_WAIT, COMBINE_WAIT.replace("came = ", "came = true || ")),
}


def make(name, sources, out):
    path, before, after = MUTANTS[name]
    shutil.copytree(sources, out)
    file = pathlib.Path(out) / path
    text = file.read_text()
    if text.count(before) != 1:
        sys.exit(f"mutants: {path} has the text of {name} {text.count(before)} times, not once")
    file.write_text(text.replace(before, after))


def main():
    match sys.argv[1:]:
        case ["list"]:
            print("\n".join(MUTANTS))
        case ["make", name, sources, out] if name in MUTANTS:
            make(name, sources, out)
        case _:
            sys.exit(__doc__)


main()
