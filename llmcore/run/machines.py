"""The machines that compute a training together: how they find each other and agree on their shares.

The environment names them as torchrun's does: NNODES of them, this one's NODE_RANK, and MASTER_ADDR and MASTER_PORT,
where the first one, NODE_RANK 0, answers. It keeps a store of torch.distributed there while a training runs.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import psutil

from llmcore.base.errors import UserError
from llmcore.base.files import json_text, parse_json

if TYPE_CHECKING:
    from torch.distributed import TCPStore

DEFAULT_PORT = 29500  # torchrun's
JOIN_TIMEOUT_SECONDS = 900.0  # for which the first machine waits for the others, as torchrun does
ANSWER_TIMEOUT_SECONDS = 30.0  # of the store
PROBE_TIMEOUT_SECONDS = 2.0
POLL_SECONDS = 0.2

# keys of the store
STAGE = "stage"
AGREED = "agreed"
READ = "read"


@dataclass(frozen=True)
class Machines:
    """How many there are, which one this is, and where the first one answers."""

    count: int
    rank: int
    address: str
    port: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def variables(self, rank: int) -> str:
        """Return what is put before the command on the machine of that rank."""
        port = [f"MASTER_PORT={self.port}"] if self.port != DEFAULT_PORT else []
        return " ".join([f"MASTER_ADDR={self.address}", *port, f"NNODES={self.count}", f"NODE_RANK={rank}"])


@dataclass(frozen=True)
class Meeting:
    """The machines in one training: what they have agreed on, and the store through which they hear of each other."""

    machines: Machines
    stage: str
    n_processes: int  # of each machine
    addresses: Sequence[str]
    store: "TCPStore"

    def name_of(self, rank: int) -> str:
        return f"machine {self.addresses[rank]} (NODE_RANK {rank})"


def machines_of_environment() -> Machines | None:
    """Return the machines that the environment names, None for one machine; UserError for values that cannot be."""
    count = _whole_number("NNODES", os.environ.get("NNODES", "1"), 1, None)
    if count == 1:
        return None
    if count & (count - 1):
        raise UserError(f"NNODES: must be a power of two, got {count}; set it, the same on every machine")
    rank = _whole_number("NODE_RANK", os.environ.get("NODE_RANK", ""), 0, count - 1)
    port = _whole_number("MASTER_PORT", os.environ.get("MASTER_PORT", str(DEFAULT_PORT)), 1, 65535)
    address = os.environ.get("MASTER_ADDR", "")
    rule = "MASTER_ADDR: must be the address of the first machine, NODE_RANK 0"
    try:
        _own_address(address, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{rule}, got {address!r} ({reason}); set it, the same on every machine") from None
    if rank == 0 and not _is_of_this_machine(address):
        raise UserError(f"{rule}, got {address!r}, which this machine does not have; correct it, or NODE_RANK")
    return Machines(count, rank, address, port)


def interface_to(machines: Machines) -> str:
    """Return the network interface of this machine that leads to the first one, or that GLOO_SOCKET_IFNAME names."""
    if named := os.environ.get("GLOO_SOCKET_IFNAME"):
        if named not in (known := psutil.net_if_addrs()):
            rule = f"must be a network interface of this machine ({', '.join(known)})"
            raise UserError(f"GLOO_SOCKET_IFNAME: {rule}, got {named!r}; correct it")
        return named
    own = _own_address(machines.address, machines.port)
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == own for each in addresses):
            return str(name)
    raise UserError(f"no network interface has this machine's address {own}; set GLOO_SOCKET_IFNAME to one")


def meet(machines: Machines, stage: str, n_processes: int) -> Meeting:
    """Wait for the other machines; return what all agreed on, the smallest `n_processes` among it.

    UserError on every machine where they cannot compute together, and on the first one after JOIN_TIMEOUT_SECONDS.
    """
    mine = {
        "stage": stage,
        "count": machines.count,
        "n_processes": n_processes,
        "address": _own_address(machines.address, machines.port),
        "process": f"{socket.gethostname()} {os.getpid()} {time.time_ns()}",
    }
    try:
        if machines.is_first:
            store = _serve(machines)
            store.set(STAGE, stage)
            store.set(_key(0), json_text(mine))
            store.set(AGREED, json_text(_agreed(_gather(store, machines, stage))))
        else:
            store = _find(machines, stage)
            store.set(_key(machines.rank), json_text(mine))
            while not _is_set(store, AGREED):
                time.sleep(POLL_SECONDS)
        agreed = parse_json(store.get(AGREED).decode())
        store.add(READ, 1)
        if machines.is_first and agreed["error"]:
            _wait_for_readers(store, machines.count)
    except RuntimeError:
        raise UserError(f"{stage}: the first machine has ended before the training began; look there") from None
    if agreed["error"]:
        raise UserError(f"{stage}: {agreed['error']}")
    if mine["process"] not in agreed["processes"]:
        raise UserError(f"NODE_RANK: must differ on each machine, and another one has {machines.rank}; correct it")
    return Meeting(machines, stage, agreed["n_processes"], agreed["addresses"], store)


def announced_stage(machines: Machines) -> str:
    """Wait until the first machine begins a training, and return its stage."""
    while True:
        try:
            store = _find(machines, "a training")
            while not _is_set(store, STAGE):
                time.sleep(POLL_SECONDS)
            return str(store.get(STAGE).decode())
        except RuntimeError:  # it ended just now
            time.sleep(POLL_SECONDS)


def _whole_number(name: str, text: str, least: int, most: int | None) -> int:
    allowed = f"{least} or more" if most is None else f"from {least} to {most}"
    if not text.isascii() or not text.isdecimal() or not least <= int(text) <= (most or int(text)):
        raise UserError(f"{name}: must be a whole number, {allowed}, got {text!r}; set it")
    return int(text)


def _own_address(address: str, port: int) -> str:
    """Return the address from which this machine speaks to that one; nothing is sent. OSError if there is no way."""
    if not address:
        raise OSError(0, "not set")
    family, kind, _, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        own: str = probe.getsockname()[0]
    return own.partition("%")[0]


def _is_of_this_machine(address: str) -> bool:
    family, kind, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        try:
            probe.bind(place)
        except OSError:
            return False
    return True


def _key(rank: int) -> str:
    return f"machine/{rank}"


def _serve(machines: Machines) -> "TCPStore":
    from torch.distributed import TCPStore

    timeout = timedelta(seconds=ANSWER_TIMEOUT_SECONDS)
    try:
        return TCPStore(machines.address, machines.port, is_master=True, wait_for_workers=False, timeout=timeout)
    except RuntimeError:
        rule = f"must be a free port of the first machine, and {machines.port} is in use"
        raise UserError(f"MASTER_PORT: {rule}; set another one on every machine") from None


def _find(machines: Machines, stage: str) -> "TCPStore":
    """Wait until the first machine waits for this one."""
    reported = False
    while not (store := _waiting_store(machines)):
        if not reported:
            command = f"`{machines.variables(0)} dvc repro`"
            print(f"waiting for the first machine to begin {stage}: {command}", file=sys.stderr, flush=True)
            reported = True
        time.sleep(POLL_SECONDS)
    return store


def _waiting_store(machines: Machines) -> "TCPStore | None":
    """Return the first machine's store; None where it does not answer, or its training has begun without this one."""
    from torch.distributed import TCPStore

    place = (machines.address, machines.port)
    try:
        socket.create_connection(place, PROBE_TIMEOUT_SECONDS).close()  # TCPStore would report each failure
        timeout = timedelta(seconds=ANSWER_TIMEOUT_SECONDS)
        store = TCPStore(*place, is_master=False, wait_for_workers=False, timeout=timeout)
        return None if _is_set(store, AGREED) else store
    except (OSError, RuntimeError):
        return None


