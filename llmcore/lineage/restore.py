"""Go back to the code, params.yaml and artifacts of a run, with `git checkout` and `dvc checkout`.

Nothing of the user's is lost: uncommitted edits are refused, git keeps files in its way, and `dvc checkout`
keeps data that is not in DVC's cache.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import write_bytes
from llmcore.base.git import changed_files, git, git_error, git_problem, git_succeeds, is_committed
from llmcore.dvc.files import LOCK_FILE, PARAMS_FILE, hash_of, read_lock
from llmcore.lineage.runs import Run, one_run, open_runs
from llmcore.lineage.show import edits
from llmcore.lineage.tree import maker

PARAMS = PARAMS_FILE.as_posix()


def checkout(root: Path, target: str) -> str:
    """Check out the run with the id or name `target`; return a report with the way back.

    UserError, with nothing changed, if there is no such run or commit, or if there are uncommitted edits.
    """
    if maker(read_lock(root / LOCK_FILE), target.rstrip("/")):
        raise UserError(f"{target}: must be a run to check out; `llmcore lineage {target}` names the one that made it")
    runs = open_runs()
    if isinstance(runs, str):
        raise UserError(f"{target}: must be a run, but {runs}")
    run, note = one_run(runs, target)
    with tempfile.TemporaryDirectory() as folder:
        lines = restore(root, run, runs.params_file(run, Path(folder)))
    return "\n".join([*([note] if note else []), *lines])


def restore(root: Path, run: Run, params: bytes | None) -> list[str]:
    """Check out a run's commit and artifacts, put `params`, its params.yaml, in place, and return a report."""
    commit = known_commit(root, run)
    refuse_uncommitted_edits(root)
    back = git(root, "branch", "--show-current") or git(root, "rev-parse", "HEAD")
    edited = [name for name in edits(run, read_lock(root / LOCK_FILE)) if name != PARAMS or params is None]
    try:
        git(root, "checkout", "--quiet", "--no-overwrite-ignore", "--detach", commit, timeout_seconds=None)
    except subprocess.CalledProcessError as error:
        raise UserError(f"{commit}: git cannot check it out ({git_error(error)}); correct that and try again") from None
    origin = "the commit"
    path = root / PARAMS_FILE
    if params is not None and (not path.is_file() or path.read_bytes() != params):
        write_bytes(path, params)
        origin = "the run"
    is_complete = subprocess.run([sys.executable, "-m", "dvc", "checkout"], cwd=root).returncode == 0
    same = {path: hash_of(root / path) == md5 for path, md5 in {**run.read, **run.wrote}.items()}
    needs_repro = not is_complete or not all(same.values())
    stash = "git stash && " if needs_repro or origin == "the run" else ""  # `dvc repro` edits dvc.lock
    return [
        f"Now at {run.title()}: commit {commit[:10]}, {PARAMS} of {origin}",
        *comparison(run, edited, same),
        *(["`dvc repro` restores or builds the rest; what its cache has is not built again"] if needs_repro else []),
        f"To come back: {stash}git checkout {back} && dvc checkout",
    ]


def known_commit(root: Path, run: Run) -> str:
    """Return the commit of a run; UserError unless it is in the git repository at `root`."""
    if not git_succeeds(root, "rev-parse", "HEAD"):
        if problem := git_problem(root):
            raise UserError(f"{root.absolute()}: git refuses to work here ({problem})")
        rule = "must be a git repository with a commit"
        raise UserError(f"{root.absolute()}: {rule}; run in the clone that made {run.name}")
    if run.commit is None:
        raise UserError(f"{run.name}: was made outside a git repository, its code is unknown; choose another run")
    if not git_succeeds(root, "cat-file", "-e", f"{run.commit}^{{commit}}"):
        raise UserError(f"{run.name}: its commit {run.commit} is not in this repository; `git fetch` it")
    return run.commit


def refuse_uncommitted_edits(root: Path) -> None:
    """UserError if a tracked file differs from the last commit, or params.yaml is in no commit."""
    unsaved = list(changed_files(root))
    if (root / PARAMS_FILE).is_file() and not is_committed(root, PARAMS):
        unsaved = unsaved or [PARAMS]
    if unsaved:
        more = f" and {len(unsaved) - 1} more" if len(unsaved) > 1 else ""
        raise UserError(f"{unsaved[0]}{more}: must be as in the last commit; commit the edits, or `git stash` them")


def comparison(run: Run, edited: list[str], same: Mapping[str, bool]) -> Iterator[str]:
    """Yield the lines that compare the workspace with the run's: files that are not restored, hashes of paths."""
    if run.changed is None and run.tags.get("git.dirty") == "true":
        yield "  some files differed from the commit, their names were not recorded: the code may not be the run's"
    yield from (f"  {name}  not restored: the run used an edited version that is not in its commit" for name in edited)
    yield from (f"  {path}  {'the same' if equal else 'not the same'} as in the run" for path, equal in same.items())
