"""What is run inside the two virtual machines, one scenario after the other."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scenario:
    """A command that every rank of both machines runs at once."""

    name: str
    command: str
    # Environment variables, beside those of torchrun.
    variables: tuple[str, ...] = ()
    # How long a rank may take.
    seconds: int = 120
    # What happens to the second machine in the middle of its traffic: "power" is switched off, its
    # "link" goes down for 20 s; "none".
    loss: str = "none"
    # Seconds of traffic after which it happens.
    after: int = 3
    # How the ranks end.
    status: int = 0
    # What each rank must have printed: a regular expression.
    says: str = ""

    def ends_machine(self, node: int) -> bool:
        """Whether nothing is known of a machine's ranks afterwards."""
        return self.loss == "power" and node == 1

    def line(self) -> str:
        """The scenario as /lab/scenarios.sh has it."""
        words = [self.name, str(self.seconds), self.loss, str(self.after)]
        words += [*self.variables, self.command]
        return "scenario " + " ".join(words)


# Each machine has two NICs that work, rxe0 and rxe1, and one whose port is down, rxe2.
FABRIC_SCENARIOS = [
    Scenario(
        "fabric-1",
        "mori-lab --queues 1",
        variables=("MORI_RDMA_DEVICES=rxe0",),
        says="128 messages of 24576 bytes received and right",
    ),
    Scenario(
        "fabric-3",
        "mori-lab --queues 3",
        says="384 messages of 24576 bytes received and right",
    ),
    Scenario(
        "fabric-cm",
        "mori-lab --queues 3",
        variables=("MORI_RDMA_CM=1",),
        says="384 messages of 24576 bytes received and right",
    ),
    Scenario(
        "fabric-no-inline",
        "mori-lab --queues 1 --no-inline",
        says="128 messages of 24576 bytes received and right",
    ),
    Scenario(
        "fabric-unknown-nic",
        "mori-lab",
        variables=("MORI_RDMA_DEVICES=rxe0,mlx5_7",),
        status=1,
        says=r"names mlx5_7, which this host does not have; it has rxe0:1, rxe1:1, rxe2:1",
    ),
    Scenario(
        "fabric-port-down",
        "mori-lab",
        variables=("MORI_RDMA_DEVICES=rxe2",),
        status=1,
        says=r"ranks 0, 1, 2 and 3 cannot map .* can use no NIC, rejected .*rxe2:1 \(its state is",
    ),
]

# One world runs rounds of every kernel with 1 and 3 queue pairs and compares them with the oracle;
# starting it takes longer than the rounds. The benchmark, with its statistics, runs once.
OPERATOR_SCENARIOS = [
    Scenario(
        "rounds",
        "mori-lab rounds",
        seconds=180,
        says="8 operators: every round equals the oracle's",
    ),
    Scenario(
        "rounds-cm",
        "mori-lab rounds --kernel internode-v1ll",
        variables=("MORI_RDMA_CM=1",),
        says="2 operators: every round equals the oracle's",
    ),
    # The same bits again and again, as over loopback (InterNodeRepeatTests).
    Scenario(
        "repeats",
        "mori-lab rounds --kernel internode-v1ll --repeats 100",
        seconds=180,
        says="and 100 repeats gave the same bits",
    ),
    # One rank looks, on a quiet machine; the NIC that is down is the one problem.
    Scenario(
        "doctor",
        "sh -c 'test $RANK = 0 || { echo another rank looks; exit 1; };"
        " exec mori-ep doctor --self-test-limit 100'",
        # Three tests at once are what this machine bears.
        variables=("MORI_RDMA_DEVICES=rxe0",),
        status=1,
        seconds=180,
        says=r"(?s)another rank looks|rxe0, .*port 1: ACTIVE, Ethernet.*RoCE v2, eth0"
        r".*verbs fabric, host memory +passed.*problems\s+port rxe2:1 is DOWN",
    ),
    Scenario(
        "bench",
        "bench-dispatch-combine --kernel internode-v1ll --ranks 4 --gpus-per-node 2 --tokens 16"
        " --hidden 256 --iterations 2",
        seconds=180,
    ),
]

# Ranks of each machine name the other's and go on among themselves, rank 0's and the others alike.
LINK_DOWN = Scenario(
    "link-down",
    "mori-lab rounds --kernel internode-v1 --until-lost",
    variables=("MORI_EP_TIMEOUT=10",),
    loss="link",
    says=r"(?s)because of rank [0-3]\b.* 5 rounds without ranks \[(0, 1|2, 3)\] equal the oracle's",
)

# The last one: after it the second machine is gone.
POWER_OFF = Scenario(
    "power-off",
    "mori-lab rounds --kernel internode-v1ll --until-lost",
    variables=("MORI_EP_TIMEOUT=15",),
    loss="power",
    says=r"(?s)because of rank [23]\b.* 5 rounds without ranks \[2, 3\] equal the oracle's",
)


def all_scenarios() -> list[Scenario]:
    """In the order in which they are run."""
    return [*FABRIC_SCENARIOS, *OPERATOR_SCENARIOS, LINK_DOWN, POWER_OFF]
