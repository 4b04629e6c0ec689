"""Tags that join a run with git and DVC: the commit, edited files, and DVC's hashes of inputs and outputs."""

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.base.git import changed_files, git, git_problem, new_code
from llmcore.dvc.files import STAGES_FILE, hash_of, stage_paths
from llmcore.tracking.events import CHANGED_TAG, READ_TAG, one_line, warn

if TYPE_CHECKING:
    from llmcore.config.params import Params

MAX_TAG_CHARACTERS = 5000  # of older servers
BLOB_CHARACTERS = 12  # enough to find a blob by
PLAIN_PATH = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)  # others cannot be part of a tag's name


def dvc_hashes(stage: str, params: "Params", tag: str) -> dict[str, str]:
    """Return DVC's hashes of what the stage reads (READ_TAG) or has written, by which `llmcore lineage` joins runs."""
    try:
        stages = (read_yaml(STAGES_FILE) or {}).get("stages", {}) if STAGES_FILE.is_file() else {}
        read, wrote = stage_paths(stage, stages, params.model_dump(mode="json"))
        found = {path: hash_of(Path(path)) for path in (read if tag == READ_TAG else wrote)}
    except (UserError, OSError) as error:
        warn(f"no hashes of inputs and outputs ({one_line(error)})")
        return {}
    return {f"{tag}{path}": value for path, value in found.items() if value and PLAIN_PATH.fullmatch(path)}


def git_tags(folder: str | Path = ".") -> dict[str, str]:
    """Return the commit and what differs from it, names and git's hashes; nothing outside a git repository."""
    try:
        commit = git(folder, "rev-parse", "HEAD")
        tracked = changed_files(folder)
        new = new_code(folder)
    except (OSError, ValueError, subprocess.SubprocessError):  # ValueError: names that are no text
        if problem := git_problem(folder):
            warn(f"no commit is recorded ({one_line(problem)})")
        return {}
    changed = changed_tag(tracked | new) if tracked or new else "{}"
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(tracked)).lower(), CHANGED_TAG: changed}


def changed_tag(changed: dict[str, str]) -> str:
    """Return files as JSON, path -> shortened blob; those that a tag has no room for are counted under `...`."""
    shown = {path: blob[:BLOB_CHARACTERS] for path, blob in changed.items()}
    left_out = 0
    while len(text := json.dumps(shown | ({"...": str(left_out)} if left_out else {}))) > MAX_TAG_CHARACTERS:
        shown.popitem()
        left_out += 1
    return text
