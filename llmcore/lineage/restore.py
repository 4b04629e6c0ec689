"""Back to the workspace that a run was made in: code by git, params.yaml from the run, artifacts by DVC, untrained.

Nothing of the user's is lost: what neither git nor DVC's cache nor a checkout before this one holds is a
UserError before anything is touched.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_file, write_bytes, write_json
from llmcore.base.git import DELETED, changed_files, git, git_succeeds, new_code
from llmcore.config.read import PARAMS_FILE
from llmcore.dvc.files import LOCK_FILE, hash_of, listing, listing_hash, md5, read_lock
from llmcore.dvc.fsck import cache_folder
from llmcore.lineage.runs import Run, one_run, open_runs
from llmcore.lineage.show import WEIGHTS, edits
from llmcore.lineage.tree import maker

LEDGER = "track"  # runs after every change, trains nothing
NOTE_FILE = Path(".dvc/tmp/lineage.json")  # of the last checkout: the way back, and the files it left unlike HEAD


@dataclass(frozen=True)
class Plan:
    """What a checkout writes over the run's commit, and what of the run it cannot."""

    commit: str
    files: Mapping[str, bytes | None]  # None: the file was deleted
    lost: list[str]  # files whose content no commit has


def checkout(root: Path, target: str) -> str:
    """Restore the workspace of a run and return what was restored, what was not, and the way back.

    UserError, with nothing touched, if there is no such run or commit, or if something would be lost.
    """
    if maker(read_lock(root / LOCK_FILE), target.rstrip("/")):
        raise UserError(f"{target}: must be a run to check out; `llmcore lineage {target}` names the one that made it")
    runs = open_runs()
    if isinstance(runs, str):
        raise UserError(f"{target}: must be a run, but {runs}")
    run, note = one_run(runs, target)
    need_commit(root, run)
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_of(root, run, runs.params_file(run, Path(folder)))
    before = read_json(root / NOTE_FILE) if (root / NOTE_FILE).is_file() else {}
    restored = before.get("files", {})
    need_saved(root, plan, restored)
    back = way_back(root, before)
    switch(root, plan.commit, restored)
    try:
        for name, content in plan.files.items():
            (root / name).unlink(missing_ok=True) if content is None else write_bytes(root / name, content)
        unbuilt = restore_artifacts(root)
    finally:  # what was written is no work of the user's, even if the rest failed
        left = changed_files(root) | new_code(root)
        write_json(root / NOTE_FILE, {"back": back, "head": plan.commit, "files": left})
    return "\n".join([*([note] if note else []), *report(root, run, plan, unbuilt, back)])


def need_commit(root: Path, run: Run) -> None:
    """UserError unless the run's commit is in the git repository at `root`."""
    if not git_succeeds(root, "rev-parse", "HEAD"):
        raise UserError(
            f"{root.absolute()}: must be a git repository with a commit; run in the clone that made {run.name}"
        )
    if run.commit is None:
        raise UserError(f"{run.name}: was made outside a git repository, so its code is not known; choose another run")
    if not git_succeeds(root, "cat-file", "-e", f"{run.commit}^{{commit}}"):
        raise UserError(f"{run.name}: its commit {run.commit} is not in this repository; `git fetch` it")


def plan_of(root: Path, run: Run, params: bytes | None) -> Plan:
    """Return what has to be written after the run's commit is checked out."""
    assert run.commit
    files: dict[str, bytes | None] = {}
    lost = []
    for name, blob in edits(run, read_lock(root / LOCK_FILE)).items():
        if name == PARAMS_FILE.as_posix():
            continue
        if not (root / name).resolve().is_relative_to(root.resolve()) or name.startswith(".git/"):
            raise UserError(f"{run.name}: may only name files of this project, got {name!r}; choose another run")
        if blob == DELETED:
            files[name] = None
        elif (content := blob_content(root, blob)) is not None:
            files[name] = content
        else:
            lost.append(name)
    if params is not None:
        files[PARAMS_FILE.as_posix()] = params
    elif run.tags.get("git.dirty") != "false":
        lost.append(PARAMS_FILE.as_posix())
    return Plan(run.commit, files, lost)


def blob_content(root: Path, blob: str) -> bytes | None:
    """Return the content that git has under a name, None if it has none."""
    done = subprocess.run(["git", "-C", str(root), "cat-file", "blob", blob], capture_output=True)
    return done.stdout if done.returncode == 0 else None


