"""What a run is called in MLflow: DVC's experiment, or the numbers that were changed, the stage and a hash."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from llmcore.base.containers import flat
from llmcore.base.git import git
from llmcore.base.project import project_root

MAX_SHOWN_CHANGES = 3
MAX_NAME_CHARACTERS = 80


def run_name(stage: str, identity: Mapping[str, str], changes: Mapping[str, Any]) -> str:
    """Return the name: `lr=0.001 pretrain-3fa9c1d2`, with what changed first, because a table cuts long names.

    `identity` are the params and digests of inputs by which runs of a stage differ; `changes` are the params that
    differ from the last commit, by dotted key.
    """
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return experiment
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    shown = [f"{key.rpartition('.')[2]}={value}" for key, value in list(changes.items())[:MAX_SHOWN_CHANGES]]
    if len(changes) > MAX_SHOWN_CHANGES:
        shown.append(f"and {len(changes) - MAX_SHOWN_CHANGES} more")
    name = f"{stage}-{digest}"
    room = MAX_NAME_CHARACTERS - len(name) - 1
    changed = " ".join(shown)
    return f"{changed if len(changed) <= room else changed[: room - 3] + '...'} {name}".lstrip()


def changed_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the params, given by dotted key, that differ from params.yaml in the last commit.

    Nothing where there is no git, no commit, or no readable params.yaml in it.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        committed = flat(YAML(typ="safe").load(git(project_root(), "show", "HEAD:./params.yaml")))
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError, YAMLError, AttributeError):
        return {}
    return {key: value for key, value in params.items() if key in committed and committed[key] != value}
