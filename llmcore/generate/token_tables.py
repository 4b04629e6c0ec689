"""What a model does with its own text, as tables of a stage: the probability of each token, where the last block looks.

Shapes in the margin: T time (tokens), C = n_embd, V = vocab_size.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from llmcore.generate.text_stream import token_texts
from llmcore.model.attention import layout_of
from llmcore.model.transformer import Block, LanguageModel
from llmcore.tokenizer.tokenizer import Tokenizer

MAX_ATTENTION_TOKENS = 32  # more cannot be read in a picture
CHUNK_TOKENS = 256  # whose logits are in memory at the same time


@torch.inference_mode()
def token_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return each token of `text` with the probability that the model gave it."""
    ids, _ = document_ids(model, tokenizer, text, model.config.context_length)
    hidden = model.body(torch.tensor([ids], device=model.device))[0, :-1]  # (T - 1, C)
    rows = zip(token_texts(tokenizer, ids)[1:], ids[1:], next_probabilities(model, hidden), strict=True)
    return [{"token": token, "probability": float(chances[id])} for token, id, chances in rows]


@torch.inference_mode()
def attention_rows(model: LanguageModel, tokenizer: Tokenizer, text: str) -> list[dict[str, Any]]:
    """Return the attention of the last block, mean of its heads: a row per token that looks.

    Columns: `token`, then the weight on each token by its number.
    """
    ids, _ = document_ids(model, tokenizer, text, MAX_ATTENTION_TOKENS)
    weights = attention(model, ids, model.config.n_layer - 1).mean(0).tolist()  # (T, T)
    return [
        {"token": token} | dict(zip(map(str, range(len(ids))), line, strict=True))
        for token, line in zip(token_texts(tokenizer, ids), weights, strict=True)
    ]


def document_ids(model: LanguageModel, tokenizer: Tokenizer, text: str, max_tokens: int) -> tuple[list[int], int]:
    """Return the ids of `text` as the beginning of a document, cut to the context, and how many were cut off."""
    ids = [*tokenizer.document_start, *tokenizer.encode(text)]
    kept = ids[: min(max_tokens, model.config.context_length)]
    return kept, len(ids) - len(kept)


def attention(model: LanguageModel, ids: Sequence[int], layer: int) -> Tensor:
    """Return the attention weights of one layer: (H, T, T)."""
    row = torch.tensor([ids], device=model.device)  # (1, T)
    state = model.body.hidden_states(row, layer)[-1]  # (1, T, C)
    block = cast(Block, model.body.blocks[layer])
    weights = block.attention_weights(state, model.body.prepared(layout_of(row)))[0]  # (H, T, T)
    return model.check_finite(weights, "attention").cpu()


def next_probabilities(model: LanguageModel, hidden: Tensor) -> Iterator[Tensor]:
    """Yield the probabilities (V,) of what follows each position of `hidden` (T, C)."""
    for chunk in torch.split(hidden, CHUNK_TOKENS):
        yield from model.check_finite(model.lm_head(chunk), "logits").float().softmax(-1).cpu()
