#!/usr/bin/env python3
"""Runs the same program under mpirun, torchrun's variables, Slurm and `mori-ep launch`.

    launchers.py FOLDER [WORDS ...]

FOLDER has bench-dispatch-combine and mori-ep. WORDS choose checks whose names contain one of them. The
benchmark compares a whole round with the oracle, so that a check passes only when the ranks of the
launcher met and exchanged their tokens. Exits with 1 if any check fails.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import slurm

RANKS = 4
# Seconds that one launch may take: the machine may be slow, and nothing may hang.
LIMIT = 50
SHAPE = ["--tokens", "9", "--hidden", "96", "--topk", "3", "--experts-per-rank", "3",
         "--iterations", "2", "--timeout", "20"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


class Failed(Exception):
    pass


def clean_environment():
    """This one's, without what another launcher may have set above."""
    prefixes = ("OMPI_", "PMIX_", "SLURM_", "MORI_", "TORCHELASTIC_", "PRTE_")
    names = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(prefixes) and key not in names}
    return kept | {"MORI_EP_DEVICE": "host", "MORI_BOOTSTRAP_TIMEOUT": "30"}


def run(command, environment=None, expects=0):
    """Runs a command to its end, and gives what it wrote."""
    done = subprocess.run(
        [str(word) for word in command], env=environment or clean_environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, cwd=ROOT, check=False)
    is_expected = done.returncode == 0 if expects == 0 else done.returncode != 0
    if not is_expected:
        raise Failed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def check_verified(text, nodes="1 node"):
    """One report, of all ranks, whose round is the oracle's."""
    wanted = f"{RANKS} ranks (processes), {nodes}"
    if text.count("verified") != 1 or wanted not in text:
        raise Failed(f"not one report of '{wanted}' that is verified:\n{text}")


def mpirun():
    """Open MPI's, which refuses root and more processes than cores without being asked."""
    options = ["--oversubscribe", "-n", str(RANKS)]
    if os.geteuid() == 0:
        options.append("--allow-run-as-root")
    return ["mpirun", *options]


# --------------------------------------------------------------------------------------------------
# The checks

def under_mpirun(bench, _launch):
    check_verified(run([*mpirun(), bench, *SHAPE]))


def under_mpirun_with_nodes(bench, _launch):
    """Two ranks a node for the kernels between nodes, which then talk over the loopback fabric."""
    text = run([*mpirun(), bench, "--kernel", "internode-v1", "--gpus-per-node", "2", *SHAPE])
    check_verified(text, "2 nodes of 2")


def a_rank_that_dies_ends_mpirun(bench, _launch):
    script = 'test "$OMPI_COMM_WORLD_RANK" = 2 && exit 7; exec "$0" "$@"'
    begin = time.monotonic()
    run([*mpirun(), "sh", "-c", script, bench, *SHAPE], expects=1)
    if time.monotonic() - begin > 25:
        raise Failed("the others went on waiting for the rank that never came")


class Agent:
    """What torchrun's agent is for its workers: somebody who listens on MASTER_PORT.

    It takes every connection and, as torch's store does with a stranger's bytes, never answers.
    """

    def __enter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        return self.listener.getsockname()[1]

    def __exit__(self, *_):
        self.listener.close()


def torchrun_variables(rank, port, folder):
    """Exactly what torch.distributed.elastic sets for a worker."""
    return {
        "LOCAL_RANK": f"{rank}", "RANK": f"{rank}", "GROUP_RANK": "0", "ROLE_RANK": f"{rank}",
        "ROLE_NAME": "default", "LOCAL_WORLD_SIZE": f"{RANKS}", "WORLD_SIZE": f"{RANKS}",
        "GROUP_WORLD_SIZE": "1", "ROLE_WORLD_SIZE": f"{RANKS}",
        # The agent puts its own host's name there.
        "MASTER_ADDR": socket.gethostname(), "MASTER_PORT": f"{port}",
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True",
        "NCCL_ASYNC_ERROR_HANDLING": "1", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": f"{folder}/{rank}/error.json",
    }


def workers(bench, port, folder, dies=None):
    """The outputs and statuses of one worker a rank."""
    started = []
    for rank in range(RANKS):
        command = ["false"] if rank == dies else [str(bench), *SHAPE]
        started.append(subprocess.Popen(
            command, env=clean_environment() | torchrun_variables(rank, port, folder), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT))
    try:
        texts = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return texts, [process.returncode for process in started]


def under_torchruns_variables(bench, _launch):
    with Agent() as port, tempfile.TemporaryDirectory() as folder:
        texts, statuses = workers(bench, port, folder)
    if any(statuses):
        raise Failed("\n".join(f"rank {rank}: {status} {text}" for rank, (status, text)
                               in enumerate(zip(statuses, texts))))
    check_verified("".join(texts))


