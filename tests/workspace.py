"""A copy of the project in a folder of its own, with small numbers, for tests that run the pipeline."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML
from structure import ROOT

# The quickstart, small enough for a test: everything runs, nothing is learned well, nothing is tracked.
SMALL = {
    "sources.text.stories": 300,
    "sources.spam.rows": 300,
    "sources.instructions.rows": 300,
    "model.n_layer": 2,
    "model.n_embd": 32,
    "pretrain.epochs": 1,
    "pretrain.eval_interval_steps": 5,
    "classifier.epochs": 1,
    "instruct.epochs": 0.5,
    "evaluate_instruct.max_new_tokens": 4,
    "runtime.processes": 1,  # tiny work is slower in two, and tests run side by side
    "runtime.tracking": False,
}


class Workspace:
    """A folder with the project in it, in which a test runs commands as a user does."""

    def __init__(self, folder: Path, *, clone: bool = True):
        """Copy the files that git tracks or would track, as they are in the working tree, and commit them.

        Without `clone`, the folder is taken as it is.
        """
        self.folder = folder
        if not clone:
            return
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        self.run("git init -q && git add -A && git commit -qm start")

    def copy(self, folder: Path) -> "Workspace":
        """Copy everything into an empty folder, the repository and DVC's cache too."""
        shutil.copytree(self.folder, folder, symlinks=True, dirs_exist_ok=True)
        return Workspace(folder, clone=False)

    def environment(self) -> dict[str, str]:
        """Return the variables of a user's shell with this environment on its path, and nothing that is set here."""
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{
                f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
        }
        hidden = ("MLFLOW_", "DVC_", "LLMCORE_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        return kept | own

    def start(self, command: str, log: Path) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, as a terminal does; what it prints is added to `log`."""
        with open(log, "ab") as output:
            return subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, command: str, code: int | None = 0, input: str = "", **environment: str) -> str:
        """Run a shell command in the folder and return what it printed; `code` is the exit code to expect.

        `input` is its standard input, `environment` is put on top of this process's own.
        """
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.environment() | environment,
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert code is None or done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def set(self, **values: Any) -> None:
        """Change numbers in params.yaml, comments kept; `pretrain__lr=0.1` is the key `pretrain.lr`."""
        self.set_params({key.replace("__", "."): value for key, value in values.items()})

    def set_params(self, values: dict[str, Any]) -> None:
        yaml, path = YAML(), self.folder / "params.yaml"
        params = yaml.load(path.read_text(encoding="utf-8"))
        for key, value in values.items():
            *sections, name = key.split(".")
            section = params
            for part in sections:
                section = section[part]
            assert name in section, key
            section[name] = value
        with open(path, "w", encoding="utf-8") as file:
            yaml.dump(params, file)

    def changed_stages(self) -> list[str]:
        """Return the stages that `dvc status` lists as changed."""
        return sorted(json.loads(self.run("dvc status --json").splitlines()[-1]))

    def hashes(self, *names: str) -> dict[str, str]:
        """Return the SHA-256 of each named file and of all files below each named folder, by path."""
        named = [self.folder / name for name in names]
        paths = [path for start in named for path in ([start] if start.is_file() else sorted(start.rglob("*")))]
        files = {path.relative_to(self.folder).as_posix(): path for path in paths if path.is_file()}
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}

    def repro(self, arguments: str = "") -> list[str]:
        """Run `dvc repro` and return the stages that ran, in order; those restored from the cache did not run."""
        return stages_run(self.run(f"dvc repro {arguments}"))


def stages_run(printed: str) -> list[str]:
    """Return the stages that ran by what `dvc repro` printed, in order; those from the cache did not run."""
    return re.findall(r"^Running stage '(.*)'", printed, re.MULTILINE)


def small_build(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return the whole small pipeline, built with tracking and committed; tests change copies of it, never itself.

    It is built once per session: the workers of pytest-xdist share it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "small-build"
    with FileLock(f"{folder}.lock"):
        if Path(f"{folder}.done").exists():
            return Workspace(folder, clone=False)
        workspace = Workspace(folder)
        workspace.set_params(SMALL | {"runtime.tracking": True})
        workspace.run("rm -f dvc.lock && dvc repro")
        workspace.set_params(SMALL)
        workspace.run("git add -A && git commit -qm built")
        Path(f"{folder}.done").touch()
        return workspace


def enter_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an empty folder a project with this one's code and go there; stages run in it without DVC, untracked."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(folder))
    monkeypatch.setenv("LLMCORE_TRACKING", "off")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    for name in ("dvc.yaml", "llmcore", "stages"):  # the key of half-done work has their hashes
        (folder / name).symlink_to(ROOT / name)
