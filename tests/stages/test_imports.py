"""What a stage does not load: torch where it handles text, MLflow before its work has begun."""

import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT, stages
from workspace import SMALL, Workspace

from llmcore.dvc.deps import script_of

TEXT_STAGES = ("sample", "prepare_spam", "prepare_instructions")  # and what they depend on: download, tokenize


@pytest.mark.slow
def test_stages_on_text_run_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch in a stage on text')\n")
    (tmp_path / "project").mkdir()
    workspace = Workspace(tmp_path / "project")
    workspace.set_params(SMALL)
    blocked = str(tmp_path)
    said = workspace.run("dvc repro pretrain", code=255, PYTHONPATH=blocked, LLMCORE_TRACKING="off")
    assert "torch in a stage on text" in said
    workspace.run(f"dvc repro {' '.join(TEXT_STAGES)}", PYTHONPATH=blocked, LLMCORE_TRACKING="off")
    assert (workspace.folder / "data/samples").is_dir()


def test_no_stage_imports_mlflow_before_its_run_begins() -> None:
    """A thread imports it then, beside the work: it takes two seconds."""
    modules = [script_of(stage["cmd"]).removesuffix(".py").replace("/", ".") for stage in stages().values()]
    code = f"import sys, {', '.join(modules)}; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
