#!/usr/bin/env python3
"""Counts the instructions of a round's parts with valgrind, and compares them with the stored ones.

    scripts/check-instructions.py [--write] [PROGRAM]

PROGRAM is bench-instructions, built for release (default: where SwiftPM leaves it). Counted are the
parts that wait for nobody, so the counts do not depend on how fast the machine is; one that is more
than `tolerance` above Benchmarks/Instructions/thresholds.json fails, and one that is as much below
asks for `--write`, which stores the counts. A round of 512 tokens is then counted with a trace and
without; a trace that costs more than MOST_TRACE fails. Timings are not compared anywhere: machines
differ.
"""

import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
THRESHOLDS = ROOT / "Benchmarks" / "Instructions" / "thresholds.json"
PROGRAM = ROOT / ".build" / "release" / "bench-instructions"
# Calls of each part: ranks x rounds of InstructionRounds.swift.
CALLS = 4 * 8

# What is counted, with everything that it calls: a name, and what its symbol contains.
PARTS = {
    "op.dispatch on the host": r":\$s6MoriEP19EPDispatchCombineOpC8dispatch_7weights\w*KF ",
    "op.combine on the host": r":\$s6MoriEP19EPDispatchCombineOpC7combine_2of\w*KF ",
    "dispatch_send": r":void mori::intranode::dispatchSend<mori::Plain>\(",
    "combine_send": r":void mori::intranode::combineSend<mori::Plain>\(",
    "combine_reduce": r":void mori::intranode::combineReduce<mori::BFloat16, mori::Plain>\(",
}

# What a traced round may cost, of all instructions of a round's calls and kernels; its shape.
MOST_TRACE = 0.01
TRACE_SHAPE = ["512", "7168"]
# Everything that a rank does in a round. The waits are in it: some ten thousandths.
ROUND = {name: PARTS[name] for name in ("op.dispatch on the host", "op.combine on the host")} | {
    "the kernels of dispatch": r":mori::host::runDispatch\(",
    "the kernels of combine": r":mori::host::runCombine\(",
}


def fail(message):
    sys.exit(f"check-instructions: {message}")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        fail(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def count(program, parts, arguments):
    """Instructions of each part, of one call of one rank."""
    with tempfile.TemporaryDirectory(prefix="moriep-instructions-") as folder:
        # Debian's valgrind cannot read the debug information of a newer clang; names are enough.
        stripped = f"{folder}/bench-instructions"
        run(["strip", "-g", "-o", stripped, str(program)])
        profile = f"{folder}/profile"
        run(
            ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", stripped,
             *arguments],
            # The same order in every dictionary, every time.
            env=os.environ | {"SWIFT_DETERMINISTIC_HASHING": "1"},
            timeout=300,
        )
        listing = run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", profile])
    counts = {}
    for name, pattern in parts.items():
        found = [line for line in listing.splitlines() if re.search(pattern, line)]
        if len(found) != 1:
            fail(f"{len(found)} functions are {name}; the pattern in {__file__} must fit one:\n"
                 + "\n".join(found))
        counts[name] = round(int(found[0].split("(")[0].strip().replace(",", "")) / CALLS)
    return counts


def check_trace(program):
    """Counts a round with a trace and without."""
    off = count(program, ROUND, TRACE_SHAPE)
    on = count(program, ROUND, [*TRACE_SHAPE, "traced"])
    print(f"\n{'512 tokens of 7168 bf16':<38}{'traced':>12}{'not':>12}")
    for name in ROUND:
        print(f"{name:<38}{on[name]:>12,}{off[name]:>12,}   {on[name] / off[name]:.4f}")
    cost = sum(on.values()) / sum(off.values()) - 1
    print(f"a trace costs {100 * cost:.2f} % of a round's instructions")
    if cost > MOST_TRACE:
        fail(f"more than {100 * MOST_TRACE:.0f} %")


def main():
    words = [word for word in sys.argv[1:] if word != "--write"]
    program = pathlib.Path(words[0]) if words else PROGRAM
    if not program.exists():
        fail(f"{program} is not there; make bench-instructions builds it")
    if shutil.which("valgrind") is None:
        fail("valgrind is not there; scripts/setup.sh instructions installs it")
    stored = json.loads(THRESHOLDS.read_text())
    if platform.machine() != stored["machine"]:
        print(f"not compared: the stored counts are of {stored['machine']},"
              f" and this is {platform.machine()}")
        return
    counts = count(program, PARTS, [])
    worse, better = [], []
    print(f"{'instructions of one call of one rank':<38}{'counted':>10}{'stored':>10}")
    for name, counted in counts.items():
        before = stored["instructions"].get(name, 0)
        ratio = counted / before if before else float("inf")
        print(f"{name:<38}{counted:>10,}{before:>10,}   {ratio:.3f}")
        if ratio > 1 + stored["tolerance"]:
            worse.append(name)
        elif ratio < 1 - stored["tolerance"]:
            better.append(name)
    if "--write" in sys.argv:
        stored["instructions"] = counts
        THRESHOLDS.write_text(json.dumps(stored, indent=2) + "\n")
    elif worse:
        fail(f"more instructions than stored: {', '.join(worse)}; find out why, or store the new"
             " counts with --write and say why in the commit")
    elif better:
        print(f"fewer than stored: {', '.join(better)}; --write stores them")
    check_trace(program)


if __name__ == "__main__":
    main()
