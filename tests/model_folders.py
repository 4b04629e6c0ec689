"""Helpers of the tests of model folders."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_folder
from llmcore.model.folder import load_language_model


def their_model() -> transformers.GPT2LMHeadModel:
    """A small model of transformers."""
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 16, "vocab_size": 40}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape))


def set_config(folder: Path, **changes) -> None:
    """Change values of a folder's config.json."""
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def assert_refused(folder: Path, message: str) -> str:
    """Loading fails with a one-line message, which is returned, and does not change the folder."""
    before = sha256_folder(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)
    assert sha256_folder(folder) == before
    return str(caught.value)


def assert_equal_states(first, second) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
