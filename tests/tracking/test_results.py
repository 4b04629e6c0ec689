"""Results of an evaluation come back from its run in MLflow."""

from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.errors import UserError
from llmcore.config.read import read_params
from llmcore.tracking.mlflow_store import open_store
from llmcore.tracking.results import RESULTS_FOLDER, results_of
from llmcore.tracking.run import tracked_run


def test_path_is_returned_as_it_is(tmp_path: Path) -> None:
    assert results_of("reports/x.csv", tmp_path) == Path("reports/x.csv")


def test_run_id_is_resolved_to_the_results_in_its_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("LLMCORE_TRACKING", raising=False)
    file = tmp_path / "predictions.csv"
    file.write_text("text,label,predicted\n")
    params = read_params(ROOT / "params.yaml")
    for results in ([file], []):
        with tracked_run("evaluate_classifier", params) as tracker:
            for path in results:
                tracker.log_artifact(f"{RESULTS_FOLDER}/{path.name}", path)
    client = open_store().client
    [experiment] = [e for e in client.search_experiments() if e.name == "evaluate-classifier"]
    empty, filled = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])

    folder = results_of(filled.info.run_id, tmp_path / "scratch")
    assert (folder / "predictions.csv").read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match=f"the run holds no {RESULTS_FOLDER}/"):
        results_of(empty.info.run_id, tmp_path / "scratch")
    with pytest.raises(UserError, match="no such run in the store"):
        results_of("0" * 32, tmp_path / "scratch")
