"""Two machines train one model: each is a network namespace with a copy of the workspace, joined by a pair of veth.

Where a namespace cannot be made, both are this machine, at its loopback address.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from waiting import comes_true
from workspace import Workspace

pytestmark = pytest.mark.slow

PRETRAIN = (
    "python -m stages pretrain data/samples data/tokens data/tokenizer models/pretrain "
    "reports/pretrain/metrics.json reports/pretrain/tables"
)
JOIN = "python -m llmcore.cli join"
WITHIN_SECONDS = 30.0
# four micro-batches per step; the first checkpoint comes after a few steps
NUMBERS = {"pretrain.micro_batch_size": 4, "runtime.checkpoint_interval_steps": 1}
ENDLESS = {"pretrain.epochs": 2000}
AGAIN = "run the same commands again on every machine: training resumes from the last checkpoint"
ADDRESSES = ("10.77.0.1", "10.77.0.2")


@dataclass
class Network:
    """What connects the two: their namespaces, none for loopback."""

    namespaces: tuple[str, ...]
    addresses: tuple[str, ...]
    port: int

    def cut(self) -> None:
        """Take the link down: no connection is closed, and nothing arrives any more."""
        ip(f"-n {self.namespaces[1]} link set veth down")


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[Network]:
    names = tuple(f"llmcore-{os.getpid()}-{number}" for number in range(2))
    try:
        for name in names:
            ip(f"netns add {name}")
    except (OSError, subprocess.CalledProcessError):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        yield Network((), ("127.0.0.1", "127.0.0.1"), port)
        return
    try:
        ip(f"link add veth netns {names[0]} type veth peer name veth netns {names[1]}")
        for name, address in zip(names, ADDRESSES, strict=True):
            ip(f"-n {name} addr add {address}/24 dev veth")
            for device in ("lo", "veth"):
                ip(f"-n {name} link set {device} up")
        yield Network(names, ADDRESSES, 29500)
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


class Machine:
    """A working copy, and the command that runs in it."""

    def __init__(self, workspace: Workspace, network: Network, rank: int):
        self.workspace = workspace
        self.network = network
        self.rank = rank
        self.log = workspace.folder / "machine.log"

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        inside = f"ip netns exec {self.network.namespaces[self.rank]} " if self.network.namespaces else ""
        variables = f"MASTER_ADDR={self.network.addresses[0]} MASTER_PORT={self.network.port} NNODES=2 NODE_RANK="
        command = JOIN if self.rank else PRETRAIN
        self.process = self.workspace.start(f"{inside}env {variables}{self.rank} {command}", self.log)

    @property
    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def errors(self) -> list[str]:
        return re.findall(r"^error: (.*)", self.printed.replace("\r", "\n"), re.MULTILINE)

    def kill(self) -> None:
        """Kill everything at once, as a power failure does."""
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            for process in [main, *main.children(recursive=True)]:
                process.kill()


class Pair:
    def __init__(self, machines: list[Machine]):
        self.machines = machines

    def start(self) -> None:
        for machine in reversed(self.machines):  # the order does not matter
            machine.start()

    def wait_until(self, holds: Callable[[], bool]) -> None:
        assert comes_true(holds, seconds=120), [machine.printed for machine in self.machines]

    def start_and_save(self) -> None:
        """Start, and return when the first checkpoint is there."""
        self.start()
        folder = self.machines[0].workspace.folder / ".ckpt"
        self.wait_until(lambda: bool(list(folder.glob("pretrain/*/step-*"))))

    def codes(self) -> list[int]:
        return [machine.process.wait(WITHIN_SECONDS) for machine in self.machines]


@pytest.fixture
def pair(built: Workspace, network: Network, tmp_path: Path) -> Iterator[Pair]:
    machines = [Machine(built.copy(tmp_path / str(rank)), network, rank) for rank in range(2)]
    for machine in machines:
        machine.workspace.set_params(NUMBERS)
        shutil.rmtree(machine.workspace.folder / "models/pretrain")
    yield Pair(machines)
    for machine in machines:
        machine.kill()


def test_a_killed_machine_ends_the_other_and_the_resumed_training_has_the_bytes_of_one_process(
    pair: Pair, built: Workspace, tmp_path: Path
) -> None:
    first, joined = pair.machines
    alone = built.copy(tmp_path / "alone")
    alone.set_params(NUMBERS)
    pair.start_and_save()
    joined.kill()
    reference = alone.start(PRETRAIN, tmp_path / "alone.log")
    assert pair.codes() == [2, -signal.SIGKILL]
    [line] = first.errors()
    assert line == f"pretrain: machine {joined.network.addresses[1]} (NODE_RANK 1) does not answer any more; {AGAIN}"

    for machine in pair.machines:
        machine.workspace.set_params({"runtime.processes": 2})
    pair.start()
    pair.wait_until(lambda: first.process.poll() is not None and "waiting for the first" in joined.printed)
    joined.process.send_signal(signal.SIGINT)  # it would join the next training
    assert pair.codes() == [0, 128 + signal.SIGINT], first.printed
    assert "pretrain: trained; the first machine writes the results\nwaiting for" in joined.printed
    assert "pretrain: resumes after step" in first.printed
    assert not (joined.workspace.folder / "models/pretrain").exists()

    assert reference.wait(WITHIN_SECONDS) == 0
    results = ("models/pretrain", "reports/pretrain")
    assert first.workspace.hashes(*results) == alone.hashes(*results)


@pytest.mark.exhaustive
def test_machines_that_lose_each_other_both_end(pair: Pair) -> None:
    if not pair.machines[0].network.namespaces:
        pytest.skip("no network namespace can be made here")
    for machine in pair.machines:
        machine.workspace.set_params(ENDLESS)
    pair.start_and_save()
    pair.machines[0].network.cut()
    assert pair.codes() == [2, 2]
    for machine in pair.machines:
        other = f"machine {ADDRESSES[1 - machine.rank]} (NODE_RANK {1 - machine.rank})"
        assert machine.errors() == [f"pretrain: {other} does not answer any more; {AGAIN}"]


def test_ctrl_c_on_the_first_machine_ends_both(pair: Pair) -> None:
    for machine in pair.machines:
        machine.workspace.set_params(ENDLESS)
    pair.start_and_save()
    first, joined = pair.machines
    os.killpg(first.process.pid, signal.SIGINT)
    assert pair.codes() == [128 + signal.SIGINT, 2]
    assert first.printed.splitlines()[-1].startswith("interrupted; `dvc repro` resumes")
    name = f"machine {first.network.addresses[0]} (NODE_RANK 0)"
    assert joined.errors() == [f"pretrain: {name} was interrupted; {AGAIN}"]


def test_what_differs_is_named_on_every_machine(pair: Pair) -> None:
    joined = pair.machines[1].workspace
    joined.set_params({"pretrain.lr": 0.005})
    (joined.folder / "data/samples/added").write_text("another file")
    pair.start()
    assert pair.codes() == [2, 2]
    found = "input samples differs, pretrain.lr 0.004 -> 0.005"
    rule = "the machine of NODE_RANK 1 must compute what the first does, and there"
    for machine in pair.machines:
        assert machine.errors() == [f"pretrain: {rule} {found}; give both the same commit, params.yaml and inputs"]
