"""The events that a run is recorded as, and the tags that they set.

An event is a small JSON object: `{"do": "metrics", "key": "val/loss", "value": 2.3, "time": ..., "step": 10}`.
"""

import sys
from typing import Any

from llmcore.base.credentials import masked

Event = dict[str, Any]

NOTE_TAG = "mlflow.note.content"  # a run's description, in Markdown
LINK_TAG = "run."  # before a stage (`download_text`): the run of that stage which this one builds on
CHANGED_TAG = "git.changed"  # files that differ from the commit, new code among them
READ_TAG = "in."  # before a path: DVC's hash of what the stage read there
WROTE_TAG = "out."  # before a path: DVC's hash of what the stage wrote there

REFUSED_LOGINS = {  # MLflow's error code -> what to do
    "UNAUTHENTICATED": "the server refuses the login; correct MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "PERMISSION_DENIED": "the server lets this user read only; its administrator can grant EDIT on the experiment",
}

_warned = False


def warn(sentence: str) -> None:
    """Print the first problem of tracking, once per process."""
    global _warned
    if not _warned:
        _warned = True
        from tqdm import tqdm

        tqdm.write(f"tracking: {sentence}", file=sys.stderr)  # above a progress bar that may be there


def one_line(error: object) -> str:
    """Return an error's text on one line, without passwords, 200 characters at most; of a refused login, the remedy."""
    if remedy := REFUSED_LOGINS.get(getattr(error, "error_code", "")):
        return remedy
    text = masked(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
