"""The ledger: one run in MLflow about the whole pipeline, also when its trainings were restored from DVC's cache.
in: models, all reports | params: none | out: none."""

from pathlib import Path

from llmcore.base.files import read_json, sha256_file
from llmcore.config.kinds import MODEL_KINDS
from llmcore.config.read import read_params
from llmcore.dvc.files import hash_of
from llmcore.tracking.events import WROTE_TAG
from llmcore.tracking.run import tracked_run
from llmcore.tracking.tracker import OtherRun, Tracker

PICTURES = (".png", ".html", ".md")


def main(argv: list[str]) -> None:
    models, *reports = map(Path, argv)
    with tracked_run("track", read_params()) as tracker:
        tracker.log_metrics(all_metrics(reports))
        identify_models(tracker, models)
        for report in reports:
            attach_pictures(tracker, report.parent)


def all_metrics(reports: list[Path]) -> dict[str, float]:
    """Return every number of each `<stage>/metrics.json` as `<stage>/<metric>`."""
    named = {f"{file.parent.name}/{key}": value for file in reports for key, value in read_json(file).items()}
    return {key: value for key, value in named.items() if isinstance(value, int | float)}


def identify_models(tracker: Tracker, models: Path) -> None:
    """Tag the hash of each model's weights."""
    for name in MODEL_KINDS:
        weights = models / name / "model.safetensors"
        if weights.is_file():
            digest = sha256_file(weights)
            tracker.log_input(name, weights.as_posix(), digest)
            tracker.set_tags({f"model_sha256.{name}": digest})


def attach_pictures(tracker: Tracker, report: Path) -> None:
    """Store a stage's pictures in the run that wrote its tables."""
    tables = report / "tables"
    made_by = OtherRun(report.name, f"{WROTE_TAG}{tables.as_posix()}", hash_of(tables) or "")
    for picture in sorted((report / "plots").glob("*")):
        if picture.suffix in PICTURES:
            tracker.log_artifact(f"figures/{picture.name}", picture, run=made_by)
