"""Decoding: continue prompts token by token with a key-value cache. It sees ids, never text."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from llmcore.errors import UserError
from llmcore.generate.sampling import Sampling, choose
from llmcore.model.cache import Cache
from llmcore.model.gpt import GPT
from llmcore.seeds import torch_generator


@torch.no_grad()
def decode(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    stop_id: int | None,
) -> list[list[int]]:
    """Return the continuation of each prompt, without the prompt and without `stop_id`.

    A continuation ends before `stop_id`, after `max_new_tokens`, or where the model's context is full.
    Prompts of equal length are decoded together; each row draws from a generator of its own, so a
    prompt's continuation depends on its place in `prompts` and the seed, not on its neighbours. UserError
    for a prompt that is empty or leaves no room in the context.
    """
    context = model.config.context_length
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        if not 0 < len(prompt) < context:
            raise UserError(f"prompt: must have 1 to {context - 1} tokens, got {len(prompt)}; shorten it")
        by_length[len(prompt)].append(row)
    model.eval()
    continuations: list[list[int]] = [[] for _ in prompts]
    for length, rows in sorted(by_length.items()):
        ids = torch.tensor([list(prompts[row]) for row in rows], device=model.lm_head.weight.device)  # (B, T)
        generators = [torch_generator(seed, "decode", row) for row in rows]
        new_tokens = min(max_new_tokens, context - length)
        written = _decode_equal(model, ids, new_tokens, sampling, generators, stop_id)
        for row, continuation in zip(rows, written, strict=True):
            continuations[row] = continuation
    return continuations


def _decode_equal(
    model: GPT,
    ids: Tensor,
    new_tokens: int,
    sampling: Sampling,
    generators: list[torch.Generator],
    stop_id: int | None,
) -> list[list[int]]:
    """Continue prompts of one length (B, T), all at once; a row that has ended leaves the batch."""
    config = model.config
    batch, length = ids.shape
    shape = (batch, config.n_head, length + new_tokens, config.n_embd // config.n_head)
    cache = Cache.empty(n_layer=config.n_layer, shape=shape, like=model.lm_head.weight)
    continuations: list[list[int]] = [[] for _ in range(batch)]
    rows = list(range(batch))  # of the prompts still going on
    for _ in range(new_tokens):
        hidden = model.transformer(ids, cache)[:, -1]  # (B', C)
        logits = model.lm_head(hidden).float().cpu()  # (B', V); draws are made on the CPU, so devices agree
        tokens = [int(choose(scores, sampling, generators[row])) for scores, row in zip(logits, rows, strict=True)]
        going = [place for place, token in enumerate(tokens) if token != stop_id]
        if not going:
            break
        if len(going) < len(rows):
            cache.keep(torch.tensor(going, device=ids.device))
        rows, tokens = [rows[place] for place in going], [tokens[place] for place in going]
        for row, token in zip(rows, tokens, strict=True):
            continuations[row].append(token)
        ids = torch.tensor(tokens, device=ids.device)[:, None]  # (B', 1)
    return continuations
