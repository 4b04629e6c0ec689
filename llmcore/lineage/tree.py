"""From an artifact back to the downloads: what dvc.lock says of its stage, that stage's inputs, and so on."""

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmcore.dvc.files import Locked
from llmcore.lineage.runs import Run

WIDTH, INDENT, SHORT = 110, "  ", 8


@dataclass(frozen=True)
class World:
    """What is there besides dvc.lock; asked for each path or stage that the tree comes to."""

    state: Callable[[str, str], str]  # a path and the hash it should have -> how it is in the workspace
    runs: Callable[[Locked], list[Run]]  # that made a stage's outputs, newest first
    source: Callable[[str], str | None]  # of a path: kind and licence, where it says so
    params: Mapping[str, Any]  # as they are now, under dotted keys


def maker(lock: Mapping[str, Locked], path: str) -> tuple[Locked, str] | None:
    """Return the stage whose output `path` is or lies in, and that output; None if no stage makes it."""
    for stage in lock.values():
        for out in stage.outs:
            if path == out or path.startswith(f"{out}/"):
                return stage, out
    return None


def tree(lock: Mapping[str, Locked], path: str, world: World) -> list[str]:
    """Return the lineage of an output as indented lines; each stage is told of once."""
    return list(_artifact(lock, path, world, "", set()))


def _artifact(lock: Mapping[str, Locked], path: str, world: World, indent: str, told: set[str]) -> Iterator[str]:
    found = maker(lock, path)
    if found is None:
        yield f"{indent}{path}  made by no stage"
        return
    stage, out = found
    source = world.source(out) if stage.name.startswith("download") else None
    inside = f", in {out}" if out != path else ""
    yield f"{indent}{path}{inside}  {world.state(out, stage.outs[out])}{f'  ({source})' if source else ''}"
    if stage.name in told:
        yield f"{indent}{INDENT}{stage.name}, see above"
        return
    told.add(stage.name)
    yield from _stage(lock, stage, world, indent + INDENT, told)


def _stage(lock: Mapping[str, Locked], stage: Locked, world: World, indent: str, told: set[str]) -> Iterator[str]:
    yield f"{indent}{stage.name}  {made_by(world.runs(stage))}"
    inner = indent + INDENT
    yield from _wrapped(f"{inner}code    ", _code(stage, world))
    yield from _wrapped(f"{inner}params  ", ", ".join(_param(*item, world.params) for item in stage.params.items()))
    for path in stage.inputs():
        yield from _artifact(lock, path, world, inner, told)


def _wrapped(title: str, text: str) -> list[str]:
    wrapper = textwrap.TextWrapper(WIDTH, title, " " * len(title), break_on_hyphens=False, break_long_words=False)
    return wrapper.wrap(text or "none")


def made_by(runs: list[Run]) -> str:
    """Name the newest of the runs that made the same."""
    if not runs:
        return "no run in the store"
    others = f"; the same was made by {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"run {runs[0].title()}{others}"


def _code(stage: Locked, world: World) -> str:
    code = stage.code()
    changed = [path for path, md5 in code.items() if not world.state(path, md5).endswith("as in dvc.lock")]
    return f"{len(code)} files as in dvc.lock" if not changed else f"changed since: {', '.join(changed)}"


def _param(key: str, value: Any, now: Mapping[str, Any]) -> str:
    return f"{key}={value}" if now.get(key, value) == value else f"{key}={value} (now {now[key]})"
