"""Put a model folder into MLflow's registry, in a form that `mlflow models serve` answers from."""

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.files import user_errors
from llmcore.config.kinds import MODEL_KINDS
from llmcore.config.stages import stage_info
from llmcore.generate.info import weights_sha256
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.tracking.mlflow_store import Store, open_store, store_errors
from llmcore.tracking.store_location import sqlite_uri, store_uri

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PACKAGE = Path(__file__).resolve().parents[1]
ARTIFACT = "model"  # under which MLflow keeps the model folder; llmcore.serve.served reads it
# what serving imports
REQUIREMENTS = ("jinja2", "mlflow", "numpy", "pydantic", "safetensors", "tiktoken", "tokenizers", "torch")
# MLflow refuses other aliases and names too, but only after the work; `?` cannot be served, `\` breaks a search
ALIAS = re.compile(r"(?!latest$|v\d+$)[a-z0-9_-]{1,255}", re.IGNORECASE)
NAME = re.compile(r"""[^/\\:.%"'?\x00-\x1f\x7f-\x9f\u2028\u2029]+""")
PORT = 5050  # above those that `make ui` takes


def register(kind: str, folder: Path, name: str, alias: str) -> str:
    """Register `folder` under `name`, let `alias` point at its version, and return what to tell the user.

    A version with these weights that `name` already has is kept, and only the alias moves. UserError
    for a folder of another kind, where MLflow refuses a name, or where the store cannot be written.
    """
    if not name.strip():
        raise UserError(f"--name: must not be empty, got {name!r}; choose another")
    if not NAME.fullmatch(name):
        rule = """must not contain / \\ : . % ? " ' or a control character"""
        raise UserError(f"--name: {rule}, got {name!r}; choose another")
    if not ALIAS.fullmatch(alias):
        rule = "must be letters, digits, - and _, at most 255, but neither `latest` nor v and a number"
        raise UserError(f"--alias: {rule}, got {alias!r}; choose another")
    open_folder = open_classifier if kind == "classifier" else open_language_model
    open_folder(folder)  # a UserError for a folder of another kind
    digest = weights_sha256(folder)
    with store_errors():
        store = open_store()
        known = _known_version(store, name, digest)
        registered = known or _new_version(store, kind, folder, name, digest)
        with refusals(name):
            store.client.set_registered_model_alias(name, alias, registered.version)
    done = "already holds these weights" if known else f"holds {folder}"
    return f"{name} version {registered.version} {done}; {name}@{alias} is this version\n{serve_command(name, alias)}"


def serve_command(name: str, alias: str) -> str:
    """Return the command that serves the model, as it must be typed in the working folder."""
    command = f"mlflow models serve -m {shlex.quote(f'models:/{name}@{alias}')} --env-manager local --port {PORT}"
    by_itself = os.environ.get("MLFLOW_TRACKING_URI") or store_uri() == sqlite_uri(Path("mlflow.db").resolve())
    store = "" if by_itself else f"MLFLOW_TRACKING_URI={shlex.quote(store_uri())} "
    return f"DO_NOT_TRACK=true {store}{command}"  # or MLflow's own telemetry would call home


def requirements() -> list[str]:
    """Return what serving imports at the versions that are installed; a build's suffix (`+cpu`) is on no index."""
    return [f"{package}=={version(package).partition('+')[0]}" for package in REQUIREMENTS]


def save(kind: str, folder: Path, path: Path) -> None:
    """Write an MLflow model at `path`: the folder as it is, the code that serves it, signature and example."""
    from mlflow.pyfunc import save_model

    known = MODEL_KINDS[kind]
    example = list(known.example)
    save_model(
        path=str(path),
        python_model=str(PACKAGE / "serve/pyfunc.py"),
        model_config={"kind": kind},
        artifacts={ARTIFACT: str(folder)},
        code_paths=[str(PACKAGE)],
        pip_requirements=requirements(),
        input_example=(example, known.generation.numbers()) if known.generation else example,
    )


def with_card(folder: Path, stage: str, copy: Path) -> Path:
    """Return a copy of a model folder with the card of its stage as README.md, where that was drawn."""
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)  # links of DVC's cache become files, not read-only
    card = Path("reports") / stage / "plots" / "card.md"
    if card.is_file():
        shutil.copyfile(card, copy / "README.md")
    return copy


def _known_version(store: Store, name: str, digest: str) -> "ModelVersion | None":
    """Return the oldest version of `name` with these weights: two processes that register at once agree on it."""
    with refusals(name):
        found = store.client.search_model_versions(f"name = '{name}' and tags.model_sha256 = '{digest}'")
    return min(found, key=lambda known: int(known.version), default=None)


def _new_version(store: Store, kind: str, folder: Path, name: str, digest: str) -> "ModelVersion":
    """Store the model beside the runs of the stage that made it, linked to the one that did, and register it.

    If another process has registered these weights meanwhile, its version is returned, and this one removed.
    """
    stage = MODEL_KINDS[kind].stage
    client = store.client
    run = store.newest_run(stage, "model_sha256", digest)
    run_id = run.info.run_id if run else None
    tags = {"model_sha256": digest, "llmcore.stage": stage} | ({"run_id": run_id} if run_id else {})
    _create_name(store, name)  # first, for it is refused where MLflow does not take the name
    with tempfile.TemporaryDirectory() as scratch:
        with user_errors(scratch):
            save(kind, with_card(folder, stage, Path(scratch, "folder")), Path(scratch, "model"))
        experiment = store.experiment(stage_info(stage).experiment)
        logged = client.create_logged_model(experiment, name=name, source_run_id=run_id, tags=tags, model_type=kind)
        client.log_model_artifacts(logged.model_id, str(Path(scratch, "model")))
    client.finalize_logged_model(logged.model_id, "READY")
    source = f"models:/{logged.model_id}"
    version = client.create_model_version(name, source, run_id, tags, model_id=logged.model_id)
    first = _known_version(store, name, digest) or version
    if first.version != version.version:
        client.delete_model_version(name, version.version)
        client.delete_logged_model(logged.model_id)
    return first


def _create_name(store: Store, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        with refusals(name):
            store.client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


@contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turn MLflow's refusal of a name into a UserError; whatever else fails is no reason for another name."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise UserError(f"{name}: MLflow refuses it ({error.message.splitlines()[0]}); choose another --name") from None
