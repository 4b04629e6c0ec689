"""Build the last commit in a fresh clone and compare the outputs with dvc.lock, stage by stage."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.git import git, git_error
from llmcore.base.numerics import cpu_name
from llmcore.dvc.command import activated
from llmcore.dvc.differences import folder_differences
from llmcore.dvc.files import LOCK_FILE, STAGES_FILE, md5, read_lock


def verify(root: Path) -> bool:
    """Build HEAD of the repository `root` in a temporary clone, print the comparison, return whether all is equal."""
    with tempfile.TemporaryDirectory(prefix="llmcore-verify-") as folder:
        clone = Path(folder) / "clone"
        clone_head(root, clone)
        expected = locked_outs(clone)
        if not expected:
            raise UserError(
                "dvc.lock: must be committed, because its hashes are compared; run `dvc repro`, then commit"
            )
        print(f"building {clone} without a cache; this takes as long as a first `dvc repro`", flush=True)
        if subprocess.run(["dvc", "repro"], cwd=clone, env=environment()).returncode:
            raise UserError("verify: the build failed; correct the error above and try again")
        lines = list(report(expected, locked_outs(clone), root, clone))
        print("\n".join(lines))
        same = all(line.endswith(": identical") for line in lines)
        print("All outputs are identical." if same else probable_cause(root))
        return same


def clone_head(root: Path, clone: Path) -> None:
    """Clone the last commit into the folder `clone`; UserError if there is none, or if it has no dvc.yaml."""
    try:
        git(root, "clone", "--quiet", "--no-hardlinks", ".", str(clone.absolute()), timeout_seconds=None)
        reason = None if (clone / STAGES_FILE).is_file() else f"it has no {STAGES_FILE}"
    except (OSError, subprocess.SubprocessError) as error:
        reason = git_error(error)
    if reason:
        raise UserError(f"{root}: must be a git repository with a commit ({reason}); commit first")


def environment() -> dict[str, str]:
    """Return the environment of the build: the same interpreter, no tracking, no variables of an outer DVC."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    return activated(kept) | {"PYTHONPATH": "", "LLMCORE_TRACKING": "off"}


def locked_outs(root: Path) -> dict[str, dict[str, str]]:
    """Return the hashes of all outputs in dvc.lock, by stage and path."""
    return {name: dict(stage.outs) for name, stage in read_lock(root / LOCK_FILE).items()}


def report(
    expected: dict[str, dict[str, str]], found: dict[str, dict[str, str]], root: Path, clone: Path
) -> Iterator[str]:
    """Yield the lines of the comparison: each stage, its differing outputs, and how they differ.

    The files of `clone` are compared with those at `root`, if they exist there.
    """
    for stage in sorted(expected.keys() | found.keys()):
        before, after = expected.get(stage, {}), found.get(stage, {})
        differing = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
        yield f"{stage}: {'differs' if differing else 'identical'}"
        for path in differing:
            yield f"  {path}"
            if not (root / path).exists():
                yield "    cannot be compared, because it is missing here; run `dvc checkout` or `dvc repro`"
                continue
            if (root / path).is_file() and md5(root / path) != before.get(path):
                yield "    compared with the file here, which differs from the one of the commit"
            yield from (f"    {line}" for line in folder_differences(root / path, clone / path))


def probable_cause(root: Path) -> str:
    """Return the probable cause of differing outputs: other versions than locked, else another processor."""
    import torch

    differing = list(other_versions((root / "requirements.lock").read_text(encoding="utf-8")))
    if differing:
        return f"Probable cause: versions that differ from requirements.lock: {', '.join(differing)}."
    here = f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"Probable cause: dvc.lock was made on another type of processor; here: {here}."


def other_versions(lock: str) -> Iterator[str]:
    """Yield each package of a lock file that is installed in another version."""
    for name, wanted in re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock, re.MULTILINE):
        try:
            installed = version(name).partition("+")[0]  # torch appends its build: 2.13.0+cpu
        except PackageNotFoundError:
            continue  # needed on other platforms only
        if installed != wanted.partition("+")[0]:
            yield f"{name} {installed} instead of {wanted}"
