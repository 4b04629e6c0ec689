"""The forecast is kept outside of all outputs, and stands in MLflow beside a run's duration."""

import json
from pathlib import Path

from llmcore.config.params import Params
from llmcore.lineage.runs import Runs, open_runs
from llmcore.tracking.forecast import forecast_file, forecast_seconds, read_forecast, write_forecast
from llmcore.tracking.run import tracked_run


def test_a_forecast_is_read_as_it_was_written(project: Path) -> None:
    write_forecast({"pretrain": 12.5})
    kept = read_forecast()
    assert kept
    assert kept.seconds == {"pretrain": 12.5}
    assert forecast_seconds("pretrain") == 12.5
    assert forecast_seconds("tokenize") is None


def test_a_forecast_of_other_params_says_nothing_of_these(project: Path) -> None:
    write_forecast({"pretrain": 12.5})
    (project / "params.yaml").write_text("seed: 124\n")
    assert forecast_seconds("pretrain") is None


def test_a_damaged_forecast_is_none(project: Path) -> None:
    for damaged in ("", "[]", json.dumps({"seconds": {}})):
        forecast_file().parent.mkdir(exist_ok=True)
        forecast_file().write_text(damaged)
        assert read_forecast() is None
        assert forecast_seconds("pretrain") is None


def test_a_run_has_its_forecast_as_a_metric(project: Path, params: Params) -> None:
    write_forecast({"sample": 12.5})
    with tracked_run("sample", params):
        pass
    runs = open_runs()
    assert isinstance(runs, Runs)
    run = runs.newest_of("sample")
    assert run
    assert run.seconds is not None
    assert runs.newest_of("pretrain") is None
    assert runs._client.get_run(run.id).data.metrics == {"forecast_seconds": 12.5}
