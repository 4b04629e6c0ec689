"""Text in, classes out: what the command line, the evaluation and served models share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from llmcore.base import parallel
from llmcore.base.containers import chunks
from llmcore.model.classifier import SequenceClassifier
from llmcore.tokenizer.tokenizer import Tokenizer


def classify_texts(model: SequenceClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, batch_size: int) -> Tensor:
    """Return the probability of each class for each text: (texts, labels).

    Longer texts are cut to the model's `max_tokens`; an empty one is read as end-of-text alone.
    """
    rows, _ = text_ids(model, tokenizer, texts)
    return class_probabilities(model, rows, batch_size=batch_size, pad_id=tokenizer.pad_id)


def text_ids(
    model: SequenceClassifier, tokenizer: Tokenizer, texts: Sequence[str]
) -> tuple[list[list[int]], list[bool]]:
    """Return what the model reads of each text, as ids, and whether the text was cut to its `max_tokens`."""
    encoded = [[*tokenizer.text_start, *ids] for ids in tokenizer.encode_stream(texts)]
    rows = [ids[: model.max_tokens] or [tokenizer.end_of_text] for ids in encoded]
    return rows, [len(ids) > model.max_tokens for ids in encoded]


@torch.no_grad()
def class_probabilities(
    model: SequenceClassifier, rows: Sequence[Sequence[int]], *, batch_size: int, pad_id: int
) -> Tensor:
    """Return the probability of each class for each row, in the rows' order: (rows, labels).

    UserError if the model's logits are not finite.
    """
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))

    def of(chosen: list[int]) -> Tensor:
        ids, read = model.pad([rows[row] for row in chosen], pad_id)
        logits = model.check_finite(model(ids.to(model.device), read.to(model.device)), "logits")  # (B, labels)
        return logits.float().softmax(-1).cpu()

    probabilities = torch.empty(len(rows), len(model.labels))
    parts = chunks(by_length, batch_size)
    for chosen, found in zip(parts, parallel.map_parts(of, parts), strict=True):
        probabilities[chosen] = found
    return probabilities
