"""Every command of the README and of docs/, and the program in docs/models.md, work as a user types them."""

import os
import re
import sys

import pytest
from structure import ROOT
from workspace import Workspace

pytestmark = pytest.mark.slow

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
    built.run("bash -ex", input="\n".join(lines), PATH=os.defpath)
    page = (built.folder / "dvc_plots/index.html").read_text()
    assert "vegaEmbed" in page
    assert "<script src" not in page  # it draws without a network
    built.run("git checkout -q params.yaml")


def test_documented_python_works(built: Workspace) -> None:
    page = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    printed = built.run(f"{sys.executable} -", input=block, HF_HUB_OFFLINE="1")
    assert {"ham", "spam"} & set(printed.splitlines())
