"""The ledger gathers every number and finds the trainings by the hash of what they made."""

from pathlib import Path

import pytest

from llmcore.base.files import sha256_file, write_bytes, write_json
from llmcore.config.read import read_params
from llmcore.tracking import mlflow_store
from llmcore.tracking import tracker as tracking
from stages import track

PARAMS_FILE = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "LLMCORE_TRACKING", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_bytes(tmp_path / "params.yaml", PARAMS_FILE.read_bytes())
    write_json(tmp_path / "reports/pretrain/metrics.json", {"val_loss": 1.5, "note": "text is left out"})
    write_json(tmp_path / "reports/evaluate_classifier/metrics.json", {"accuracy": 0.9, "rows": 300})
    write_bytes(tmp_path / "models/pretrain/model.safetensors", b"weights")
    write_bytes(tmp_path / "models/base/model.safetensors", b"weights")
    return tmp_path


def test_one_run_holds_all_results_and_links_their_trainings(project):
    digest = sha256_file(project / "models/pretrain/model.safetensors")
    with tracking.run("pretrain", read_params(), ["pretrain"]) as tracker:
        tracker.set_tags({"model_sha256": digest})
    track.main(["models", *map(str, sorted(Path("reports").glob("*/metrics.json")))])

    client = mlflow_store.open_store().client
    runs = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    (training,), (ledger,) = runs["pretrain"], runs["pipeline"]
    assert ledger.data.metrics == {
        "pretrain.val_loss": 1.5,
        "evaluate_classifier.accuracy": 0.9,
        "evaluate_classifier.rows": 300,
    }
    assert ledger.data.tags["run.pretrain"] == training.info.run_id
    assert ledger.data.tags["model_sha256.base"] == digest
    assert "run.load_gpt2" not in ledger.data.tags
    assert {"seed", "model.n_layer", "evaluate_instruct.confidence"} <= set(ledger.data.params)
    assert not any(key.startswith("runtime") for key in ledger.data.params)


def test_an_empty_pipeline_is_a_run_without_results(tmp_path, project):
    track.main([str(tmp_path / "none")])
    client = mlflow_store.open_store().client
    pipeline = client.get_experiment_by_name("pipeline")
    assert pipeline is not None
    (ledger,) = client.search_runs([pipeline.experiment_id])
    assert (ledger.info.status, ledger.data.metrics) == ("FINISHED", {})
