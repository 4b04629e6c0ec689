"""Tiny models with random weights, and an endpoint that serves them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from serve.endpoint import Endpoint, running

from llmcore.model.classifier import SequenceClassifier
from llmcore.model.registry import new_model
from llmcore.serve.models import ServedModel


@pytest.fixture(scope="session")
def served_models(tokenizer: Any, config: Any, randomised: Callable[..., Any]) -> dict[str, ServedModel]:
    """One of each kind; their texts have at most 256 tokens."""
    wide = type(config)(**{**vars(config), "context_length": 256, "n_embd": 16})
    model = randomised(new_model(wide))
    chat = randomised(new_model(wide), seed=1)
    classifier = randomised(SequenceClassifier(new_model(config).body, ["ham", "news", "spam"], "last_real", 20))
    return {
        "story": ServedModel("story", "text", model, tokenizer, None, "models/story"),
        "helper": ServedModel("helper", "chat", chat, tokenizer, "alpaca", "models/helper"),
        "sorter": ServedModel("sorter", "classifier", classifier, tokenizer, None, "models/sorter"),
    }


@pytest.fixture(scope="session")
def endpoint(served_models: dict[str, ServedModel]) -> Iterator[Endpoint]:
    with running(served_models) as found:
        yield found
