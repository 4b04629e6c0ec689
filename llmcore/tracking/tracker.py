"""What a stage can record about its run: the protocol, and a tracker that records nothing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

Content = Path | str | Sequence[Mapping[str, Any]]  # a file, a text, or rows of a table


class OtherRun(NamedTuple):
    """The newest run of a stage in which a tag has this value."""

    stage: str
    tag: str
    value: str


class Tracker(Protocol):
    """What a stage can record about its run. No method waits for a server or fails because of one."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        """Record settings, one value for the whole run."""
        ...

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers at `step`, or final ones without it; those that are not finite are left out."""
        ...

    def log_artifact(self, name: str, content: Content, run: OtherRun | None = None) -> None:
        """Store a small file under `name` (`samples/step-000100.txt`), in another run if one is given."""
        ...

    def log_input(self, name: str, source: str, digest: str) -> None:
        """Record an input: a short name, where it lies or comes from, and the hash of its content."""
        ...

    def set_tags(self, values: Mapping[str, str]) -> None:
        """Record facts that may change or be searched for: `model_sha256`."""
        ...

    def finish(self, status: str) -> None:
        """End the run as FINISHED, FAILED or KILLED."""
        ...


class NullTracker:
    """Records nothing."""

    def log_params(self, values: Mapping[str, Any]) -> None:
        return

    def log_metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        return

    def log_artifact(self, name: str, content: Content, run: OtherRun | None = None) -> None:
        return

    def log_input(self, name: str, source: str, digest: str) -> None:
        return

    def set_tags(self, values: Mapping[str, str]) -> None:
        return

    def finish(self, status: str) -> None:
        return