def need_saved(root: Path, plan: Plan, restored: Mapping[str, str]) -> None:
    """UserError if the workspace holds what only it holds; `restored` are files that a checkout before left here."""
    new = {name: blob for name, blob in new_code(root).items() if name in plan.files}
    unsaved = [name for name, blob in (changed_files(root) | new).items() if restored.get(name) != blob]
    if unsaved:
        more = f" and {len(unsaved) - 1} more" if len(unsaved) > 1 else ""
        raise UserError(f"{unsaved[0]}{more}: must be as in the last commit; commit the edits, or `git stash` them")
    cache = cache_folder(root)
    for stage in read_lock(root / LOCK_FILE).values():
        for out in stage.outs:
            if not git_succeeds(root, "ls-files", "--error-unmatch", out) and not in_cache(root / out, cache):
                rule = "must be in DVC's cache, which does not have what lies there now"
                raise UserError(f"{out}: {rule}; `dvc commit {stage.name}` keeps it, or remove it")


def in_cache(path: Path, cache: Path) -> bool:
    """Return whether every byte at `path` has a copy in DVC's cache."""
    if not path.exists():
        return True
    files = listing(path) if path.is_dir() else {}
    names = [listing_hash(files), *files.values()] if path.is_dir() else [md5(path)]
    return all((cache / name[:2] / name[2:]).is_file() for name in names)


def way_back(root: Path, before: Mapping[str, str]) -> str:
    """Return what to check out to come back: the branch; detached, where the last checkout came from, or the commit."""
    head = git(root, "rev-parse", "HEAD")
    return git(root, "branch", "--show-current") or (before["back"] if before.get("head") == head else head)


def switch(root: Path, commit: str, restored: Mapping[str, str]) -> None:
    """Check the commit out, detached unless it is HEAD already; what the last checkout left goes first.

    Not by --force, which would also overwrite files that git does not know.
    """
    for name, blob in new_code(root).items():
        if restored.get(name) == blob:
            (root / name).unlink()
    git(root, "reset", "--quiet", "--hard")
    if git(root, "rev-parse", "HEAD") == commit:
        return
    try:
        git(root, "checkout", "--quiet", "--no-overwrite-ignore", "--detach", commit)
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())
        raise UserError(f"{commit}: git cannot check it out ({reason}); mend that and try again") from None


def restore_artifacts(root: Path) -> list[str]:
    """Let DVC bring what it has for the code and params.yaml that are there; return the stages it would have to run.

    DVC runs a stage's command with $SHELL. Here that is `false`, so whatever would have to run fails at once.
    """
    dvc = [sys.executable, "-m", "dvc"]
    nothing = os.environ | {"SHELL": shutil.which("false") or "/bin/false"}
    subprocess.run([*dvc, "checkout", "--quiet"], cwd=root, capture_output=True)
    done = subprocess.run([*dvc, "repro", "--keep-going"], cwd=root, capture_output=True, text=True, env=nothing)
    unbuilt = not_reproduced(done.stdout + done.stderr)
    if done.returncode and not unbuilt:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"dvc repro: cannot restore artifacts ({reason}); mend that and try again")
    return unbuilt


def not_reproduced(printed: str) -> list[str]:
    """Return the stages that `dvc repro --keep-going` names as failed or skipped, in the order of its words."""
    told = re.findall(r"^.*(?:failed to reproduce|will be skipped due to this failure).*$", printed, re.MULTILINE)
    return list(dict.fromkeys(name for line in reversed(told) for name in re.findall(r"'([^']+)'", line)))


def report(root: Path, run: Run, plan: Plan, unbuilt: list[str], back: str) -> list[str]:
    """Say how far the workspace is the run's: hashes compared, stages to build, code that is lost, the way back."""
    lines = [
        f"Now at {run.title()}: commit {plan.commit[:10]}, with its {', '.join(plan.files) or 'files as they are'}"
    ]
    if run.changed is None and run.tags.get("git.dirty") == "true":
        lines.append("  files differed from the commit then, which was not noted: the code may not be the run's")
    lines += [f"  {name}  cannot be restored: no commit has what it held in the run" for name in plan.lost]
    for path, md5_ in {**run.read, **run.wrote}.items():
        lines.append(f"  {path}  {'the same' if hash_of(root / path) == md5_ else 'not the same'} as in the run")
    lines += weights_line(root, run)
    if left := [stage for stage in unbuilt if stage != LEDGER]:
        lines.append(f"`dvc repro` builds what DVC's cache does not have: {', '.join(left)}")
    return [*lines, f"To come back: git checkout --force {back} && dvc checkout"]


def weights_line(root: Path, run: Run) -> list[str]:
    """Compare the weights of a run that noted no other hash, as early ones do."""
    wanted, stage = run.tags.get("model_sha256"), read_lock(root / LOCK_FILE).get(run.stage)
    if run.wrote or not wanted or not stage:
        return []
    files = [f"{out}/{WEIGHTS}" for out in stage.outs if (root / out / WEIGHTS).is_file()]
    same = ["the same" if sha256_file(root / file) == wanted else "not the same" for file in files]
    return [f"  {file}  {word} as in the run" for file, word in zip(files, same, strict=True)]
