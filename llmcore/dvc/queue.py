"""Experiments built by the workers of DVC's queue, several at a time; those of the last commit are not built again."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.git import changed_files, git, git_error
from llmcore.base.progress import Bar
from llmcore.dvc.command import activated

POLL_SECONDS = 10  # between two looks at the queue; DVC computes for a second at each
MAX_LISTED_FILES = 5
MAX_LOOKS_WITHOUT_WORKERS = 3  # one that is busy may not answer at once

Settings = Mapping[str, object]  # key of params.yaml -> value


def run_queue(root: Path, experiments: Mapping[str, Settings], target: str, *, jobs: int) -> dict[str, str]:
    """Build the stage `target` with each experiment's settings; return the experiments' commits, by name.

    They are built in the order given, `jobs` at a time, in folders apart from the workspace. The workers are processes
    of their own: after an interruption they go on, and the next call waits for them. UserError if files other than
    results are not committed, because the experiments are of the last commit, and for experiments that failed.
    """
    require_commit(root)
    head = git(root, "rev-parse", "--short", "HEAD")
    queued = {f"{name}-{head}": settings for name, settings in experiments.items()}  # an older commit's are others
    there = finished(root)
    missing = [name for name in queued if name not in there]
    states, workers = queue_status(root)
    for name in missing:
        state = states.get(name)
        if state == "Queued" or (state == "Running" and workers):
            continue
        if state == "Running":  # its worker was killed
            _dvc(root, "queue", "kill", name)
        if state:
            _dvc(root, "queue", "remove", name)
        settings = [f"--set-param={key}={value}" for key, value in queued[name].items()]
        _dvc(root, "exp", "run", "--quiet", "--queue", "--name", name, *settings, target)
    if ahead := [name for name, state in states.items() if state in ("Queued", "Running") and name not in missing]:
        remedy = "`dvc queue remove --queued` drops those that wait, `dvc queue stop --kill` ends the workers"
        print(f"{len(ahead)} other experiments are in DVC's queue; {remedy}", file=sys.stderr, flush=True)
    if missing:
        try:
            wait_for(root, missing, jobs)
        except KeyboardInterrupt:
            print(
                "\nDVC's workers go on; the same command waits on, `dvc queue stop --kill` ends them", file=sys.stderr
            )
            raise
        there = finished(root)
    if failed := [name for name in missing if name not in there]:
        raise UserError(
            f"{', '.join(failed)}: must have a result, but the experiment failed; see `dvc queue logs {failed[0]}`, "
            "correct the error and try again"
        )
    return {name: there[f"{name}-{head}"] for name in experiments}


def require_commit(root: Path) -> None:
    """UserError unless the last commit has all tracked files but results as they are now."""
    try:
        changed = [name for name in changed_files(root) if not name.startswith("reports/")]
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"{root}: must be a git repository with a commit ({git_error(error)}); commit first") from None
    if changed:
        files = ", ".join(changed[:MAX_LISTED_FILES]) + (" ..." if len(changed) > MAX_LISTED_FILES else "")
        raise UserError(f"{files}: must be committed, because DVC's experiments belong to a commit; commit first")


def finished(root: Path) -> dict[str, str]:
    """Return the commits of the experiments that were built from the last commit, by name."""
    head = git(root, "rev-parse", "HEAD")
    listed = git(
        root, "for-each-ref", "--format=%(refname:lstrip=4) %(objectname)", f"refs/exps/{head[:2]}/{head[2:]}/"
    )
    return dict(line.split() for line in listed.splitlines())


def queue_status(root: Path) -> tuple[dict[str, str], int]:
    """Return Queued, Running, Success or Failed of each named experiment in DVC's queue, and the number of workers."""
    *table, workers = _dvc(root, "queue", "status").splitlines()  # "Worker status: 1 active, 1 idle"
    # a line of the table: task, name, time created (two words or more), state
    rows = [line.split() for line in table[1:]]
    return {row[1]: row[-1] for row in rows if len(row) > 4}, sum(map(int, re.findall(r"\d+", workers)))


def wait_for(root: Path, names: list[str], jobs: int) -> None:
    """Have `jobs` workers build queued experiments, and show the progress until all have ended."""
    ended: set[str] = set()
    looks_without_workers = 0
    with Bar("experiments", len(names), "run", enabled=True) as bar:
        while True:
            states, workers = queue_status(root)
            before, ended = ended, {name for name in names if states.get(name) in ("Success", "Failed")}
            bar.advance(len(ended - before), running=str(sum(states.get(name) == "Running" for name in names)))
            if len(ended) == len(names):
                break
            if workers < jobs and "Queued" in states.values():
                _dvc(root, "queue", "start", "--jobs", str(jobs))
            looks_without_workers = 0 if workers else looks_without_workers + 1
            if looks_without_workers > MAX_LOOKS_WITHOUT_WORKERS:
                raise UserError("dvc queue: its workers must run, but they have ended; try again to start others")
            time.sleep(POLL_SECONDS)


def _dvc(root: Path, *arguments: str) -> str:
    """Return what a DVC command printed; UserError with its last line if it fails."""
    command = ["dvc", *arguments]
    done = subprocess.run(command, cwd=root, env=activated(), capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise UserError(f"dvc {' '.join(arguments[:2])}: must succeed ({reason}); correct the error and try again")
    return done.stdout
