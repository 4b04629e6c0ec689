"""Where MLflow's store is, and how a missing sqlite file is created. MLflow is imported by `load_mlflow` only:
the import takes more than a second."""

import os
from pathlib import Path

from llmcore.base.process import prepare
from llmcore.base.project import project_root

ENVIRONMENT = {
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # no word about migrations, no traceback of what becomes one line anyway
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the writer tries again itself, and holds no stage for that
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # with its password
}


def store_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, else the sqlite file in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(project_root() / "mlflow.db")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a sqlite file; a percent sign in its path is the one character that needs quoting."""
    return f"sqlite:///{str(file).replace('%', '%25')}"


def database_file(uri: str) -> Path | None:
    """Return the file of a sqlite `uri`, None for every other kind of store."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(uri.removeprefix("sqlite:///").partition("?")[0].replace("%25", "%"))


def load_mlflow() -> None:
    """Import MLflow and create a missing sqlite store; no server is asked."""
    prepare()  # no telemetry
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401

    if file := database_file(store_uri()):
        create_database(file)


def create_database(file: Path) -> None:
    """Create MLflow's tables in `file` unless it exists.

    They are made in a temporary file under a lock: two first starts at once, or a killed one, would
    otherwise leave a half-migrated database that never opens again.
    """
    if file.exists():
        return
    from filelock import FileLock
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with FileLock(f"{file}.lock"):
        if file.exists():
            return
        temporary = Path(f"{file}.new")
        temporary.unlink(missing_ok=True)
        artifacts = project_root() / "mlartifacts"
        store = SqlAlchemyStore(sqlite_uri(temporary), artifacts.as_uri())  # type: ignore[no-untyped-call]
        store.engine.dispose()
        os.replace(temporary, file)
