"""Model folders of a few weights, for the commands that use them on files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.bpe import BytePairTokenizer


@pytest.fixture
def classifier(
    tmp_path: Path, config: GPT2Config, tokenizer: BytePairTokenizer, randomised: Callable[..., Any]
) -> Callable[..., Path]:
    """Return a function that saves a classifier of these labels, which cuts texts to 12 tokens."""

    def save(*labels: str) -> Path:
        model = randomised(SequenceClassifier(new_model(config).body, list(labels), "last_real", 12))
        folder = tmp_path / "classifier"
        save_classifier(folder, model, model.state_dict(), tokenizer=tokenizer, origin={})
        return folder

    return save


@pytest.fixture
def language_model(
    tmp_path: Path, config: GPT2Config, tokenizer: BytePairTokenizer, randomised: Callable[..., Any]
) -> Path:
    folder = tmp_path / "language-model"
    save_language_model(folder, randomised(new_model(config)), tokenizer=tokenizer, origin={})
    return folder
