"""The lineage tree of an artifact, from dvc.lock: its stage, the inputs of that stage, and so on to the downloads."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.dvc.files import Locked
from llmcore.lineage.runs import Run

WIDTH_CHARACTERS = 110
INDENT = "  "
SHOWN_HASH_CHARACTERS = 8


@dataclass(frozen=True)
class Workspace:
    """The workspace and the store, queried for each path and stage of the tree."""

    state: Callable[[str, str], str]  # (path, hash in dvc.lock) -> hash and comparison with the workspace
    runs: Callable[[Locked], list[Run]]  # stage -> runs that made its outputs, newest first
    source: Callable[[str], str | None]  # path -> kind and licence, where stated
    params: Mapping[str, Any]  # the present ones, under dotted keys


def maker(lock: Mapping[str, Locked], path: str) -> tuple[Locked, str] | None:
    """Return the stage that makes `path` and the output that contains it; None if no stage makes it."""
    for stage in lock.values():
        for out in stage.outs:
            if path == out or path.startswith(f"{out}/"):
                return stage, out
    return None


def tree(lock: Mapping[str, Locked], path: str, workspace: Workspace) -> list[str]:
    """Return the lineage of an output as indented lines; each stage is described once."""
    return list(_artifact(lock, path, workspace, "", set()))


def _artifact(
    lock: Mapping[str, Locked], path: str, workspace: Workspace, indent: str, described: set[str]
) -> Iterator[str]:
    found = maker(lock, path)
    if found is None:
        yield f"{indent}{path}  made by no stage"
        return
    stage, out = found
    source = workspace.source(out) if stage.name.startswith("download") else None
    inside = f", in {out}" if out != path else ""
    yield f"{indent}{path}{inside}  {workspace.state(out, stage.outs[out])}{f'  ({source})' if source else ''}"
    if stage.name in described:
        yield f"{indent}{INDENT}{stage.name}, see above"
        return
    described.add(stage.name)
    yield from _stage(lock, stage, workspace, indent + INDENT, described)


def _stage(
    lock: Mapping[str, Locked], stage: Locked, workspace: Workspace, indent: str, described: set[str]
) -> Iterator[str]:
    yield f"{indent}{stage.name}  {made_by(workspace.runs(stage))}"
    inner = indent + INDENT
    yield from _wrapped(f"{inner}code    ", _code(stage, workspace))
    yield from _wrapped(f"{inner}params  ", ", ".join(_param(*item, workspace.params) for item in stage.params.items()))
    for path in stage.inputs():
        yield from _artifact(lock, path, workspace, inner, described)


def _wrapped(title: str, text: str) -> list[str]:
    wrapper = textwrap.TextWrapper(
        WIDTH_CHARACTERS, title, " " * len(title), break_on_hyphens=False, break_long_words=False
    )
    return wrapper.wrap(text or "none")


def made_by(runs: list[Run]) -> str:
    """Return the newest of the runs that made an output, and the number of the others."""
    if not runs:
        return "no run in the store"
    others = f"; {len(runs) - 1} more made the same" if len(runs) > 1 else ""
    return f"run {runs[0].title()}{others}"


def _code(stage: Locked, workspace: Workspace) -> str:
    code = stage.code()
    changed = [path for path, md5 in code.items() if not workspace.state(path, md5).endswith("as in dvc.lock")]
    return f"{len(code)} files as in dvc.lock" if not changed else f"changed since: {', '.join(changed)}"


def _param(key: str, value: Any, now: Mapping[str, Any]) -> str:
    return f"{key}={value}" if now.get(key, value) == value else f"{key}={value} (now {now[key]})"