def _is_set(store: "TCPStore", key: str) -> bool:
    """Return whether the store has a key; RuntimeError if it does not answer.

    The call itself would wait for ever, and let no Ctrl-C through.
    """
    answer: Future[bool] = Future()

    def ask() -> None:
        try:
            answer.set_result(store.check([key]))
        except RuntimeError as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="machines-ask", daemon=True).start()
    try:
        return answer.result(ANSWER_TIMEOUT_SECONDS)
    except TimeoutError:
        raise RuntimeError("no answer") from None


def _gather(store: "TCPStore", machines: Machines, stage: str) -> list[dict[str, Any]]:
    """Return what each machine says of itself, by rank."""
    reported, end = False, time.monotonic() + JOIN_TIMEOUT_SECONDS
    while missing := [rank for rank in range(machines.count) if not store.check([_key(rank)])]:
        others = " and ".join(f"`{machines.variables(rank)} llmcore join`" for rank in missing)
        if time.monotonic() > end:
            raise UserError(
                f"{stage}: no other machine has run {others} in {JOIN_TIMEOUT_SECONDS:.0f} seconds; do that"
            )
        if not reported:
            minutes = f"for {JOIN_TIMEOUT_SECONDS / 60:.0f} minutes at most"
            print(f"{stage}: waiting for {others} on another machine, {minutes}", file=sys.stderr, flush=True)
            reported = True
        time.sleep(POLL_SECONDS)
    return [parse_json(store.get(_key(rank)).decode()) for rank in range(machines.count)]


def _agreed(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    error = ""
    for rank, entry in enumerate(entries):
        for what, value in (("NNODES", "count"), ("the stage", "stage")):
            if entry[value] != entries[0][value]:
                both = f"{entries[0][value]} on the first machine and {entry[value]} on that of NODE_RANK {rank}"
                error = error or f"{what} must be the same on every machine, got {both}; correct it"
    local = [ip_address(entry["address"]).is_loopback for entry in entries]
    if any(local) and not all(local):  # as where /etc/hosts gives a machine's own name the address 127.0.1.1
        got = f"{entries[local.index(True)]['address']} on that of NODE_RANK {local.index(True)}"
        error = error or f"MASTER_ADDR must be an address in the network, got {got}; set it, the same on every machine"
    return {
        "error": error,
        "n_processes": min(entry["n_processes"] for entry in entries),
        "addresses": [entry["address"] for entry in entries],
        "processes": [entry["process"] for entry in entries],
    }


def _wait_for_readers(store: "TCPStore", count: int) -> None:
    end = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    while store.add(READ, 0) < count and time.monotonic() < end:
        time.sleep(POLL_SECONDS)
