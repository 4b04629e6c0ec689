"""Results of an evaluation come back from its run in MLflow."""

from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.config.read import read_params
from llmcore.evaluate.compare import RESULTS_FOLDER
from llmcore.tracking import tracker as tracking
from llmcore.tracking.mlflow_store import open_store
from llmcore.tracking.results import results_of


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert results_of("reports/x.csv", tmp_path) == Path("reports/x.csv")


def test_a_run_gives_back_the_results_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LLMCORE_TRACKING", raising=False)
    file = tmp_path / "predictions.csv"
    file.write_text("text,label,predicted\n")
    params = read_params(ROOT / "params.yaml")
    for results in ([file], []):
        with tracking.run("evaluate_classifier", params, ["seed"]) as tracker:
            for path in results:
                tracker.log_artifact(path, RESULTS_FOLDER)
    client = open_store().client
    [experiment] = [e for e in client.search_experiments() if e.name == "evaluate-classifier"]
    empty, filled = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])

    folder = results_of(filled.info.run_id, tmp_path / "scratch")
    assert (folder / "predictions.csv").read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match=f"the run holds no {RESULTS_FOLDER}/"):
        results_of(empty.info.run_id, tmp_path / "scratch")
    with pytest.raises(UserError, match="no such run in the store"):
        results_of("0" * 32, tmp_path / "scratch")
