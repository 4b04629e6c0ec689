"""DVC is found where the environment of this Python is not activated."""

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from llmcore.dvc.command import activated
from llmcore.dvc.queue import _dvc


def test_dvc_is_that_of_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("dvc") is None
    assert _dvc(tmp_path, "--version").strip() == importlib.metadata.version("dvc")


def test_other_variables_stay() -> None:
    found = activated({"PATH": "/bin", "A": "b"})
    assert found["A"] == "b"
    assert found["PATH"].endswith(":/bin")
