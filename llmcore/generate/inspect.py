"""What a model does with a text: the probability of each token, attention, the likeliest next tokens by block.

Texts are read as the beginning of a document: the first token is what stands before one. The pages show what these
functions return, JSON's values only. Shapes in the margin: T time (tokens), C = n_embd, V = vocab_size.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.generate.text_stream import next_text, token_texts
from llmcore.generate.token_tables import attention, document_ids, next_probabilities
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 5
LENS_ALTERNATIVES = 3
MAX_EXPLAINED_TOKENS = 256  # more rows nobody reads


@torch.inference_mode()
def inspect_tokens(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """Return the tokens of `text` with the probability that the model gave each, and the likeliest in its place.

    Keys: `tokens` (each `text`, `id`, `probability`, `alternatives`), `n_layer`, `n_head`, and `cut_tokens`, the number
    of those that did not fit. The first token has no probability and no alternatives.
    """
    ids, cut_tokens = document_ids(model, tokenizer, text, model.config.context_length)
    texts = token_texts(tokenizer, ids)
    tokens: list[dict[str, Any]] = [{"text": texts[0], "id": ids[0], "probability": None, "alternatives": []}]
    hidden = model.body(torch.tensor([ids], device=model.device))[0]  # (T, C)
    for probabilities in next_probabilities(model, hidden[:-1]):  # (V,)
        place = len(tokens)
        chances = float(probabilities[ids[place]])
        likeliest = _likeliest(tokenizer, ids[:place], probabilities, ALTERNATIVES)
        tokens.append({"text": texts[place], "id": ids[place], "probability": chances, "alternatives": likeliest})
    sizes = {"n_layer": model.config.n_layer, "n_head": model.config.n_head}
    return {"tokens": tokens, **sizes, "cut_tokens": cut_tokens}


@torch.inference_mode()
def inspect_attention(model: LanguageModel, tokenizer: Tokenizer, text: str, layer: int, head: int) -> dict[str, Any]:
    """Return where one head looks: `tokens`, their texts, and `weights`, for each token a row on those up to itself.

    `layer` and `head` count from 0; UserError if the model has no such.
    """
    for name, number, count in (("layer", layer, model.config.n_layer), ("head", head, model.config.n_head)):
        if not 0 <= number < count:
            raise UserError(f"{name}: must be from 0 to {count - 1}, got {number}; correct it")
    ids, cut_tokens = document_ids(model, tokenizer, text, MAX_EXPLAINED_TOKENS)
    weights = attention(model, ids, layer)[head].tolist()  # (T, T)
    rows = [row[: place + 1] for place, row in enumerate(weights)]
    return {"tokens": token_texts(tokenizer, ids), "weights": rows, "cut_tokens": cut_tokens}


@torch.inference_mode()
def inspect_lens(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """Return the likeliest tokens behind each token if the model ended after each of its blocks.

    Keys: `tokens`, and `layers`: for each block and token the likeliest, `text` and `probability`. The logit lens of
    nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    ids, cut_tokens = document_ids(model, tokenizer, text, MAX_EXPLAINED_TOKENS)
    states = model.body.hidden_states(torch.tensor([ids], device=model.device))[1:]
    layers = [
        [
            _likeliest(tokenizer, ids[: place + 1], probabilities, LENS_ALTERNATIVES)
            for place, probabilities in enumerate(next_probabilities(model, model.body.final_norm(state)[0]))
        ]
        for state in states  # (1, T, C)
    ]
    return {"tokens": token_texts(tokenizer, ids), "layers": layers, "cut_tokens": cut_tokens}


def _likeliest(tokenizer: Tokenizer, before: Sequence[int], probabilities: Tensor, count: int) -> list[dict[str, Any]]:
    """Return the likeliest tokens behind `before`, with the text that each would add."""
    values, ids = probabilities.topk(min(count, len(probabilities)))
    found: Iterable[tuple[int, float]] = zip(ids.tolist(), values.tolist(), strict=True)
    return [{"text": next_text(tokenizer, before, token), "probability": value} for token, value in found]
