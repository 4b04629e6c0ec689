"""What `dvc repro` would run, as DVC itself finds it."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError

PARAMS_FILE = "params.yaml"


@dataclass
class StageStatus:
    """A stage of dvc.yaml: what changed since dvc.lock, and the stages whose outputs it reads."""

    name: str
    code: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)  # changed; a missing one is in `missing`
    missing: list[str] = field(default_factory=list)  # inputs and outputs
    others: list[str] = field(default_factory=list)  # a changed command, an output changed by hand
    reads: list[str] = field(default_factory=list)

    @property
    def runs(self) -> bool:
        return any((self.code, self.params, self.inputs, self.missing, self.others))

    @property
    def reason(self) -> str:
        """What changed, in a few words; empty if nothing did."""
        named = {"params": self.params, "code": self.code, "input": self.inputs, "missing": self.missing}
        found = [f"{kind} {_few(names)}" for kind, names in named.items() if names]
        return "; ".join(found + self.others)


def stage_status(root: Path) -> dict[str, StageStatus]:
    """Return every stage by name, in dvc.yaml's order but after those that it reads; UserError if DVC cannot tell."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    import networkx
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            changes = repo.status()
            place = {stage.addressing: number for number, stage in enumerate(repo.index.stages)}
            graph = networkx.relabel_nodes(repo.index.graph, lambda stage: stage.addressing)
    except DvcException as error:
        raise UserError(f"dvc status: {' '.join(str(error).split())}") from None
    found = {}
    for name in networkx.lexicographical_topological_sort(graph.reverse(), key=place.__getitem__):
        found[name] = StageStatus(name, reads=sorted(graph.successors(name)))
        for entry in changes.get(name, []):
            _read(found[name], entry)
    return found


def _read(status: StageStatus, entry: Any) -> None:
    if not isinstance(entry, dict):  # "changed command"
        status.others.append(str(entry))
        return
    for path, change in entry.get("changed deps", {}).items():
        if path == PARAMS_FILE and isinstance(change, dict):
            status.params += change
        elif change in ("deleted", "not in cache"):
            status.missing.append(path)
        else:
            (status.code if path.endswith(".py") else status.inputs).append(path)
    for path, change in entry.get("changed outs", {}).items():
        (status.missing if change in ("deleted", "not in cache") else status.others).append(path)


def runs_after(stages: dict[str, StageStatus]) -> set[str]:
    """Return the stages that run only if one before them makes other outputs than it did."""
    found: set[str] = set()
    for name, status in stages.items():
        if not status.runs and any(stages[read].runs or read in found for read in status.reads):
            found.add(name)
    return found


def keeps_data(stages: dict[str, StageStatus], name: str) -> bool:
    """Return whether a stage's recorded results hold for these params: code apart, nothing changed up to it."""
    status = stages[name]
    changed = status.params or status.inputs or status.others
    return not changed and all(keeps_data(stages, read) for read in status.reads)


def _few(names: list[str], most: int = 1) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
