"""A project that was copied or moved: MLflow's database has the folder of artifacts as an absolute path."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

LOCATIONS = (  # columns of MLflow's tables that begin with the folder of artifacts
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
TIMEOUT_SECONDS = 30.0  # that other writers may take


def adopt(database: Path, artifacts: Path) -> None:
    """Let every location below a project's `mlartifacts` be one below `artifacts`, if the database lies beside that.

    Otherwise a copy would write its artifacts into the original. Experiments made here have `<mlartifacts>/<name>`
    as location, by which the original is recognised; locations of other forms stay.
    """
    if database.absolute().parent != artifacts.parent or not database.is_file():
        return
    here = artifacts.as_uri()
    try:
        with closing(sqlite3.connect(database, timeout=TIMEOUT_SECONDS)) as connection:
            if not _other_folders(connection, here):
                return
            with connection:  # one transaction: several processes may start at once
                connection.execute("BEGIN IMMEDIATE")
                for original in _other_folders(connection, here):
                    _rewrite(connection, original, here)
    except sqlite3.Error as error:  # read-only, or no database of MLflow: whoever opens it says so
        if "locked" in str(error):
            raise


def _other_folders(connection: sqlite3.Connection, here: str) -> set[str]:
    """Return the `mlartifacts` of other projects in which experiments keep their artifacts."""
    found = connection.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()
    folders = set()
    for number, name, location in found:
        folder, _, last = str(location).rpartition("/")
        if folder.endswith("/mlartifacts") and folder != here and unquote(last) in (str(number), name):
            folders.add(folder)
    return folders


def _rewrite(connection: sqlite3.Connection, original: str, here: str) -> None:
    for table, column in LOCATIONS:
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",
            (here, len(original) + 1, len(original) + 1, f"{original}/"),
        )
