"""`llmcore plan` beside what the pipeline then did."""

import re
from pathlib import Path

import pytest
from workspace import Workspace

from llmcore.base.files import read_json
from llmcore.dvc.status import runs_after, stage_status

PLAN = "python -m llmcore.cli plan"
LEAST_SECONDS = 5.0  # of a stage whose time is compared: the start of MLflow is most of a shorter one's


def numbers(line: str) -> list[str]:
    return re.findall(r"[\d,]+(?= )", line)


@pytest.mark.slow
def test_plan_says_what_the_build_counted(built: Workspace) -> None:
    """The trained models are there: their counts are known, and nothing has to run."""
    printed = built.run(f"{PLAN} --gpu a100")
    stages = printed.partition("Stages, as")[2].partition("\n\n")[0]
    assert re.search(r"pretrain +up to date", stages)
    assert not re.search(r" runs ", stages)
    tokens = read_json(built.folder / "reports/tokenize/metrics.json")["tokens"]
    assert f"{tokens:,} tokens in 300 documents" in printed
    trainings = printed.partition("Trainings\n")[2]
    for stage in ("pretrain", "finetune_classifier", "finetune_instruct"):
        metrics = read_json(built.folder / "reports" / stage / "metrics.json")
        [line] = [line for line in trainings.splitlines() if line.startswith(f"  {stage} ")][:1]
        shown = [int(number.replace(",", "")) for number in numbers(line.removeprefix(f"  {stage}"))]
        assert shown[:3] == [metrics["parameters"], metrics["trained_parameters"], metrics["steps"]]
        assert shown[3] == pytest.approx(metrics["tokens_seen"], rel=0.05)
    assert "Estimate for one A100 SXM, not measured" in printed


@pytest.mark.slow
@pytest.mark.exhaustive
def test_plan_of_other_data_is_an_estimate_and_said_to_be(built: Workspace) -> None:
    built.set_params({"sources.text.stories": 600})
    printed = built.run(PLAN)
    assert re.search(r"about [\d,]+ tokens in 600 documents, .* estimated from params", printed)
    assert re.search(r"download@text +runs +short +params sources.text", printed)
    assert re.search(r"prepare_spam +up to date", printed)
    built.run("git checkout -q params.yaml")


@pytest.mark.slow
def test_a_changed_param_is_found_where_dvc_finds_it(built: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(built.folder)  # DVC names stages from where it is called
    assert not any(stage.runs for stage in stage_status(Path()).values())
    built.set_params({"pretrain.lr": 0.002})
    found = stage_status(Path())
    assert sorted(name for name, stage in found.items() if stage.runs) == built.changed_stages() == ["pretrain"]
    assert found["pretrain"].reason == "params pretrain"
    assert {"load_gpt2", "finetune_classifier", "track"} <= runs_after(found)
    assert "prepare_spam" not in runs_after(found)
    built.run("git checkout -q params.yaml")


@pytest.mark.slow
def test_check_before_any_forecast_says_what_to_do(built: Workspace) -> None:
    built.run("rm -f .ckpt/plan.json")
    assert "run `llmcore plan` before `dvc repro`" in built.run(f"{PLAN} --check", code=2)


@pytest.mark.exhaustive
def test_forecast_of_the_quickstart_holds_within_30_percent(tmp_path: Path) -> None:
    """Needs a machine that does the same from the first minute to the last."""
    workspace = Workspace(tmp_path)
    workspace.run("rm -f dvc.lock")
    workspace.run(PLAN)
    workspace.run("dvc repro")
    table = workspace.run(f"{PLAN} --check")
    forecast = read_json(tmp_path / ".ckpt/plan.json")["seconds"]
    ratios = {line.split()[0]: float(line.split()[-1]) for line in table.splitlines() if line.split()[0] in forecast}
    assert set(ratios) == set(forecast)
    long = {stage: ratio for stage, ratio in ratios.items() if forecast[stage] * max(1.0, ratio) >= LEAST_SECONDS}
    assert {"pretrain", "finetune_classifier", "finetune_instruct"} <= set(long)
    assert {stage: ratio for stage, ratio in long.items() if not 0.7 <= ratio <= 1.3} == {}
