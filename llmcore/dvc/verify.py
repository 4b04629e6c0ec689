"""Build the last commit again, elsewhere and from nothing, and compare with what it recorded, stage by stage."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.numerics import cpu_name
from llmcore.dvc.differences import folder_differences
from llmcore.dvc.files import LOCK_FILE, md5, read_lock


def verify(root: Path) -> bool:
    """Rebuild HEAD of the repository at `root` in a temporary clone, print the comparison; True if all is identical."""
    with tempfile.TemporaryDirectory(prefix="llmcore-verify-") as folder:
        clone = Path(folder) / "clone"
        clone_head(root, clone)
        expected = locked_outs(clone)
        if not expected:
            raise UserError("dvc.lock: must be committed, for its hashes are compared; `dvc repro`, then commit")
        print(f"building {clone} from nothing; this takes as long as `dvc repro` does", flush=True)
        if subprocess.run(["dvc", "repro"], cwd=clone, env=environment()).returncode:
            raise UserError("verify: the build failed, see above; mend it and try again")
        lines = list(report(expected, locked_outs(clone), root, clone))
        print("\n".join(lines))
        same = all(line.endswith(": identical") for line in lines)
        print("All outputs are identical." if same else probable_cause(root))
        return same


def clone_head(root: Path, clone: Path) -> None:
    """Clone the last commit; UserError where there is none."""
    command = ["git", "clone", "--quiet", "--no-hardlinks", str(root), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (clone / "dvc.yaml").is_file():
        reason = done.stderr.strip().splitlines()[-1:] or ["it has no dvc.yaml"]
        raise UserError(f"{root}: must be a git repository with a commit ({reason[0]}); commit first")


def environment() -> dict[str, str]:
    """Return this process's variables for the build: same interpreter, no tracking, nothing of an outer DVC."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"PATH": path, "PYTHONPATH": "", "LLMCORE_TRACKING": "off"}


def locked_outs(root: Path) -> dict[str, dict[str, str]]:
    """Return the hash of each output by stage and path, as dvc.lock has them."""
    return {name: dict(stage.outs) for name, stage in read_lock(root / LOCK_FILE).items()}


def report(
    expected: dict[str, dict[str, str]], found: dict[str, dict[str, str]], root: Path, clone: Path
) -> Iterator[str]:
    """Say for each stage that it is identical, or which output differs and by how much.

    How much is measured against the files at `root`, where they are.
    """
    for stage in sorted(expected.keys() | found.keys()):
        before, after = expected.get(stage, {}), found.get(stage, {})
        differing = [path for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)]
        yield f"{stage}: {'differs' if differing else 'identical'}"
        for path in differing:
            yield f"  {path}"
            if not (root / path).exists():
                yield "    by how much is not known, it is not here; `dvc checkout` or `dvc repro` brings it"
                continue
            if (root / path).is_file() and md5(root / path) != before.get(path):
                yield "    compared with the file here, which is not that of the commit"
            yield from (f"    {line}" for line in folder_differences(root / path, clone / path))


def probable_cause(root: Path) -> str:
    """Say what likely makes the outputs differ: other versions than locked, else another processor."""
    import torch

    others = list(other_versions((root / "requirements.lock").read_text(encoding="utf-8")))
    if others:
        return f"Probable cause: other versions than requirements.lock names: {', '.join(others)}."
    here = f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"Probable cause: dvc.lock was made on another type of processor; here: {here}."


def other_versions(lock: str) -> Iterator[str]:
    """Name each package of a lock file whose installed version is another."""
    for name, wanted in re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", lock, re.MULTILINE):
        try:
            installed = version(name).partition("+")[0]  # torch names its build: 2.13.0+cpu
        except PackageNotFoundError:
            continue  # of another platform
        if installed != wanted.partition("+")[0]:
            yield f"{name} {installed} instead of {wanted}"
