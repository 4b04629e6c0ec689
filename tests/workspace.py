"""A copy of the project in a folder of its own, with small numbers, for tests that run the pipeline."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from structure import ROOT

# the quickstart, small enough for a test: everything runs, nothing is learned well
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
}


class Workspace:
    """A clone of the files that git tracks or would track, as they are in the working tree."""

    def __init__(self, folder: Path):
        self.folder = folder
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
        for command in ("git init -q", "git add -A", "git commit -qm start"):
            self.run(command)

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

    def repro(self, arguments: str = "") -> list[str]:
        """Run `dvc repro` and return the stages that ran, in order; those restored from the cache did not run."""
        return re.findall(r"^Running stage '(.*)'", self.run(f"dvc repro {arguments}"), re.MULTILINE)
