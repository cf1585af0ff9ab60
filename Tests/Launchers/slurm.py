"""A Slurm cluster of this machine alone, for as long as a check needs it.

Everything it writes is in a temporary folder, and it listens on ports of its own: a cluster that this
machine may belong to is neither read nor disturbed. Slurm's credentials need a munge daemon, which is
its own too. Without cgroups, processes are tracked through procfs.
"""

import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time


class NotStarted(Exception):
    pass


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Cluster:
    """Daemons for one or several nodes; several share this machine, each with a daemon."""

    def __init__(self, nodes):
        self.node_count = nodes
        self.processes = []

    @property
    def environment(self):
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self):
        # Short: the path of a socket may have 107 bytes.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="moriep-slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        self.start_munge()
        host = socket.gethostname().split(".")[0]
        names = [host] if self.node_count == 1 else [
            f"moriep{number}" for number in range(self.node_count)]
        controller, *ports = free_ports(1 + self.node_count)
        (self.folder / "slurm.conf").write_text(self.configuration(host, names, controller, ports))
        (self.folder / "state").mkdir()
        self.spawn("slurmctld", "-D", "-c", "-f", self.folder / "slurm.conf")
        for name in names:
            # Several daemons of one machine tell by it which of them they are.
            which = [] if len(names) == 1 else ["-N", name]
            self.spawn("slurmd", "-D", *which, "-f", self.folder / "slurm.conf", log=f"slurmd-{name}")
        self.wait_until_idle(len(names))

    def start_munge(self):
        munge = self.folder / "munge"
        munge.mkdir(mode=0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        # Root may own what munge would want to belong to its own user.
        forced = ["--force"] if os.geteuid() == 0 else []
        self.spawn("munged", *forced, "--foreground", f"--key-file={key}",
                   f"--socket={munge / 'socket'}", f"--pid-file={munge / 'pid'}",
                   f"--log-file={munge / 'log'}", f"--seed-file={munge / 'seed'}")
        end = time.monotonic() + 10
        while not (munge / "socket").exists():
            self.check("munged did not open its socket", end)

    def configuration(self, host, names, controller, ports):
        user = getpass.getuser()
        folder = self.folder
        nodes = "\n".join(
            # More processors than there are: ranks share them.
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 State=UNKNOWN"
            for name, port in zip(names, ports))
        return f"""\
ClusterName=moriep
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/builtin
MpiDefault=none
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

    def spawn(self, *command, log=None):
        words = [str(word) for word in command]
        path = self.folder / f"{log or words[0]}.out"
        with open(path, "w", encoding="utf-8") as output:
            self.processes.append(subprocess.Popen(
                words, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf")}))

    def wait_until_idle(self, count):
        end = time.monotonic() + 20
        while True:
            done = subprocess.run(
                ["sinfo", "--noheader", "--format=%t %D"], env=os.environ | self.environment,
                capture_output=True, text=True, check=False)
            if done.stdout.strip() == f"idle {count}":
                return
            self.check(f"the nodes are not idle: {done.stdout}{done.stderr}", end)

    def check(self, what, end):
        """Waits a moment; gives up when a daemon has ended, or the time is over."""
        ended = [process for process in self.processes if process.poll() is not None]
        if not ended and time.monotonic() < end:
            time.sleep(0.05)
            return
        logs = "\n".join(f"{path.name}:\n{path.read_text()[-2000:]}"
                         for path in sorted(self.folder.glob("*.out")))
        raise NotStarted(f"Slurm did not start: {what}\n{logs}")
