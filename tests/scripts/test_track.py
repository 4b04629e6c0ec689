"""The ledger holds every number, is linked to the runs that made the results, and attaches their pictures."""

from pathlib import Path

import pytest
from structure import ROOT

from llmcore.base.files import sha256_file, write_bytes, write_json
from llmcore.config.read import read_params
from llmcore.dvc.files import hash_of
from llmcore.tracking import mlflow_store
from llmcore.tracking.run import tracked_run
from stages import track


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of two stages, as the pipeline leaves them."""
    for name in ("MLFLOW_TRACKING_URI", "LLMCORE_TRACKING", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        write_bytes(tmp_path / name, (ROOT / name).read_bytes())
    write_json(tmp_path / "reports/pretrain/metrics.json", {"val/loss": 1.5, "note": "text is left out"})
    write_json(tmp_path / "reports/evaluate_classifier/metrics.json", {"accuracy": 0.9, "rows": 300})
    write_bytes(tmp_path / "models/pretrain/model.safetensors", b"weights")
    write_bytes(tmp_path / "models/base/model.safetensors", b"weights")
    write_bytes(tmp_path / "reports/pretrain/tables/steps.csv", b"step,train/loss\n")
    for name in ("loss.png", "card.md", "notes.txt"):
        write_bytes(tmp_path / "reports/pretrain/plots" / name, name.encode())
    return tmp_path


def run_track() -> None:
    track.main(["models", *map(str, sorted(Path("reports").glob("*/metrics.json")))])


def test_one_run_holds_all_results_and_links_their_trainings(project: Path) -> None:
    with tracked_run("pretrain", read_params()) as tracker:
        tracker.set_tags({"out.models/pretrain": str(hash_of(project / "models/pretrain"))})
    run_track()

    client = mlflow_store.open_store().client
    runs = {e.name: client.search_runs([e.experiment_id]) for e in client.search_experiments()}
    (training,), (ledger,) = runs["pretrain"], runs["pipeline"]
    assert ledger.data.metrics == {
        "pretrain/val/loss": 1.5,
        "evaluate_classifier/accuracy": 0.9,
        "evaluate_classifier/rows": 300,
    }
    assert ledger.data.tags["run.pretrain"] == training.info.run_id
    assert ledger.data.tags["model_sha256.base"] == sha256_file(project / "models/base/model.safetensors")
    assert "run.load_gpt2" not in ledger.data.tags
    assert {"seed", "model.n_layer", "evaluate_instruct.confidence"} <= set(ledger.data.params)
    assert not any(key.startswith("runtime") for key in ledger.data.params)


def test_pictures_are_attached_to_the_run_that_wrote_the_tables(project: Path) -> None:
    with tracked_run("pretrain", read_params()):
        pass  # the stage's outs are there already, and are tagged at its end
    run_track()
    client = mlflow_store.open_store().client
    experiment = client.get_experiment_by_name("pretrain")
    assert experiment is not None
    (training,) = client.search_runs([experiment.experiment_id])
    found = {file.path for file in client.list_artifacts(training.info.run_id, "figures")}
    assert found == {"figures/loss.png", "figures/card.md"}


def test_empty_pipeline_is_a_run_without_results(tmp_path: Path, project: Path) -> None:
    track.main([str(tmp_path / "none")])
    client = mlflow_store.open_store().client
    pipeline = client.get_experiment_by_name("pipeline")
    assert pipeline is not None
    (ledger,) = client.search_runs([pipeline.experiment_id])
    assert (ledger.info.status, ledger.data.metrics) == ("FINISHED", {})
