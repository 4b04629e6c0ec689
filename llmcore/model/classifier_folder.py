"""Classifier folders: a GPT-2 folder that `AutoModelForSequenceClassification` opens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmcore.errors import UserError
from llmcore.model.classifier import GPTClassifier
from llmcore.model.folder import SavedTokenizer, read_config, read_weights, write_folder
from llmcore.model.gpt2_format import config_to_gpt2

CLASSIFIER = "GPT2ForSequenceClassification"  # the architecture's name in config.json
POOLINGS = ("last_real", "last_position")


def save_classifier(
    folder: str | Path,
    model: GPTClassifier,
    state: Mapping[str, Tensor],
    *,
    tokenizer: SavedTokenizer,
    origin: Mapping[str, Any],
    card: str,
) -> None:
    """Write a classifier's folder whole; `state` is the model's, without low-rank updates.

    transformers knows only the pooling `last_real`; for the other the folder says so in config and card.
    """
    values = config_to_gpt2(model.config, tokenizer.end_of_text) | {
        "architectures": [CLASSIFIER],
        "id2label": {str(index): label for index, label in enumerate(model.labels)},
        "label2id": {label: index for index, label in enumerate(model.labels)},
        "problem_type": "single_label_classification",
        "pooling": model.pooling,
        "max_tokens": model.max_tokens,
    }
    write_folder(folder, model.config, state, values, tokenizer=tokenizer, origin=origin, card=card)


def load_classifier(folder: str | Path) -> GPTClassifier:
    """Read a classifier, in fp32 and evaluation mode."""
    config, values = read_config(folder)
    names = values.get("id2label")
    if not isinstance(names, dict) or sorted(names) != sorted(str(index) for index in range(len(names))):
        raise UserError(f"{folder}/config.json: id2label must name the classes; give a classifier's folder")
    labels = [names[str(index)] for index in range(len(names))]
    pooling = values.get("pooling", POOLINGS[0])
    if pooling not in POOLINGS:
        raise UserError(f"{folder}/config.json: pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
    max_tokens = values.get("max_tokens", config.context_length)
    if type(max_tokens) is not int or not 0 < max_tokens <= config.context_length:
        rule = f"max_tokens must be an integer from 1 to n_positions ({config.context_length}), got {max_tokens!r}"
        raise UserError(f"{folder}/config.json: {rule}; correct it")
    with torch.device("meta"):  # shapes without memory: the file's tensors become the parameters
        model = GPTClassifier(config, labels, pooling, max_tokens)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(read_weights(folder, config, shapes, tied={}), assign=True)
    return model.eval()
