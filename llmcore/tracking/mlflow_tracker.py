"""A tracker that records events in a list, which a thread writes to MLflow."""

import base64
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.config.stages import describe
from llmcore.tracking.events import NOTE_TAG, READ_TAG, WROTE_TAG, warn
from llmcore.tracking.provenance import dvc_hashes, git_tags
from llmcore.tracking.run_name import changed_params, run_name
from llmcore.tracking.tracker import Content, OtherRun
from llmcore.tracking.writer import MlflowWriter

if TYPE_CHECKING:
    from llmcore.config.params import Params

EXPERIMENT_VARIABLES = {"dvc.exp_name": "DVC_EXP_NAME", "dvc.exp_baseline_rev": "DVC_EXP_BASELINE_REV"}


class MlflowTracker:
    """Records one run; see `Tracker` for the methods, `tracked_run` for the arguments."""

    def __init__(self, stage: str, params: "Params", *, note: str | None, training: str | None):
        self.stage = stage
        self._params = params
        self._note = note
        self._training = training
        self._finals: dict[str, float] = {}  # metrics without a step
        self._changes: dict[str, Any] = {}  # params that differ from the last commit
        self._identity: dict[str, str] = {}  # params and inputs, by which runs of a stage differ
        self._tables: list[dict[str, str]] = []
        self._writer = MlflowWriter(stage, training, late_tags=self._late_tags)
        self.set_tags({"dvc.stage": stage, "mlflow.source.name": stage, "mlflow.source.type": "LOCAL"})
        set_by_dvc = {tag: os.environ.get(name) for tag, name in EXPERIMENT_VARIABLES.items()}
        self.set_tags({tag: value for tag, value in set_by_dvc.items() if value})

    @property
    def name(self) -> str:
        """The run's name: DVC's experiment, or the stage, a hash of its params and inputs, and what changed."""
        return run_name(self.stage, self._identity, self._changes)

    def log_params(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            self._identity[key] = text
            self._record({"do": "params", "key": key, "value": text})
        self._changes |= changed_params(values)
        if not self._writer.is_started:
            self._writer.start(self.name)

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        now = _now_ms()
        if step is None:
            self._finals |= values
        for key, value in values.items():
            if math.isfinite(number := float(value)):
                self._record({"do": "metrics", "key": key, "value": number, "time": now, "step": step or 0})

    def log_artifact(self, name: str, content: Content, run: OtherRun | None = None) -> None:
        if isinstance(content, Path):
            try:
                data = content.read_bytes()
            except OSError as error:
                warn(f"artifact left out ({error})")
                return
        elif isinstance(content, str):
            data = content.encode()
        else:
            columns = list(dict.fromkeys(key for row in content for key in row))
            table = {"columns": columns, "data": [[row.get(column) for column in columns] for row in content]}
            data = json.dumps(table, ensure_ascii=False, default=str).encode()
            self._tables.append({"path": name, "type": "table"})
            self._record({"do": "table", "tables": list(self._tables)})
        event = {"do": "artifact", "name": name, "base64": base64.b64encode(data).decode()}
        self._record(event | ({"run": run._asdict()} if run else {}))

    def log_input(self, name: str, source: str, digest: str) -> None:
        self._identity[f"dataset {name}"] = digest
        self._record({"do": "dataset", "name": name, "source": source, "digest": digest})

    def set_tags(self, values: Mapping[str, str]) -> None:
        for key, value in values.items():
            self._record({"do": "tags", "key": key, "value": str(value)})

    def finish(self, status: str) -> None:
        """End the run; a training prints the time that tracking took."""
        if status == "FINISHED":
            self.set_tags(dvc_hashes(self.stage, self._params, WROTE_TAG))
        if note := self._note or describe(self.stage, self._finals):
            self.set_tags({NOTE_TAG: note})
        self._writer.finish(status, self.name)
        if self._training:
            print(f"{self.stage}: {self._writer.cost()}", file=sys.stderr)

    def _late_tags(self) -> dict[str, str]:
        """Return tags that take a moment to compute; the writer's thread asks for them."""
        return git_tags() | dvc_hashes(self.stage, self._params, READ_TAG)

    def _record(self, event: dict[str, Any]) -> None:
        self._writer.record(event)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
