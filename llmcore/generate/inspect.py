"""What a model does with a text, as rows of tables: the probability of each token, where the last block looks."""

from typing import Any

import torch

from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.tokenizer import Tokenizer

MAX_ATTENTION_TOKENS = 32  # more cannot be read in a picture


@torch.no_grad()
def token_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return each token of `text` with the probability that the model gave it."""
    ids = _document_ids(model, tokenizer, text)
    row = torch.tensor([ids], device=model.device)  # (1, T)
    probabilities = model.check_finite(model(row), "logits")[0, :-1].softmax(-1).cpu()  # (T-1, V)
    chosen = probabilities[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].tolist()
    return [
        {"token": tokenizer.decode([token]), "probability": probability}
        for token, probability in zip(ids[1:], chosen, strict=True)
    ]


def attention_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return the attention of the last block, mean of its heads: a row per token that looks.

    Columns: `token`, then the weight on each token by its number.
    """
    ids = _document_ids(model, tokenizer, text)[:MAX_ATTENTION_TOKENS]
    row = torch.tensor([ids], device=model.device)  # (1, T)
    weights = model.check_finite(model.attention_maps(row), "attention")[-1, 0].mean(0).cpu().tolist()  # (T, T)
    return [
        {"token": tokenizer.decode([token])} | dict(zip(map(str, range(len(ids))), line, strict=True))
        for token, line in zip(ids, weights, strict=True)
    ]


def _document_ids(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the ids of `text` as the beginning of a document, cut to the context."""
    return [*tokenizer.document_start, *tokenizer.encode(text)][: model.config.context_length]
