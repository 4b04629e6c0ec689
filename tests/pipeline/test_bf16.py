"""The stages with `precision: bf16`: nearly the results of fp32."""

from pathlib import Path

import pytest
from workspace import Workspace

from llmcore.base.files import read_json

pytestmark = pytest.mark.slow

BF16 = {"compute.precision": "bf16", "compute.numerics": "native"}
MEASURES = {
    "load_gpt2": "val/loss",
    "evaluate_classifier": "average_precision",
    "evaluate_instruct": "reference_log_likelihood",
}


def measures(folder: Path) -> dict[str, float]:
    return {stage: read_json(folder / f"reports/{stage}/metrics.json")[name] for stage, name in MEASURES.items()}


def test_evaluations_in_bf16_find_nearly_what_fp32_finds(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path)
    exact = measures(tmp_path)
    workspace.set_params(BF16)
    workspace.repro(f"-s {' '.join(MEASURES)}")
    assert measures(tmp_path) != exact
    assert measures(tmp_path) == pytest.approx(exact, rel=0.05)


@pytest.mark.exhaustive
def test_every_stage_computes_in_bf16_and_the_plan_measures_it(built: Workspace, tmp_path: Path) -> None:
    workspace = built.copy(tmp_path)
    exact = measures(tmp_path)
    workspace.set_params(BF16)
    workspace.run("llmcore plan")
    workspace.repro()
    assert measures(tmp_path) == pytest.approx(exact, rel=0.1)
