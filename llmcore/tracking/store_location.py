"""Where MLflow's store is, and how a missing sqlite file is created. MLflow is imported by `load_mlflow` only:
the import takes more than a second."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from llmcore.base.process import prepare
from llmcore.base.project import project_root
from llmcore.tracking.copied import adopt

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
ENVIRONMENT = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no word about migrations, no traceback of what becomes one line anyway
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the writer tries again itself, and holds no stage for that
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with its password
}


def store_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the sqlite file in the project's root."""
    return os.environ.get(STORE_VARIABLE) or sqlite_uri(project_root() / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a sqlite file.

    A percent sign and a question mark in it are quoted. Where the working folder allows it, the path is relative
    instead: MLflow creates the folder of the quoted path.
    """
    path = str(file)
    if _is_special(path) and not _is_special(relative := os.path.relpath(path)):
        path = relative
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def _is_special(path: str) -> bool:
    return "%" in path or "?" in path


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite `uri`, None for every other kind of store."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///(?:file:)?([^?]+)(?:\?.*)?", uri, re.DOTALL)
    if not found or found[1] == ":memory:":
        return None
    return Path(unquote(found[1]))


def is_server(uri: str) -> bool:
    """Return whether the store is a server, which keeps artifacts where it wants."""
    return uri.lower().startswith(("http://", "https://", "databricks"))


def set_environment() -> None:
    """Set what MLflow reads when it is imported."""
    prepare()  # no telemetry
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def load_mlflow() -> None:
    """Import MLflow and create a missing sqlite store; no server is asked."""
    set_environment()
    import mlflow  # noqa: F401

    file = database_file(store_uri())
    if file and "mode=ro" not in store_uri().partition("?")[2]:
        create_database(file)
        adopt(file, project_root() / "mlartifacts")


def create_database(file: Path) -> None:
    """Create MLflow's tables in `file` unless it exists.

    They are made in a temporary file under a lock: two first starts at once, or a killed one, would
    otherwise leave a half-migrated database that never opens again.
    """
    if file.exists() and (not file.is_file() or file.stat().st_size):
        return
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with FileLock(f"{file}.lock"):
        if file.exists() and file.stat().st_size:
            return
        temporary = Path(f"{file}.new")
        temporary.unlink(missing_ok=True)
        artifacts = project_root() / "mlartifacts"
        store = SqlAlchemyStore(sqlite_uri(temporary), artifacts.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        os.replace(temporary, file)
