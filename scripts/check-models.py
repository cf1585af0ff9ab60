#!/usr/bin/env python3
"""Verifies the models of the protocol in Tests/Models with spin.

    scripts/check-models.py [-v] [WORDS ...]

A model's first comment lists its variants, one a line: `right: OPTIONS`, whose whole state space must
be searched without an error, and `wrong: OPTIONS  RULE: what is missing`, in which spin must find one.
WORDS choose variants whose file, options or rule contain one of them. Exits with 1 if any variant is
other than it says, or if a search was cut short.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

MODELS = pathlib.Path(__file__).resolve().parent.parent / "Tests" / "Models"
MEMORY = 3000  # MiB of one verifier, at most
DEPTH = 2_000_000  # steps of one run, at most
SECONDS = 300  # of one search, at most


@dataclasses.dataclass
class Variant:
    file: pathlib.Path
    is_right: bool
    options: list
    rule: str

    @property
    def name(self):
        return f"{self.file.stem} {' '.join(self.options)}".strip()


@dataclasses.dataclass
class Finding:
    variant: Variant
    problem: str  # empty: as it says
    outcome: str
    states: int
    seconds: float


def variants_of(file):
    comment = file.read_text().split("*/")[0]
    found = []
    for line in comment.splitlines():
        match = re.match(r"\s*\*\s*(right|wrong):((?:\s+-D\S+)*)\s*(.*)$", line)
        if match:
            kind, options, rule = match.groups()
            found.append(Variant(file, kind == "right", options.split(), rule))
    if not any(v.is_right for v in found) or all(v.is_right for v in found):
        sys.exit(f"check-models: {file.name} lists no right or no wrong variant")
    return found


def run(command, folder, seconds=SECONDS):
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False)


def search(variant, compiler):
    begin = time.monotonic()

    def finding(problem, outcome="", states=0):
        return Finding(variant, problem, outcome, states, time.monotonic() - begin)

    with tempfile.TemporaryDirectory() as name:
        shutil.copy(variant.file, name)
        made = run(["spin", "-a", *variant.options, variant.file.name], name)
        if made.returncode != 0 or "Error" in made.stdout:
            return finding(f"spin: {made.stdout.strip()} {made.stderr.strip()}")
        built = run([compiler, "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY}",
                     "-o", "pan", "pan.c"], name)
        if built.returncode != 0:
            return finding(f"{compiler}: {built.stderr.strip()}")
        try:
            text = run(["./pan", f"-m{DEPTH}"], name).stdout
        except subprocess.TimeoutExpired:
            return finding(f"no end after {SECONDS} s")
    errors = re.search(r"errors: (\d+)", text)
    stored = re.search(r"(\d+) states, stored", text)
    reason = re.search(r"pan:\d+: (.*?)(?: \(at depth|$)", text, re.MULTILINE)
    if errors is None or stored is None:
        return finding(f"no result: {text.strip()[-400:]}")
    states = int(stored.group(1))
    outcome = reason.group(1) if reason else ""
    # What cuts a search short says nothing about the model, right or wrong.
    for limit in ("max search depth too small", "out of memory", "hash table full",
                  "too many states", "Search not completed"):
        if limit in text and (limit != "Search not completed" or errors.group(1) == "0"):
            return finding(f"cut short: {limit}", outcome, states)
    if variant.is_right and errors.group(1) != "0":
        return finding(f"an error where there should be none: {outcome}", outcome, states)
    if not variant.is_right and errors.group(1) == "0":
        return finding("no error: the wrong variant passes", outcome, states)
    return finding("", outcome or "no error", states)


def main():
    arguments = [word for word in sys.argv[1:] if word != "-v"]
    variants = [variant for file in sorted(MODELS.glob("*.pml")) for variant in variants_of(file)]
    if arguments:
        variants = [v for v in variants
                    if any(word in f"{v.name} {v.rule}" for word in arguments)]
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if shutil.which("spin") is None or compiler is None:
        sys.exit("check-models: spin or a C compiler is missing; scripts/setup.sh models installs them")
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for finding in pool.map(lambda variant: search(variant, compiler), variants):
            variant = finding.variant
            kind = "right" if variant.is_right else "wrong"
            word = "ok    " if not finding.problem else "FAILED"
            print(f"{word} {kind}  {variant.name:<58} {finding.states:>9} states"
                  f" {finding.seconds:6.1f} s  {variant.rule}", flush=True)
            if "-v" in sys.argv and finding.outcome:
                print(f"              {finding.outcome}")
            if finding.problem:
                failed += 1
                print(f"              {finding.problem}")
    print(f"{len(variants) - failed} of {len(variants)} variants are as they say")
    sys.exit(1 if failed or not variants else 0)


if __name__ == "__main__":
    main()
