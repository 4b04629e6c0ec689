"""Where the store is, and its first start."""

from pathlib import Path

from tracking.stored import TIMEOUT_SECONDS, runs, start

from llmcore.tracking.store_location import database_file, sqlite_uri


def test_three_first_starts_at_once_make_one_store(project):
    (project / "mlflow.db").unlink()
    children = [start(project, 0) for _ in range(3)]
    assert [child.communicate(timeout=TIMEOUT_SECONDS)[1] for child in children] == ["", "", ""]
    assert [child.returncode for child in children] == [0, 0, 0]
    assert [run.info.status for run in runs()] == ["FINISHED"] * 3


def test_file_of_a_sqlite_address_is_found_again():
    file = Path("/a folder/100%/mlflow.db")
    assert database_file(sqlite_uri(file)) == file
    assert database_file("http://127.0.0.1:5000") is None
