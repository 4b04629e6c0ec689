"""The training stages with `compute.parallel: shard`, in two processes."""

import shlex
from pathlib import Path

import pytest
from pipeline.processes import NUMBERS, PRETRAIN, Stage, messages
from waiting import comes_true
from workspace import Workspace

from llmcore.base.files import read_json

pytestmark = pytest.mark.slow

SHARD = {"compute.parallel": "shard", "compute.numerics": "native", "compute.threads": 1, "runtime.processes": 2}
MODELS = {"pretrain": "CausalLM", "finetune_classifier": "SequenceClassification", "finetune_instruct": "CausalLM"}


@pytest.mark.exhaustive
def test_sharded_trainings_write_models_that_transformers_opens(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path)
    before = {stage: read_json(tmp_path / f"reports/{stage}/metrics.json") for stage in MODELS}
    workspace.set_params(SHARD)
    workspace.repro(f"-s {' '.join(MODELS)}")
    for stage, head in MODELS.items():
        after = read_json(tmp_path / f"reports/{stage}/metrics.json")
        assert after["val/loss"] == pytest.approx(before[stage]["val/loss"], abs=1e-4)
        folder = tmp_path / "models" / stage.removeprefix("finetune_")
        opened = f"from transformers import AutoModelFor{head} as M; M.from_pretrained({str(folder)!r})"
        workspace.run(f"python -W error -c {shlex.quote(opened)}")


def test_a_dead_process_ends_a_sharded_stage_and_it_resumes(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path)
    workspace.set_params(NUMBERS | SHARD)
    stage = Stage(workspace)
    assert comes_true(lambda: bool(list((tmp_path / ".ckpt").glob("pretrain/*/step-*")))), stage.printed
    max(stage.workers, key=lambda process: int(process.environ()["RANK"])).kill()
    assert stage.process.wait(20) == 2
    line = "error: pretrain: process 2 of 2 was ended by SIGKILL; if memory is short, lower runtime.processes"
    assert messages(stage) == [line]
    again = workspace.start(PRETRAIN, stage.log)
    assert comes_true(lambda: "resumes after step" in stage.printed), stage.printed
    again.terminate()
    again.wait(20)
