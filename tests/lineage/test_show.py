"""Runs in a store are found, joined with dvc.lock by hashes, and described; mistakes are one line."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.files import write_text
from llmcore.cli import main
from llmcore.config.read import read_params
from llmcore.dvc.files import hash_of
from llmcore.lineage.runs import Run, Runs, open_runs
from llmcore.tracking.mlflow_store import open_store
from llmcore.tracking.run import tracked_run

STAGES = """\
stages:
  sample:
    cmd: python -m stages sample
    deps: [data/tokens, stages/sample.py]
    params: [sample]
    outs: [data/samples]
"""
LOCK = """\
schema: '2.0'
stages:
  sample:
    cmd: python -m stages sample
    deps:
    - {{path: data/tokens, md5: {tokens}}}
    params:
      params.yaml:
        sample: {{window_tokens: 104}}
    outs:
    - {{path: data/samples, md5: {samples}}}
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of one stage, run twice with the same result, with an edit of params.yaml before the second."""
    root = tmp_path_factory.mktemp("project")
    (root / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    write_text(root / "dvc.yaml", STAGES)
    write_text(root / ".gitignore", "data/\nml*\n.mlflow-spool/\n")
    write_text(root / "data/tokens/ids", "tokens")
    write_text(root / "data/samples/rows", "samples")
    hashes = {name: hash_of(root / "data" / name) for name in ("tokens", "samples")}
    write_text(root / "dvc.lock", LOCK.format(**hashes))
    names = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*names, "commit", "-qm", "first"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    with pytest.MonkeyPatch.context() as patch:
        set_up_environment(patch, root)
        for text in ("", "# an edit\n"):
            with open(root / "params.yaml", "a", encoding="utf-8") as file:
                file.write(text)
            with tracked_run("sample", read_params()):
                pass
    return root


def set_up_environment(patch: pytest.MonkeyPatch, root: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "LLMCORE_TRACKING", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        patch.delenv(name, raising=False)
    patch.setenv("DVC_ROOT", str(root))
    patch.chdir(root)


@pytest.fixture
def lineage(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    set_up_environment(monkeypatch, project)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(["lineage", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def made(project: Path) -> tuple[Run, Run]:
    """Return the run of the clean workspace and that of the edited one."""
    runs = open_runs()
    assert isinstance(runs, Runs)
    new, old = runs.writers({"data/samples": str(hash_of(project / "data/samples"))})
    return old, new


def test_a_run_records_its_inputs_its_outputs_and_the_edited_files(lineage: Command, project: Path) -> None:
    old, new = made(project)
    assert old.read == {"data/tokens": hash_of(project / "data/tokens")}
    assert old.wrote == {"data/samples": hash_of(project / "data/samples")}
    assert (old.changed, list(new.changed or {})) == ({}, ["params.yaml"])


@pytest.mark.parametrize("length", [32, 12])
def test_a_run_is_found_by_its_id_and_by_the_first_characters_of_it(
    lineage: Command, project: Path, length: int
) -> None:
    old, _ = made(project)
    code, out, _ = lineage(old.id[:length])
    assert code == 0
    assert out.splitlines()[:2] == [old.name, f"  id      {old.id}"]


def test_of_several_runs_with_one_name_the_newest_is_described(lineage: Command, project: Path) -> None:
    old, new = made(project)
    code, out, _ = lineage(new.name)
    assert code == 0
    assert out.splitlines()[0] == f"the newest of 2 runs named {new.name}; the others by id: {old.id[:8]}"
    assert f"  id      {new.id}" in out


def test_a_run_is_described_with_its_code_params_inputs_and_outputs(lineage: Command, project: Path) -> None:
    _, new = made(project)
    _, out, _ = lineage(new.id)
    assert " first\n  edits   params.yaml\n" in out
    assert "  sample.window_tokens 104\n" in out
    assert f"  data/tokens  {new.read['data/tokens'][:8]}  made by no stage" in out
    assert f"  data/samples  {new.wrote['data/samples'][:8]}  in the workspace" in out


def test_an_artifact_leads_to_the_newest_run_that_made_it(lineage: Command, project: Path) -> None:
    _, new = made(project)
    for path in ("data/samples", "data/samples/", "./data/samples/rows", str(project / "data/samples")):
        code, out, _ = lineage(path)
        assert code == 0
        assert f"  sample  run {new.title()}; 1 more made the same\n" in out


def test_without_a_store_an_artifact_still_has_its_stage(
    lineage: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    code, out, _ = lineage("data/samples")
    assert code == 0
    assert "  sample  no run in the store\n" in out
    assert out.endswith(f"no runs: {tmp_path}/mlflow.db does not exist yet\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["0" * 32], "must be a run's id, six of its first characters or more, its name, or a path"),
        (["no-such-run"], "must be a run's id"),
        (["it's"], "must be a run's id"),
        (["no-such-run", "--checkout"], "must be a run's id"),
        (["data/nothing"], "must be an output of a stage of dvc.lock, or inside one (data/samples, reports/...)"),
        (["data"], "must be an output of a stage"),
        (["data/samples", "--checkout"], "must be a run to check out; `llmcore lineage data/samples` names the one"),
    ],
)
def test_a_target_that_is_neither_run_nor_artifact_is_refused_in_one_line(
    lineage: Command, arguments: list[str], line: str
) -> None:
    code, out, err = lineage(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {arguments[0]}: {line}")
    assert len(err.splitlines()) == 1


def test_without_dvc_lock_or_store_the_message_names_what_is_missing(
    lineage: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_up_environment(monkeypatch, tmp_path)
    assert lineage("models/classifier")[2].startswith("error: models/classifier: dvc.lock must name the stage")
    assert "mlflow.db does not exist yet" in lineage("abcdef12")[2]
    assert "mlflow.db does not exist yet" in lineage("abcdef12", "--checkout")[2]
    assert list(tmp_path.iterdir()) == []


def test_without_a_git_repository_nothing_is_checked_out(
    lineage: Command, project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    code, _, err = lineage(made(project)[0].id, "--checkout")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}: must be a git repository with a commit")


def test_repository_that_git_refuses_is_named_with_gits_reason(
    lineage: Command, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in a container with another user
    run = made(project)[0].id
    assert "git refuses to work here (fatal: detected dubious ownership" in lineage(run)[1]
    code, _, err = lineage(run, "--checkout")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "git refuses to work here (fatal: detected dubious ownership" in err
    assert "git config --global --add safe.directory" in err


def test_password_in_what_a_run_recorded_is_not_printed(lineage: Command, project: Path) -> None:
    run = made(project)[0].id
    client = open_store().client
    client.set_tag(run, "model_sha256.base", "https://mia:hunter2@host/model")
    client.log_param(run, "weights.path", "https://mia:hunter2@host/model?token=t0ken")
    out = lineage(run)[1]
    assert "https://***@host/model" in out
    assert "hunter2" not in out
    assert "t0ken" not in out
