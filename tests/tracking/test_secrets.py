"""No password of the environment, of git or of the store's address is stored, spooled or printed."""

import subprocess

import pytest
from tracking.stored import TIMEOUT_SECONDS, runs, start

from llmcore.base.credentials import masked
from llmcore.tracking.spool import spool_folder

SECRET = "hunter2-s3cret"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": SECRET,
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "PGPASSWORD": SECRET,
    "LLMCORE_JUDGE_KEY": SECRET,
    "LLMCORE_MIRROR": f"https://user:{SECRET}@mirror.example.org",
}


def test_no_secret_of_the_environment_or_of_a_git_remote_is_kept(project, git_identity):
    remote = f"remote add origin https://user:{SECRET}@git.example.org/x"
    for arguments in ("init -q", "add params.yaml", remote, "commit -qm c"):
        subprocess.run(["git", *arguments.split()], check=True, cwd=project)
    child = start(project, 0, **SECRETS)
    _, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert (child.returncode, errors) == (0, "")
    (run,) = runs()
    assert "mlflow.source.git.commit" in run.data.tags
    kept = [path for path in project.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert {"mlflow.db", "params.yaml"} == {path.name for path in kept}
    assert [path for path in kept if SECRET.encode() in path.read_bytes()] == []


def test_password_in_the_address_of_the_store_is_neither_shown_nor_spooled(project):
    child = start(project, 0, MLFLOW_TRACKING_URI=f"http://user:{SECRET}@127.0.0.1:1")
    _, errors = child.communicate(timeout=TIMEOUT_SECONDS)
    assert child.returncode == 0
    assert errors.startswith("tracking: ")
    assert SECRET not in errors
    (file,) = spool_folder().glob("*.jsonl")
    assert SECRET not in file.read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at http://user:pa@ss@host:5000/api failed", "at http://***@host:5000/api failed"),
        ("postgresql+psycopg2://u:p@h/db", "postgresql+psycopg2://***@h/db"),
        ("'https://token@host'", "'https://***@host'"),
        ("https://host/a@b and me@example.org", "https://host/a@b and me@example.org"),
    ],
)
def test_credentials_before_a_host_are_masked(text, shown):
    assert masked(text) == shown
