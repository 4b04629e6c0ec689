"""The lineage of an artifact, from dvc.lock, and of a run, from the store; both compared with the workspace."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from llmcore.base.containers import flat
from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml, sha256_file
from llmcore.base.git import git, git_problem, git_succeeds
from llmcore.base.origin import NOT_STATED, read_source
from llmcore.dvc.files import LOCK_FILE, PARAMS_FILE, Locked, hash_of, read_lock
from llmcore.lineage.runs import Run, Runs, one_run, open_runs
from llmcore.lineage.tree import SHOWN_HASH_CHARACTERS, Workspace, made_by, maker, tree

WEIGHTS = "model.safetensors"


def lineage(root: Path, target: str) -> str:
    """Return the lineage of a path that a stage of dvc.lock makes, or of a run.

    UserError if `target` is neither. Without a store, the lineage of an artifact names no runs and ends with
    the reason.
    """
    lock = read_lock(root / LOCK_FILE)
    path = inside(root, target)
    runs = open_runs()
    if path and maker(lock, path):
        note = [runs] if isinstance(runs, str) else []
        return "\n".join([*tree(lock, path, workspace(root, None if isinstance(runs, str) else runs)), *note])
    if path and ("/" in target or Path(target).exists()):
        raise UserError(no_such_path(lock, target))
    if isinstance(runs, str):
        raise UserError(f"{target}: must be a path that a stage of dvc.lock makes or a run, but {runs}")
    run, note_ = one_run(runs, target)
    return "\n".join([*([note_] if note_ else []), *describe(root, run, runs, lock)])


def inside(root: Path, target: str) -> str | None:
    """Return a path relative to the root, as in dvc.lock; None if it is outside."""
    try:
        return (Path.cwd() / target).absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return None


def no_such_path(lock: dict[str, Locked], target: str) -> str:
    """Return the message for a path without lineage."""
    if not lock:
        return f"{target}: dvc.lock must name the stage that makes it, but it is missing or empty; run `dvc repro`"
    outs = [out for stage in lock.values() for out in stage.outs if not out.startswith("reports/")]
    return f"{target}: must be an output of a stage of dvc.lock, or inside one ({', '.join(outs)}, reports/...)"


def workspace(root: Path, runs: Runs | None) -> Workspace:
    """Return the workspace at `root` with the runs of the store; every path is hashed at most once."""
    present = cache(lambda path: hash_of(root / path))

    def state(path: str, wanted: str) -> str:
        found = present(path)
        compared = "missing" if found is None else "as in dvc.lock" if found == wanted else "changed since dvc.lock"
        return f"{wanted[:SHOWN_HASH_CHARACTERS]} {compared}"

    def makers(stage: Locked) -> list[Run]:
        if runs is None:
            return []
        found = runs.writers(stage.outs)
        from_these = [run for run in found if run.read.items() >= stage.inputs().items()]
        return from_these or found or makers_of_weights(stage)

    def makers_of_weights(stage: Locked) -> list[Run]:
        """Search by the hash of the weights, if they are those of dvc.lock; early runs recorded nothing else."""
        assert runs is not None
        for out, wanted in stage.outs.items():
            if (root / out / WEIGHTS).is_file() and present(out) == wanted:
                return runs.makers_of_weights(stage.name, sha256_file(root / out / WEIGHTS))
        return []

    return Workspace(state, makers, lambda path: source_of(root / path), present_params(root))


def source_of(folder: Path) -> str | None:
    """Return the kind and licence of a download, None if it states no licence."""
    source = read_source(folder) if folder.exists() else None
    return f"{source.kind}, {source.licence}" if source and source.licence != NOT_STATED else None


def present_params(root: Path) -> dict[str, object]:
    """Return the values of params.yaml under dotted keys; none if the file is missing or broken."""
    try:
        return flat(read_yaml(root / PARAMS_FILE))
    except UserError:
        return {}


def describe(root: Path, run: Run, runs: Runs, lock: dict[str, Locked]) -> Iterator[str]:
    """Yield the lines of a run: time, code, params, inputs with the runs that made them, outputs."""
    took = "" if run.seconds is None else f", {run.seconds:.0f} s"
    yield run.name
    yield f"  id      {run.id}"
    yield f"  stage   {run.stage}"
    yield f"  when    {run.started:%Y-%m-%d %H:%M:%S}{took}"
    yield f"  status  {run.status}"
    yield "code"
    yield f"  commit  {commit_line(root, run)}"
    yield f"  edits   {edits_line(run, lock)}"
    yield "params"
    yield from (f"  {key} {value}" for key, value in sorted(run.params.items()))
    yield "inputs"
    for path, md5 in run.read.items():
        makers = made_by(runs.writers({path: md5})) if maker(lock, path) else "made by no stage"
        yield f"  {path}  {md5[:SHOWN_HASH_CHARACTERS]}  {makers}"
    yield from (f"  {name}: {source}, digest {digest[:SHOWN_HASH_CHARACTERS]}" for name, source, digest in run.datasets)
    yield "outputs"
    for path, md5 in run.wrote.items():
        place = "in the workspace" if hash_of(root / path) == md5 else "not in the workspace"
        yield f"  {path}  {md5[:SHOWN_HASH_CHARACTERS]}  {place}"
    weights = {key: value for key, value in sorted(run.tags.items()) if key.partition(".")[0] == "model_sha256"}
    yield from (f"  {key} {value}" for key, value in weights.items())


def commit_line(root: Path, run: Run) -> str:
    """Return the commit of a run with its subject."""
    if run.commit is None:
        return "none; the run was made outside a git repository"
    if not git_succeeds(root, "cat-file", "-e", f"{run.commit}^{{commit}}"):
        problem = git_problem(root)
        return f"{run.commit}, {f'git refuses to work here ({problem})' if problem else 'not in this repository'}"
    return git(root, "log", "-1", "--format=%h %s", run.commit)


def edits(run: Run, lock: dict[str, Locked]) -> dict[str, str]:
    """Return the files that differed from the run's commit, except those that the pipeline writes."""
    changed = run.changed or {}
    return {path: blob for path, blob in changed.items() if path != LOCK_FILE.as_posix() and not maker(lock, path)}


def edits_line(run: Run, lock: dict[str, Locked]) -> str:
    """Return the names of the files that differed from the run's commit."""
    if run.changed is None:
        dirty = {"true": "some files differed; their names were not recorded", "false": "none"}
        return dirty.get(run.tags.get("git.dirty", ""), "unknown")
    return ", ".join(edits(run, lock)) or "none"
