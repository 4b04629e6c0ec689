"""What a stage does not load: torch where it handles text, MLflow before its work has begun."""

import subprocess
import sys
from pathlib import Path

import pytest
from structure import ROOT, stages
from workspace import Workspace

from llmcore.dvc.deps import script_of

TEXT_STAGES = "download tokenize sample prepare_spam prepare_instructions"


@pytest.mark.slow
def test_stages_on_text_run_where_torch_cannot_be_imported(small: Workspace, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch in a stage on text')\n")
    workspace = small.copy(tmp_path / "project")
    blocked = str(tmp_path)
    assert "torch in a stage on text" in workspace.run("dvc repro -f -s pretrain", code=255, PYTHONPATH=blocked)
    workspace.run("rm -rf data/samples")
    workspace.run(f"dvc repro -f -s {TEXT_STAGES}", PYTHONPATH=blocked)
    assert (workspace.folder / "data/samples").is_dir()


def test_no_stage_imports_mlflow_before_its_run_begins() -> None:
    """A thread imports it then, beside the work: it takes two seconds."""
    modules = [script_of(stage["cmd"]).removesuffix(".py").replace("/", ".") for stage in stages().values()]
    code = f"import sys, {', '.join(modules)}; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
