"""The requests in docs/using.md work as a user types them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from serve.endpoint import Endpoint, running
from structure import ROOT

from llmcore.serve.models import ServedModel

ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def section() -> str:
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("using*.md")))
    return re.split(r"^## ", text.split("## Serve\n")[1], flags=re.MULTILINE)[0]


@pytest.fixture
def documented(served_models: dict[str, ServedModel]) -> dict[str, ServedModel]:
    """Tiny models under the names of the pipeline's."""
    return dict(zip(("pretrain", "instruct", "classifier"), served_models.values(), strict=True))


def run(command: list[str], text: str, endpoint: Endpoint, folder: Path) -> str:
    assert ADDRESS in text
    done = subprocess.run(
        command,
        input=text.replace(ADDRESS, endpoint.url),
        cwd=folder,
        env=os.environ | {"OPENAI_API_KEY": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_documented_requests_are_answered(section: str, documented: dict[str, ServedModel], tmp_path: Path) -> None:
    [shell] = re.findall(r"^```bash\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    [python] = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    with running(documented) as endpoint:
        answers = run(["bash", "-e"], shell, endpoint, tmp_path)
        assert '"object":"text_completion"' in answers
        assert '"truncated":[' in answers
        assert "error" not in answers
        assert run([sys.executable, "-"], python, endpoint, tmp_path).strip()
