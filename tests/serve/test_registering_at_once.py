"""Registering the same weights at once makes one version; files of DVC's cache may be links that cannot be written."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.cli import main
from llmcore.model.folder import save_language_model
from llmcore.model.registry import new_model
from llmcore.serve import register as registering
from llmcore.tracking import mlflow_store


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, tokenizer: Any, randomised: Any) -> Path:
    model = randomised(new_model(config))
    save_language_model(tmp_path / "models/base", model, tokenizer=tokenizer, origin={})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def versions() -> list[Any]:
    return list(mlflow_store.open_store().client.search_model_versions("name = 'base-model'"))


def test_same_weights_registered_by_several_processes_at_once_are_one_version(project: Path) -> None:
    mlflow_store.open_store()
    command = [sys.executable, "-m", "llmcore.cli", "register", "base"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(3)]
    printed = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0, 0], printed
    [version] = versions()
    assert {out.partition(" version ")[2].partition(" ")[0] for out, _ in printed} == {str(version.version)}
    found = mlflow_store.open_store().client.get_model_version_by_alias("base-model", "champion")
    assert found.version == version.version


def test_version_that_another_process_made_meanwhile_is_kept_and_the_own_removed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of events in which both find nothing before either has written."""
    save = registering.save

    def other_first(*arguments: Any) -> None:
        monkeypatch.setattr(registering, "save", save)
        assert main(["register", "base"]) == 0
        save(*arguments)

    monkeypatch.setattr(registering, "save", other_first)
    printed = registering.register("base", Path("models/base"), "base-model", "late")
    assert printed.startswith("base-model version 1 ")
    [version] = versions()
    client = mlflow_store.open_store().client
    assert [client.get_model_version_by_alias("base-model", alias).version for alias in ("champion", "late")] == [1, 1]
    assert version.tags["model_sha256"]


@pytest.mark.parametrize("whole_folder", [False, True])
def test_model_folder_of_read_only_links_is_registered(whole_folder: bool, project: Path) -> None:
    """As `dvc config cache.type symlink` leaves it."""
    cache = project / "cache"
    (project / "models/base").rename(cache)
    for path in cache.iterdir():
        path.chmod(0o444)
    if whole_folder:
        (project / "models/base").symlink_to(cache)
    else:
        (project / "models/base").mkdir()
        for path in cache.iterdir():
            (project / "models/base" / path.name).symlink_to(path)
    card = project / "reports/load_gpt2/plots/card.md"
    card.parent.mkdir(parents=True)
    card.write_text("# The card\n")
    (cache / "README.md").write_text("# An old card\n")
    (cache / "README.md").chmod(0o444)
    assert main(["register", "base"]) == 0
    [stored] = [path for path in project.rglob("README.md") if "mlartifacts" in path.parts]
    assert stored.read_text() == "# The card\n"
    assert not [path for path in (project / "mlartifacts").rglob("*") if path.is_symlink()]
    assert (cache / "README.md").read_text() == "# An old card\n"


def test_full_disk_is_not_blamed_on_the_store(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(registering, "save", fails)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free disk space"):
        registering.register("base", Path("models/base"), "base-model", "champion")


@pytest.mark.parametrize("code", ["INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "PERMISSION_DENIED", "BAD_REQUEST"])
def test_another_name_is_advised_only_where_the_name_is_refused(
    code: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ErrorCode

    def fails(*_: Any, **__: Any) -> None:
        raise MlflowException("the disk is on fire", error_code=ErrorCode.Value(code))

    for step in ("save", "with_card"):
        with monkeypatch.context() as patch:
            patch.setattr(registering, step, fails)
            with pytest.raises(UserError, match=r"the disk is on fire") as raised:
                registering.register("base", Path("models/base"), "base-model", "champion")
        assert "--name" not in str(raised.value)
