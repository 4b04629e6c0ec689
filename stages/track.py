"""The ledger: one run in MLflow about the whole pipeline, also when its trainings were restored from DVC's cache.
in: models, all metrics | params: none | out: none."""

from pathlib import Path

from llmcore.base.files import read_json, sha256_file
from llmcore.config.params import Params, read_params
from llmcore.tracking import tracker as tracking
from llmcore.tracking.tracker import Tracker

SECTIONS = [name for name in Params.model_fields if name != "runtime"]
MAKERS = {
    "pretrain": "pretrain",
    "base": "load_gpt2",
    "classifier": "finetune_classifier",
    "instruct": "finetune_instruct",
}


def main(argv: list[str]) -> None:
    models, *reports = map(Path, argv)
    with tracking.run("track", read_params(), SECTIONS) as tracker:
        tracker.log_metrics(all_metrics(reports))
        identify_models(tracker, models)


def all_metrics(reports: list[Path]) -> dict[str, float]:
    """Return every number of each `<stage>/metrics.json` as `<stage>.<metric>`."""
    named = {f"{file.parent.name}.{key}": value for file in reports for key, value in read_json(file).items()}
    return {key: value for key, value in named.items() if isinstance(value, int | float)}


def identify_models(tracker: Tracker, models: Path) -> None:
    """Tag the hash of each model's weights and the run of the stage that made it."""
    for name, stage in MAKERS.items():
        weights = models / name / "model.safetensors"
        if weights.is_file():
            digest = sha256_file(weights)
            tracker.log_dataset(name, weights.as_posix(), digest)
            tracker.set_tags({f"model_sha256.{name}": digest})
            tracker.link_run(stage, "model_sha256", digest)
