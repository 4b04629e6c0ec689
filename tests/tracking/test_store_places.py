"""The store lies inside its project, whatever the path is, also after a copy; a store that fails says why."""

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structure import ROOT

from llmcore.tracking.store_location import database_file, sqlite_uri

FOLDER = "what? now/100% %41#gr\u00fcn/a;b&c=mode=ro/it's"  # the property test below has the other characters
TIMEOUT_SECONDS = 120

RECORD = """
    from pathlib import Path
    from llmcore.tracking.mlflow_store import open_store
    store = open_store()
    run = store.begin({"stage": "pretrain", "time": 1, "name": "a run"})
    Path("file.txt").write_text("content")
    store.client.log_artifact(run, "file.txt")
    for found in store.client.search_runs([store.experiment("pretrain")]):
        print(Path(store.client.download_artifacts(found.info.run_id, "file.txt", ".")).read_text())
"""


def python(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    hidden = ("DVC_ROOT", "MLFLOW_TRACKING_URI")
    variables = {key: value for key, value in os.environ.items() if key not in hidden} | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.run(
        command, cwd=folder, env=variables | environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )


def content(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


any_character = st.characters(codec="utf-8", exclude_characters="\0/")
names = st.text(st.sampled_from("?%#&=;:+ '24F") | any_character, min_size=1).filter(lambda name: name[0] != ".")


@settings(deadline=None)  # the first call imports SQLAlchemy
@given(names)
def test_uri_of_any_file_leads_back_to_it_and_sqlalchemy_opens_that(name: str) -> None:
    from sqlalchemy import make_url

    file = Path("/folder", name, "mlflow.db")
    assert database_file(sqlite_uri(file)) == file
    assert make_url(sqlite_uri(file)).database == str(file)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "postgresql://h/x", "http://h", "mysql:///a.db"])
def test_other_stores_have_no_file(uri: str) -> None:
    assert database_file(uri) is None


def test_drivers_and_options_of_sqlite_are_no_part_of_the_file() -> None:
    for uri in ("sqlite:////x/a.db", "sqlite+pysqlite:////x/a.db?timeout=9", "sqlite:///file:/x/a.db?mode=ro&uri=true"):
        assert database_file(uri) == Path("/x/a.db")


@pytest.mark.parametrize("working", [".", "below/it"])
def test_store_of_a_project_lies_inside_it(working: str, tmp_path: Path) -> None:
    project = tmp_path / FOLDER
    (project / working).mkdir(parents=True)
    done = python(RECORD, project / working, DVC_ROOT=str(project))
    assert (done.returncode, done.stdout, done.stderr) == (0, "content\n", "")
    assert content(project) == {path.removeprefix(f"{FOLDER}/") for path in content(tmp_path)}
    assert [len(list(folder.iterdir())) for folder in project.parents[:4]] == [1, 1, 1, 1]
    assert (project / "mlflow.db").is_file()
    assert [path for path in content(project) if path.startswith("mlartifacts/pretrain/")]


@pytest.mark.parametrize(("place", "name"), [(shutil.copytree, FOLDER), (shutil.move, "plain")])
def test_copied_or_moved_project_has_its_artifacts_and_writes_none_elsewhere(
    place: Callable[[Path, Path], object], name: str, tmp_path: Path
) -> None:
    original = tmp_path / "original"
    original.mkdir()
    assert python(RECORD, original).returncode == 0
    copy = tmp_path / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    place(original, copy)
    before = content(original) if original.exists() else set()
    done = python(RECORD, copy)
    assert (done.returncode, done.stdout, done.stderr) == (0, "content\ncontent\n", "")
    assert (content(original) if original.exists() else set()) == before
    assert len([path for path in content(copy) if path.startswith("mlartifacts/pretrain/")]) == 2
    with sqlite3.connect(copy / "mlflow.db") as database:
        texts = [line for line in database.iterdump() if str(original) in line]
    assert texts == []


def test_locations_that_are_not_the_projects_stay(tmp_path: Path) -> None:
    script = """
        import sys
        from llmcore.tracking.mlflow_store import open_store
        client = open_store().client
        if len(sys.argv) > 0 and client.get_experiment_by_name("mine") is None:
            client.create_experiment("mine", "file:///elsewhere/mlartifacts/other")
            client.create_experiment("s3", "s3://bucket/mlartifacts/s3x")
        print(*(client.get_experiment_by_name(name).artifact_location for name in ("mine", "s3")))
    """
    for name in ("original", "copy"):
        if name == "copy":
            shutil.copytree(tmp_path / "original", tmp_path / "copy")
        (tmp_path / name).mkdir(exist_ok=True)
        done = python(script, tmp_path / name)
        assert done.stdout == "file:///elsewhere/mlartifacts/other s3://bucket/mlartifacts/s3x\n"
