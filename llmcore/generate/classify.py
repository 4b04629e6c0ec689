"""Text in, classes out: what the command line, the evaluation and served models share."""

from collections.abc import Sequence

from torch import Tensor

from llmcore.model.classifier import GPTClassifier
from llmcore.tasks.classification import class_probabilities
from llmcore.tokenizer.bpe import Tokenizer


def classify_texts(model: GPTClassifier, tokenizer: Tokenizer, texts: Sequence[str], *, batch_size: int) -> Tensor:
    """Return the probability of each class for each text: (texts, labels).

    Longer texts are cut to the model's `max_tokens`; an empty one is read as end-of-text alone.
    """
    rows = [ids[: model.max_tokens] or [tokenizer.end_of_text] for ids in tokenizer.encode_stream(texts)]
    pad_to = model.max_tokens if model.pooling == "last_position" else None
    return class_probabilities(model, rows, batch_size=batch_size, pad_id=tokenizer.end_of_text, pad_to=pad_to)
