"""The three systems, each as a group of rank processes that run rounds when they are asked to.

A rank reads requests from a FIFO and answers through another one, a line each. A rank that is not
asked sleeps in read(), so the systems can be measured in turn without disturbing each other.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class SystemFailure(Exception):
    """A rank died, was silent for too long, or found a difference."""


class System:
    """A group of ranks. `start`, then `prepare` a case, then `measure` rounds, then `stop`."""

    name = ""
    #: Whether the ranks can take another case; if not they are started for each.
    takes_cases = True
    deadline = 420.0

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen] = []
        self.folder: tempfile.TemporaryDirectory | None = None
        self.requests: list[int] = []
        self.answers: list[int] = []

    def command(self, prefix: str, case: dict) -> list[str]:
        raise NotImplementedError

    def environment(self, rank: int, ranks: int, port: int) -> dict[str, str]:
        return {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }

    def start(self, case: dict) -> None:
        ranks = case["ranks"]
        self.folder = tempfile.TemporaryDirectory(prefix="moriep-peers-")
        prefix = f"{self.folder.name}/{self.name}"
        for rank in range(ranks):
            os.mkfifo(f"{prefix}.requests.{rank}")
            os.mkfifo(f"{prefix}.answers.{rank}")
        self.launch(self.command(prefix, case), ranks)
        self.requests = [self._open(f"{prefix}.requests.{r}", os.O_WRONLY) for r in range(ranks)]
        self.answers = [self._open(f"{prefix}.answers.{r}", os.O_RDONLY) for r in range(ranks)]

    def launch(self, command: list[str], ranks: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for rank in range(ranks):
            environment = os.environ | self.environment(rank, ranks, port)
            self.processes.append(
                subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
            )

    def _open(self, path: str, flags: int) -> int:
        """Opens a FIFO once the rank has opened its end."""
        end = time.monotonic() + self.deadline
        while True:
            try:
                return os.open(path, flags | os.O_NONBLOCK)
            except OSError as error:
                self._check_alive()
                if time.monotonic() > end:
                    raise SystemFailure(f"{self.name}: nobody opened {path}") from error
                time.sleep(0.01)

    def _check_alive(self) -> None:
        for process in self.processes:
            if process.poll() not in (None, 0):
                raise SystemFailure(f"{self.name}: a rank ended with {process.returncode}")

    def ask(self, request: str) -> None:
        for descriptor in self.requests:
            os.write(descriptor, f"{request}\n".encode())

    def collect(self) -> list:
        """What each rank answers, by rank."""
        end = time.monotonic() + self.deadline
        lines = []
        for rank, descriptor in enumerate(self.answers):
            line = b""
            while not line.endswith(b"\n"):
                ready, _, _ = select.select([descriptor], [], [], 1.0)
                piece = b""
                if ready:
                    try:
                        piece = os.read(descriptor, 1 << 16)
                    except BlockingIOError:
                        pass
                if not piece:
                    self._check_alive()
                    if ready:
                        time.sleep(0.01)
                if time.monotonic() > end:
                    raise SystemFailure(f"{self.name}: rank {rank} did not answer")
                line += piece
            lines.append(json.loads(line))
        return lines

    def prepare(self, case: dict) -> dict[str, list[int]]:
        """Lets all ranks verify the case, and gives their checksums by what was combined."""
        if not self.processes:
            self.start(case)
        if self.takes_cases:
            words = [case["routing"]]
            words += [case[key] for key in ("ranks", "tokens", "hidden", "topk")]
            words += [case["experts_per_rank"], case["type"], case["seed"]]
            self.ask("case " + " ".join(map(str, words)))
        answers = self.collect()
        if not all(answer["verified"] for answer in answers):
            raise SystemFailure(f"{self.name}: not verified")
        return {
            key: [answer["checksums"][key] for answer in answers] for key in answers[0]["checksums"]
        }

    def measure(self, count: int) -> list[dict[str, float]]:
        """Runs rounds; of each the phases' times in microseconds, from the earliest begin of all
        ranks to the latest end."""
        self.ask(str(count))
        answers = self.collect()
        rounds = []
        for turn in range(count):
            ranks = [answer[turn] for answer in answers]
            rounds.append(
                {
                    phase: (max(r[phase][1] for r in ranks) - min(r[phase][0] for r in ranks)) / 1e3
                    for phase in ranks[0]
                }
            )
        return rounds

    def stop(self) -> None:
        for descriptor in self.requests + self.answers:
            os.close(descriptor)
        for process in self.processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.requests, self.answers, self.processes = [], [], []
        if self.folder:
            self.folder.cleanup()
            self.folder = None


class MoriEP(System):
    name = "moriep"
    takes_cases = False

    def command(self, prefix: str, case: dict) -> list[str]:
        options = {
            "tokens": case["tokens"],
            "hidden": case["hidden"],
            "topk": case["topk"],
            "experts-per-rank": case["experts_per_rank"],
            "dispatch-type": case["type"],
            "combine-type": "bf16",
            "routing": case["routing"],
            "seed": case["seed"],
            "round-requests": prefix,
        }
        words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
        return [str(ROOT / ".build/release/bench-dispatch-combine"), *words]


class OpenMPI(System):
    name = "openmpi"

    def command(self, prefix: str, case: dict) -> list[str]:
        ranks = str(case["ranks"])
        # More ranks than cores: a rank that polls has to give the core away.
        options = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        return ["mpirun", "-n", ranks, *options, str(ROOT / ".build/peers/peer-mpi"), prefix]

    def launch(self, command: list[str], ranks: int) -> None:
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        self.processes = [
            subprocess.Popen(command, env=os.environ | root, stdin=subprocess.DEVNULL)
        ]


class Gloo(System):
    name = "gloo"

    def command(self, prefix: str, case: dict) -> list[str]:
        return [sys.executable, str(ROOT / "Benchmarks/Peers/peer_torch.py"), prefix]

    def environment(self, rank: int, ranks: int, port: int) -> dict[str, str]:
        return super().environment(rank, ranks, port) | {
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
        }


SYSTEMS = [MoriEP, OpenMPI, Gloo]
