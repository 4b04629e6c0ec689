"""What a folder says of its tokenizer beside the vocabulary: special tokens, chat template, tokens that stop."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmcore.base.errors import UserError
from llmcore.base.files import read_bytes, read_json
from llmcore.base.text import normalise_input
from llmcore.tokenizer.tokenizer import ROLES


def read_tokenizer_config(folder: str | Path) -> dict[str, Any]:
    """Return the values of `tokenizer_config.json`, the roles of its special tokens as texts.

    Roles that it leaves out come from `special_tokens_map.json`. `chat_template` is a text or absent: the template
    named `default` where there are several, that of `chat_template.jinja` where there is one. No file is needed.
    """
    folder = Path(folder)
    values = _read_object(folder / "tokenizer_config.json")
    other_roles = _read_object(folder / "special_tokens_map.json")
    for role in (f"{role}_token" for role in ROLES):
        text = _role_text(values.pop(role, None) or other_roles.get(role), role, folder)
        values |= {} if text is None else {role: text}
    template = _chat_template(values.pop("chat_template", None), folder)
    return values if template is None else values | {"chat_template": template}


def read_stop_ids(folder: str | Path) -> list[int]:
    """Return `eos_token_id` of `generation_config.json`, one or several; nothing where there is none."""
    path = Path(folder) / "generation_config.json"
    found = _read_object(path).get("eos_token_id")
    stops = found if isinstance(found, list) else [] if found is None else [found]
    if not all(type(stop) is int and stop >= 0 for stop in stops):
        raise UserError(f"{path}: eos_token_id must be an id or a list of ids, got {found!r}; restore the file")
    return stops


def _read_object(path: Path) -> dict[str, Any]:
    values = read_json(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a JSON object, got {type(values).__name__}; restore the file")
    return values


def _role_text(value: object, role: str, folder: Path) -> str | None:
    """Return the text of a special token, which is stored as it is or as an object with its `content`."""
    text = value.get("content") if isinstance(value, Mapping) else value
    if text is not None and not isinstance(text, str):
        raise UserError(f"{folder}/tokenizer_config.json: {role} must be a text, got {text!r}; restore the file")
    return text


def _chat_template(value: object, folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return normalise_input(read_bytes(path).decode("utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error}); restore the file") from None
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        rule = f"chat_template must be a text, got {type(value).__name__}"
        raise UserError(f"{folder}/tokenizer_config.json: {rule}; restore the file")
    return value