def under_mori_ep_launch(bench, launch):
    text = run([launch, "launch", "-n", RANKS, "--", bench, *SHAPE])
    lines = text.splitlines()
    if not lines or not all(re.match(r"\[\d\] ", line) for line in lines):
        raise Failed(f"not every line begins with its rank:\n{text}")
    check_verified(text)


def a_signal_to_mori_ep_launch_reaches_every_rank(_bench, launch):
    """What ends a launch ends all of its ranks and what they started, with the signal's status."""
    with tempfile.TemporaryDirectory() as folder:
        # A child in a session of its own, too, which no signal to a group reaches.
        script = (f"setsid sleep 1000 & echo $! > {folder}/session.$RANK; sleep 1000 & "
                  f"echo $! > {folder}/child.$RANK; trap 'echo got it; exit 3' TERM; "
                  f"touch {folder}/ready.$RANK; while :; do sleep 0.1; done")
        process = subprocess.Popen(
            [str(launch), "launch", "-n", "3", "--grace", "10", "--", "sh", "-c", script],
            env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            wait_for(lambda: len(list(pathlib.Path(folder).glob("ready.*"))) == 3, "the ranks")
            process.send_signal(signal.SIGTERM)
            text = process.communicate(timeout=LIMIT)[0]
        finally:
            process.kill()
            process.wait()
        if process.returncode != 3 or text.count("got it") != 3:
            raise Failed(f"status {process.returncode}, not 3 of the ranks' trap:\n{text}")
        left = [path.name for path in pathlib.Path(folder).glob("[cs]*.*")
                if is_running(int(path.read_text()))]
        if left:
            raise Failed(f"still running: {left}")


def under_srun(bench, _launch):
    with slurm.Cluster(nodes=1) as cluster:
        environment = clean_environment() | cluster.environment
        check_verified(run(["srun", "-n", RANKS, bench, *SHAPE], environment))
        # A rank that dies ends the step.
        script = 'test "$SLURM_PROCID" = 2 && exit 7; exec "$0" "$@"'
        begin = time.monotonic()
        run(["srun", "-n", RANKS, "--kill-on-bad-exit=1", "sh", "-c", script, bench, *SHAPE],
            environment, expects=1)
        if time.monotonic() - begin > 25:
            raise Failed("the others went on waiting for the rank that never came")


def under_srun_on_two_nodes(bench, _launch):
    """Two daemons of this machine are Slurm's two nodes, as uneven as nodes can be."""
    with slurm.Cluster(nodes=2) as cluster:
        # The nodes' names are Slurm's alone.
        environment = clean_environment() | cluster.environment | {"MASTER_ADDR": "127.0.0.1"}
        text = run(["srun", "-N", 2, "-n", RANKS, "--ntasks-per-node=2", bench, "--kernel",
                    "internode-v1", *SHAPE], environment)
        check_verified(text, "2 nodes of 2")


def under_sbatch(bench, _launch):
    """The script of Examples/Slurm, with its arguments."""
    with slurm.Cluster(nodes=1) as cluster, tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder) / "output"
        environment = clean_environment() | cluster.environment
        run(["sbatch", "--wait", "--nodes=1", f"--ntasks-per-node={RANKS}", f"--output={output}",
             "Examples/Slurm/dispatch-combine.sbatch", bench, *SHAPE], environment)
        check_verified(output.read_text())


CHECKS = [under_mpirun, under_mpirun_with_nodes, a_rank_that_dies_ends_mpirun,
          under_torchruns_variables, under_mori_ep_launch,
          a_signal_to_mori_ep_launch_reaches_every_rank, under_srun, under_srun_on_two_nodes,
          under_sbatch]


# --------------------------------------------------------------------------------------------------

def is_running(process):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what} did not come within {LIMIT} s")
        time.sleep(0.02)


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    words = sys.argv[2:]
    bench, launch = folder / "bench-dispatch-combine", folder / "mori-ep"
    failures = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        if words and not any(word in name for word in words):
            continue
        begin = time.monotonic()
        try:
            check(bench, launch)
            result = "passed"
        except (Failed, slurm.NotStarted, subprocess.TimeoutExpired) as error:
            failures += 1
            result = f"FAILED: {error}"
        print(f"{name:<48}{time.monotonic() - begin:6.1f} s  {result}", flush=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    missing = [name for name in ["mpirun", "srun", "slurmd", "slurmctld", "munged"]
               if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin") is None]
    if missing:
        sys.exit(f"{', '.join(missing)}: not there; scripts/setup.sh launchers installs them")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    main()
