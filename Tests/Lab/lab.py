#!/usr/bin/env python3
"""The RoCE lab: two virtual machines with soft-RoCE, real verbs between them.

    Tests/Lab/lab.py               ends with 0 if it can be run here, with 75 if it is skipped
    Tests/Lab/lab.py PROGRAM...    boots both with these executables and runs all scenarios

What it needs is installed by `scripts/setup.sh rdma-lab`. Where that is missing the lab fails if CI
is set, and is skipped with a message elsewhere.
"""

import os
import pathlib
import re
import shutil
import socket
import sys
import time

import initramfs
import machine
import scenarios

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache/rdma-lab"
RANKS_PER_NODE = 2
# An exit status (EX_TEMPFAIL).
SKIPPED = 75
# Of everything after the build; the issue allows 360 s with it.
DEADLINE_SECONDS = 330


def missing() -> str:
    """What the lab lacks; empty when it lacks nothing."""
    programs = {
        "qemu-system-x86_64": "qemu-system-x86", "busybox": "busybox-static", "rdma": "iproute2"
    }
    for program, package in programs.items():
        if not initramfs.find(program):
            return f"{program} (package {package})"
    if not list((FOLDER / "kernel").glob("boot/vmlinuz-*")):
        return f"a kernel in {FOLDER / 'kernel'}"
    return ""


def free_port() -> int:
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def check(scenario: scenarios.Scenario, machines: list[machine.Machine]) -> list[str]:
    """What is wrong with how a scenario went; empty when all is well."""
    wrong = []
    for one in machines:
        if scenario.ends_machine(one.node):
            continue
        for local_rank in range(RANKS_PER_NODE):
            rank = one.node * RANKS_PER_NODE + local_rank
            status = one.verdicts().get((scenario.name, rank))
            if status is None:
                wrong.append(f"rank {rank} has not ended")
            elif status != scenario.status:
                wrong.append(f"rank {rank} ended with {status}, not {scenario.status}")
            elif scenario.says and not re.search(scenario.says, one.output(scenario.name, rank)):
                wrong.append(f"rank {rank} has not said {scenario.says!r}")
    return wrong


def duration(name: str, one: machine.Machine) -> str:
    """How long a scenario took, by the machine's own clock."""
    pattern = rf"^LAB \d scenario {re.escape(name)} from ([\d.]+) to ([\d.]+)$"
    found = re.search(pattern, one.console(), re.MULTILINE)
    return f"{float(found[2]) - float(found[1]):5.1f} s" if found else "   ?   "


def boot(programs: list[pathlib.Path], wanted: list[scenarios.Scenario]) -> list[machine.Machine]:
    """Runs the scenarios to their end; the machines are off when it returns."""
    kernel = FOLDER / "kernel"
    image = initramfs.make(FOLDER, kernel, programs, [scenario.line() for scenario in wanted])
    vmlinuz = next(iter(kernel.glob("boot/vmlinuz-*")))
    port = free_port()
    machines = []
    try:
        for node in range(2):
            machines.append(machine.Machine(node, vmlinuz, image, port, FOLDER))
            # The second one's end of the cable finds the first one's.
            time.sleep(1)
        end = time.monotonic() + DEADLINE_SECONDS
        while not all(one.has_ended() for one in machines) and time.monotonic() < end:
            time.sleep(0.5)
    finally:
        for one in machines:
            one.stop()
    return machines


def main() -> int:
    """Returns the exit status."""
    lack = missing()
    if lack:
        required = os.environ.get("CI", "") not in ("", "0", "false")
        print(f"test-rdma: {'FAILED' if required else 'skipped'}: there is no {lack};"
              " scripts/setup.sh rdma-lab installs it")
        return 1 if required else SKIPPED
    if len(sys.argv) < 2:
        return 0
    for log in FOLDER.glob("*.log"):
        log.unlink()
    begin = time.monotonic()
    wanted = scenarios.all_scenarios()
    machines = boot([pathlib.Path(path).resolve() for path in sys.argv[1:]], wanted)

    failed = 0
    for scenario in wanted:
        wrong = check(scenario, machines)
        failed += bool(wrong)
        print(f"  {'FAILED' if wrong else 'passed'}  {duration(scenario.name, machines[0])}"
              f"  {scenario.name}")
        for line in wrong:
            print(f"          {line}")
        if wrong:
            for one in machines:
                for local_rank in range(RANKS_PER_NODE):
                    rank = one.node * RANKS_PER_NODE + local_rank
                    for line in one.output(scenario.name, rank).splitlines()[-8:]:
                        print(f"          rank {rank}: {line}")
    print(f"test-rdma: {time.monotonic() - begin:.0f} s; consoles in {FOLDER}")
    print(f"{len(wanted) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
