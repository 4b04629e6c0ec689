"""Shared by the stages that prepare rows: splits and their audit, written and tracked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmcore.base.files import fresh_folder, read_json, sha256_folder, write_json
from llmcore.base.origin import read_source
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.data.meta import META_FILE
from llmcore.data.prepared import Prepared, audit_json, write_prepared
from llmcore.report.audit_lines import audit_lines
from llmcore.tracking.run import tracked_run


def prepare(
    stage: str,
    argv: list[str],
    data_name: str,
    split: Callable[[Path, Mapping[str, Any], Params], Prepared[Any]],
) -> None:
    """Split the rows of a raw folder, write them with their audit, and print what the audit found.

    `argv` are the paths of the stage's command; `split` takes the raw folder, its meta.json and the params.
    """
    raw, out, metrics_file, tables = map(Path, argv)
    params = read_params()
    meta = read_json(raw / META_FILE)
    with tracked_run(stage, params) as tracker:
        prepared = split(raw, meta, params)
        write_prepared(out, prepared, read_source(raw))
        write_json(metrics_file, prepared.metrics)
        audit = fresh_folder(tables) / "audit.json"
        write_json(audit, audit_json(prepared))
        tracker.log_metrics(prepared.metrics)
        tracker.log_artifact("audit.json", audit)
        tracker.log_input(data_name, meta["kind"], sha256_folder(out))
    print("\n".join(audit_lines(prepared.metrics)))
