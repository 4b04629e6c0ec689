"""The machines of a training: what names them, what they agree on, and how they hear of each other's end."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from torch.distributed import TCPStore
from waiting import comes_true

from llmcore.base.errors import UserError
from llmcore.run import machines, watch
from llmcore.run.launch import LOOPBACK
from llmcore.run.machines import Machines, Meeting, announced_stage, interface_to, machines_of_environment, meet
from llmcore.run.watch import Watch

TWO = {"NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "127.0.0.1"}
NAMES = (*TWO, "MASTER_PORT")


def named(monkeypatch: pytest.MonkeyPatch, **changes: str) -> Machines | None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    return machines_of_environment()


def test_the_environment_names_them_as_torchrun_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(monkeypatch, **TWO) == Machines(2, 1, "127.0.0.1", 29500)
    assert named(monkeypatch, **TWO | {"MASTER_PORT": "4321"}) == Machines(2, 1, "127.0.0.1", 4321)


def test_one_machine_needs_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(monkeypatch) is None
    assert named(monkeypatch, NNODES="1", NODE_RANK="0", MASTER_ADDR="elsewhere") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"NNODES": "3"}, "NNODES: must be a power of two, got 3"),
        ({"NNODES": "1:2"}, "NNODES: must be a whole number, 1 or more, got '1:2'"),
        ({"NNODES": "0"}, "NNODES: must be a whole number, 1 or more, got '0'"),
        ({"NODE_RANK": "2"}, "NODE_RANK: must be a whole number, from 0 to 1, got '2'"),
        ({"NODE_RANK": ""}, "NODE_RANK: must be a whole number, from 0 to 1, got ''"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT: must be a whole number, from 1 to 65535, got 'http'"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR: must be the address of the first machine"),
        ({"MASTER_ADDR": "10.0.0..1"}, "MASTER_ADDR: must be the address of the first machine"),
        ({"MASTER_ADDR": "nowhere.invalid"}, "MASTER_ADDR: must be the address of the first machine"),
        ({"MASTER_ADDR": "192.0.2.1", "NODE_RANK": "0"}, "MASTER_ADDR: must be the address of the first machine"),
    ],
)
def test_values_that_cannot_be_are_mistakes(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError) as error:
        named(monkeypatch, **TWO | changes)
    assert str(error.value).startswith(message)


def test_processes_talk_through_the_interface_that_leads_to_the_first() -> None:
    assert interface_to(Machines(2, 1, "127.0.0.1", 29500)) == LOOPBACK


# ---- meeting


@pytest.fixture
def port() -> int:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    return server.port


def meet_all(port: int, stages: list[str], processes: list[int], counts: list[int], ranks: list[int]) -> list[Any]:
    """Return what each machine gets of a meeting, each in a thread: the Meeting or the UserError."""
    found: list[Any] = [None] * len(stages)

    def attend(place: int) -> None:
        try:
            there = Machines(counts[place], ranks[place], "127.0.0.1", port)
            found[place] = meet(there, stages[place], processes[place])
        except UserError as error:
            found[place] = str(error)

    threads = [threading.Thread(target=attend, args=(place,)) for place in range(len(stages))]
    for thread in reversed(threads):
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_they_agree_on_the_smallest_number_of_processes(port: int) -> None:
    found = meet_all(port, ["pretrain"] * 4, [4, 2, 4, 8], [4] * 4, [0, 1, 2, 3])
    assert [meeting.n_processes for meeting in found] == [2] * 4


@pytest.mark.parametrize(
    ("stages", "counts", "message"),
    [
        (["pretrain", "finetune_instruct"], [2, 2], "the stage must be the same on every machine, got pretrain on"),
        (
            ["pretrain", "pretrain"],
            [2, 4],
            "NNODES must be the same on every machine, got 2 on the first machine and 4",
        ),
    ],
)
def test_what_does_not_fit_is_told_on_every_machine(
    port: int, stages: list[str], counts: list[int], message: str
) -> None:
    found = meet_all(port, stages, [1, 1], counts, [0, 1])
    assert all(f": {message}" in line for line in found)


def test_a_loopback_address_beside_others_is_refused() -> None:
    """On Debian /etc/hosts gives a machine's own name 127.0.1.1: it would answer where no other machine can ask."""
    entry = {"stage": "pretrain", "count": 2, "n_processes": 1, "process": ""}
    found = machines._agreed([entry | {"address": address} for address in ("127.0.1.1", "10.0.0.2")])
    assert found["error"].startswith(
        "MASTER_ADDR must be an address in the network, got 127.0.1.1 on that of NODE_RANK"
    )
    for addresses in (["127.0.0.1", "127.0.0.1"], ["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00::2"]):
        assert machines._agreed([entry | {"address": address} for address in addresses])["error"] == ""


