"""Reading params.yaml: every problem of the file is reported at once, one line each: key, rule, value, remedy."""

import difflib
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmcore.base.errors import UserError
from llmcore.base.files import read_yaml
from llmcore.config.params import Params

PARAMS_FILE = Path("params.yaml")
RENAMED = {  # the new name of a key that older files have, by section
    ("sources.text", "size"): "stories",
    ("sources.spam", "size"): "rows",
    ("sources.instructions", "size"): "rows",
    ("sample", "starts"): "window_start",
    ("instruct", "overlong"): "too_long",
    ("classifier", "trains"): "trainable",
    ("instruct", "trains"): "trainable",
    **{
        (section, old): new
        for section in ("pretrain", "classifier", "instruct")
        for old, new in (
            ("keep", "keep_checkpoint"),
            ("patience_evaluations", "early_stopping_patience"),
        )
    },
}


def read_params(path: str | Path = PARAMS_FILE) -> Params:
    """Read and check `params.yaml`; raise one UserError that lists every problem, one line each."""
    return check_params(read_yaml(path), str(path))


def check_params(values: Any, source: str = "params") -> Params:
    """Build `Params` from plain values; raise one UserError that lists every problem, one line each."""
    if not isinstance(values, dict):
        raise UserError(f"{source}: must be a mapping of sections, got {type(values).__name__}; start from a preset")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [line for problem in error.errors() for line in _explain(problem)]
        raise UserError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(problem: Any) -> list[str]:
    """Return one of pydantic's findings as lines: key, rule, value, remedy."""
    key = _key(problem["loc"])
    kind, value = problem["type"], problem["input"]
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _explain_kind(key, problem)
    if kind == "extra_forbidden":
        section, _, name = key.rpartition(".")
        if new := RENAMED.get((section, name)):
            return [f"{key} is now called {section}.{new}; rename it"]
        return [f"{key} is not a known key{_nearest(problem['loc'])}; remove or rename it"]
    if kind == "missing":
        return [f"{key} is missing; add it, e.g. from presets/quickstart.yaml"]
    if kind == "value_error":
        prefix = f"{key}." if key else ""
        return [f"{prefix}{line}" for line in str(problem["ctx"]["error"]).splitlines()]
    if kind in ("model_type", "model_attributes_type"):
        return [f"{key} must be a mapping of keys, got {value!r}; correct it, e.g. from presets/quickstart.yaml"]
    rule = re.sub(r"^(Input|List|String) should", "must", problem["msg"])
    return [f"{key} {rule}, got {value!r}; correct the value"]


def _key(location: tuple[str | int, ...]) -> str:
    """Return the key of pydantic's location, which names the kind of an element of a list after its number."""
    pairs = zip(("", *location), location, strict=False)
    return ".".join(str(part) for before, part in pairs if not isinstance(before, int))


def _explain_kind(key: str, problem: Any) -> list[str]:
    """Return the line of an element of a list that has no kind, or one that is not known."""
    if problem["type"] == "union_tag_not_found":
        return [f"{key}.kind is missing; add it"]
    tags = problem["ctx"]
    return [f"{key}.kind must be one of {tags['expected_tags']}, got {tags['tag']!r}; correct the value"]


def _nearest(location: tuple[str | int, ...]) -> str:
    """Name the known key that the unknown one most resembles, if there is one."""
    section: Any = Params
    if any(isinstance(part, int) for part in location):  # an element of a list may be of several kinds
        return ""
    for part in location[:-1]:
        section = section.model_fields[part].annotation
    close = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
