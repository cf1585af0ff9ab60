"""A virtual machine under qemu."""

import pathlib
import re
import subprocess


class Machine:
    """A machine that was started; its console goes to a file."""

    def __init__(self, node: int, kernel: pathlib.Path, image: pathlib.Path, port: int,
                 folder: pathlib.Path) -> None:
        """Starts it. node: 0 or 1; port: of 127.0.0.1, where the cable between both is."""
        self.node = node
        self.log = folder / f"console-{node}.log"
        # The first listens for the other's end of the cable.
        end = "listen" if node == 0 else "connect"
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-nodefaults", "-no-reboot", "-nographic",
                # With these two, rxe's memcpy tears words of 8 bytes (protocol rule P9).
                "-cpu", "max,-erms,-fsrm",
                "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024",
                "-kernel", str(kernel), "-initrd", str(image),
                "-append", f"console=ttyS0 quiet panic=-1 random.trust_cpu=on lab.node={node}",
                "-serial", f"file:{self.log}", "-monitor", "none",
                "-netdev", f"socket,id=cable,{end}=127.0.0.1:{port}",
                "-netdev", "hubport,id=uplink,hubid=0,netdev=cable",
                *self.nic(0), *self.nic(1),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(folder / f"qemu-{node}.log").open("w"),
        )

    def nic(self, number: int) -> list[str]:
        """The arguments for one of the machine's NICs, all of which are on the one cable."""
        address = f"52:54:00:00:0{number}:0{self.node + 1}"
        return [
            "-netdev", f"hubport,id=port{number},hubid=0",
            "-device", f"virtio-net-pci,netdev=port{number},mac={address},romfile=",
        ]

    def console(self) -> str:
        """What it has printed so far."""
        try:
            return self.log.read_text(errors="replace").replace("\r", "")
        except FileNotFoundError:
            return ""

    def has_ended(self) -> bool:
        """Whether its power is off."""
        return self.process.poll() is not None

    def verdicts(self) -> dict[tuple[str, int], int]:
        """By scenario and rank: how the rank ended."""
        found = re.findall(r"^LAB \d rank (\S+) (\d+) exit (\d+)$", self.console(), re.MULTILINE)
        return {(name, int(rank)): int(status) for name, rank, status in found}

    def output(self, scenario: str, rank: int) -> str:
        """What a rank has printed in a scenario."""
        prefix = f"| {scenario} {rank} | "
        lines = self.console().splitlines()
        return "\n".join(line.removeprefix(prefix) for line in lines if line.startswith(prefix))

    def stop(self) -> None:
        """Takes its power away."""
        if not self.has_ended():
            self.process.kill()
        self.process.wait()