def test_a_port_in_use_is_a_mistake() -> None:
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(UserError, match=f"MASTER_PORT: must be a free port of the first machine, and {server.port} is"):
        meet(Machines(2, 0, "127.0.0.1", server.port), "pretrain", 1)


def test_the_first_machine_says_which_commands_it_waits_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: int
) -> None:
    monkeypatch.setattr(machines, "JOIN_TIMEOUT_SECONDS", 0.5)
    command = f"`MASTER_ADDR=127.0.0.1 MASTER_PORT={port} NNODES=2 NODE_RANK=1 llmcore join`"
    with pytest.raises(UserError) as error:
        meet(Machines(2, 0, "127.0.0.1", port), "pretrain", 1)
    assert capsys.readouterr().err == f"pretrain: waiting for {command} on another machine, for 0 minutes at most\n"
    assert str(error.value).startswith(f"pretrain: no other machine has run {command}")


def test_a_follower_joins_the_next_training_that_has_not_begun(port: int) -> None:
    running = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    running.set(machines.STAGE, "pretrain")
    running.set(machines.AGREED, "")
    found: list[str] = []
    follower = threading.Thread(target=lambda: found.append(announced_stage(Machines(2, 1, "127.0.0.1", port))))
    follower.start()
    follower.join(1)
    assert found == []
    del running
    following = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    following.set(machines.STAGE, "finetune_instruct")
    follower.join(30)
    assert found == ["finetune_instruct"]


# ---- watching


@pytest.fixture
def meetings(port: int) -> list[Meeting]:
    """Two machines, each with a connection of its own to the store."""
    server = TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    stores = [
        server,
        TCPStore("127.0.0.1", port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5)),
    ]
    addresses = ["10.0.0.1", "10.0.0.2"]
    return [
        Meeting(Machines(2, rank, addresses[0], port), "pretrain", 1, addresses, store)
        for rank, store in enumerate(stores)
    ]


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(watch, "LOST_SECONDS", 2.0)


def wait_for_reason(watching: Watch) -> str | None:
    comes_true(lambda: watching.reason is not None, seconds=10)
    return watching.reason


@pytest.mark.parametrize("ending", [0, 1])
def test_why_one_ends_is_told_to_the_other(meetings: list[Meeting], ending: int) -> None:
    watches = [Watch(meeting) for meeting in meetings]
    closing = threading.Thread(target=watches[ending].close, args=("was interrupted",))
    closing.start()
    assert wait_for_reason(watches[1 - ending]) == f"machine 10.0.0.{ending + 1} (NODE_RANK {ending}) was interrupted"
    watches[1 - ending].close(None)
    closing.join(10)
    assert watches[ending].reason is None


def test_a_machine_that_is_done_is_not_missed(meetings: list[Meeting]) -> None:
    first, joined = (Watch(meeting) for meeting in meetings)
    joined.close(None)
    time.sleep(2.5)
    assert first.reason is None
    first.close(None)


def test_a_silent_machine_is_lost(meetings: list[Meeting]) -> None:
    first = Watch(meetings[0])
    assert wait_for_reason(first) == "machine 10.0.0.2 (NODE_RANK 1) does not answer any more"
    first.close(None)


def test_a_store_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen:
        def check(self, keys: list[str]) -> bool:
            threading.Event().wait(60)
            return False

    monkeypatch.setattr(machines, "ANSWER_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(RuntimeError, match="no answer"):
        machines._is_set(Frozen(), "stage")  # type: ignore[arg-type]
