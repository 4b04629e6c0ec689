"""What a model does with a text: the probability of each token, attention, the likeliest next tokens by block.

Texts are read as the beginning of a document: the first token is what stands before one. The pages show what these
functions return, JSON's values only. Shapes in the margin: T time (tokens), C = n_embd, V = vocab_size.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.generate.text_stream import next_text, token_texts
from llmcore.model.attention import layout_of
from llmcore.model.transformer import Block, LanguageModel
from llmcore.tokenizer.tokenizer import Tokenizer

ALTERNATIVES = 5
LENS_ALTERNATIVES = 3
MAX_EXPLAINED_TOKENS = 256  # more rows nobody reads
MAX_ATTENTION_TOKENS = 32  # more cannot be read in a picture
CHUNK_TOKENS = 256  # whose logits are in memory at the same time


@torch.inference_mode()
def inspect_tokens(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """Return the tokens of `text` with the probability that the model gave each, and the likeliest in its place.

    Keys: `tokens` (each `text`, `id`, `probability`, `alternatives`), `n_layer`, `n_head`, and `cut_tokens`, the number
    of those that did not fit. The first token has no probability and no alternatives.
    """
    ids, cut_tokens = _document_ids(model, tokenizer, text, model.config.context_length)
    texts = token_texts(tokenizer, ids)
    tokens: list[dict[str, Any]] = [{"text": texts[0], "id": ids[0], "probability": None, "alternatives": []}]
    hidden = model.body(torch.tensor([ids], device=model.device))[0]  # (T, C)
    for probabilities in _next_probabilities(model, hidden[:-1]):  # (V,)
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
    ids, cut_tokens = _document_ids(model, tokenizer, text, MAX_EXPLAINED_TOKENS)
    weights = _attention(model, ids, layer)[head].tolist()  # (T, T)
    rows = [row[: place + 1] for place, row in enumerate(weights)]
    return {"tokens": token_texts(tokenizer, ids), "weights": rows, "cut_tokens": cut_tokens}


@torch.inference_mode()
def inspect_lens(model: LanguageModel, tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    """Return the likeliest tokens behind each token if the model ended after each of its blocks.

    Keys: `tokens`, and `layers`: for each block and token the likeliest, `text` and `probability`. The logit lens of
    nostalgebraist 2020, "interpreting GPT: the logit lens".
    """
    ids, cut_tokens = _document_ids(model, tokenizer, text, MAX_EXPLAINED_TOKENS)
    states = model.body.hidden_states(torch.tensor([ids], device=model.device))[1:]
    layers = [
        [
            _likeliest(tokenizer, ids[: place + 1], probabilities, LENS_ALTERNATIVES)
            for place, probabilities in enumerate(_next_probabilities(model, model.body.final_norm(state)[0]))
        ]
        for state in states  # (1, T, C)
    ]
    return {"tokens": token_texts(tokenizer, ids), "layers": layers, "cut_tokens": cut_tokens}


def token_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return each token of `text` with the probability that the model gave it, as rows of a table."""
    tokens = inspect_tokens(model, tokenizer, text)["tokens"][1:]
    return [{"token": token["text"], "probability": token["probability"]} for token in tokens]


@torch.inference_mode()
def attention_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return the attention of the last block, mean of its heads: a row per token that looks.

    Columns: `token`, then the weight on each token by its number.
    """
    ids, _ = _document_ids(model, tokenizer, text, MAX_ATTENTION_TOKENS)
    weights = _attention(model, ids, model.config.n_layer - 1).mean(0).tolist()  # (T, T)
    return [
        {"token": token} | dict(zip(map(str, range(len(ids))), line, strict=True))
        for token, line in zip(token_texts(tokenizer, ids), weights, strict=True)
    ]


def _document_ids(model: LanguageModel, tokenizer: Tokenizer, text: str, max_tokens: int) -> tuple[list[int], int]:
    """Return the ids of `text` as the beginning of a document, cut to the context, and how many were cut off."""
    ids = [*tokenizer.document_start, *tokenizer.encode(text)]
    kept = ids[: min(max_tokens, model.config.context_length)]
    return kept, len(ids) - len(kept)


def _attention(model: LanguageModel, ids: Sequence[int], layer: int) -> Tensor:
    """Return the attention weights of one layer: (H, T, T)."""
    row = torch.tensor([ids], device=model.device)  # (1, T)
    state = model.body.hidden_states(row, layer)[-1]  # (1, T, C)
    block = cast(Block, model.body.blocks[layer])
    weights = block.attention_weights(state, model.body.prepared(layout_of(row)))[0]  # (H, T, T)
    return model.check_finite(weights, "attention").cpu()


def _next_probabilities(model: LanguageModel, hidden: Tensor) -> Iterator[Tensor]:
    """Yield the probabilities (V,) of what follows each position of `hidden` (T, C)."""
    for chunk in torch.split(hidden, CHUNK_TOKENS):
        yield from model.check_finite(model.lm_head(chunk), "logits").float().softmax(-1).cpu()


def _likeliest(tokenizer: Tokenizer, before: Sequence[int], probabilities: Tensor, count: int) -> list[dict[str, Any]]:
    """Return the likeliest tokens behind `before`, with the text that each would add."""
    values, ids = probabilities.topk(min(count, len(probabilities)))
    found: Iterable[tuple[int, float]] = zip(ids.tolist(), values.tolist(), strict=True)
    return [{"text": next_text(tokenizer, before, token), "probability": value} for token, value in found]
