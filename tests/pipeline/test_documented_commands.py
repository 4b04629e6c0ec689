"""Every command of the README and of docs/, and the program in docs/models.md, work as a user types them.

Blocks marked `bash` are run. Those marked `sh` need minutes or a download: what they name must exist.
"""

import os
import re
import shlex
import sys
from importlib.util import find_spec
from itertools import dropwhile

import pytest
from structure import ROOT
from workspace import Workspace, stages_run

from llmcore.base.files import read_yaml
from llmcore.cli import parser
from llmcore.config.presets import preset_names

pytestmark = pytest.mark.slow

VARIABLE = re.compile(r"[A-Z_]+=")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CLASSIFIER = ("finetune_classifier", "evaluate_classifier")
# commands that other tests run: this suite itself, servers and who asks them
ELSEWHERE = ("make test", "make ui", "DO_NOT_TRACK=true mlflow models serve ", "curl ")


def test_every_documented_command_works(built: Workspace) -> None:
    """In one shell, in a clone whose .venv is this environment."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if not line.startswith(ELSEWHERE)]
    venv = built.folder / ".venv"
    venv.symlink_to(sys.prefix)
    for marker in ("installed", "installed-dev"):
        (venv / marker).touch()
    printed = built.run("bash -ex", input="\n".join(lines), PATH=os.defpath)
    change, back, parts = map(
        printed.index, ("+ sed -i.before", "+ git checkout params.yaml", "+ dvc repro finetune_cl")
    )
    drawn = {f"report@{name}" for name in CLASSIFIER}
    assert set(stages_run(printed[change:back])) - {"track"} == {*CLASSIFIER, *drawn}
    assert set(stages_run(printed[back:parts])) <= {"track"}
    page = (built.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert "<script src" not in page  # it draws without a network
    built.run("git checkout -q params.yaml")


def test_documented_python_works(built: Workspace) -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    printed = built.run(f"{sys.executable} -", input=block, HF_HUB_OFFLINE="1")
    assert {"ham", "spam"} & set(printed.splitlines())


def test_long_commands_name_what_exists() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0] for block in blocks for line in block.splitlines()]
    assert lines
    stages = {name.partition("@")[0] for name in read_yaml(ROOT / "dvc.lock")["stages"]}
    for line in lines:
        program, *arguments = dropwhile(VARIABLE.match, shlex.split(line))
        if program == "llmcore":
            command = parser().parse_args(arguments)
            assert getattr(command, "name", None) in (None, *preset_names(ROOT)), line
        elif program == "dvc":
            assert arguments[0] == "repro", line
            assert set(arguments[1:]) <= stages, line
        elif program == "make":
            assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), line
        elif program == "python":
            option, module, *rest = arguments
            assert option == "-m", line
            target = f"stages.{rest[0]}" if module == "stages" else module
            assert find_spec(target), line
        else:
            assert program == "ollama", line
