"""Decoding: continue prompts token by token with a key-value cache. It sees ids, never text."""

from collections.abc import Collection, Sequence
from itertools import groupby

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.generate.sampling import choose
from llmcore.model.cache import Cache
from llmcore.model.transformer import LanguageModel


@torch.inference_mode()
def decode(
    model: LanguageModel, prompts: Sequence[Sequence[int]], config: GenerationConfig, *, stop_ids: Collection[int]
) -> list[list[int]]:
    """Return the continuation of each prompt, without the prompt and without the one of `stop_ids` that ended it.

    A continuation ends before one of `stop_ids`, after `max_new_tokens`, or where the model's context is full.
    All are decoded together, one token of each per step; each row draws from a generator of its own, so a
    prompt's continuation depends on its place in `prompts` and the seed, not on its neighbours. UserError
    for a prompt that is empty or leaves no room in the context, and for logits that are not finite.
    """
    context = model.config.context_length
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise UserError(f"prompt: must have 1 to {context - 1} tokens, got {len(prompt)}; shorten it")
    continuations: list[list[int]] = [[] for _ in prompts]
    limits = [min(config.max_new_tokens, context - len(prompt)) for prompt in prompts]
    generators = [torch_generator(config.seed, "decode", row) for row in range(len(prompts))]
    rows = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # those not finished yet
    if not rows:
        return []
    model.eval()
    hidden, cache = prefill(model, [prompts[row] for row in rows], max(limits))  # (B, C)
    while True:
        logits = model.check_finite(model.lm_head(hidden), "logits").float().cpu()  # (B, V)
        # draws are made on the CPU, so devices agree
        tokens = [int(choose(scores, config, generators[row])) for scores, row in zip(logits, rows, strict=True)]
        for row, token in zip(rows, tokens, strict=True):
            if token not in stop_ids:
                continuations[row].append(token)
        unfinished = [
            place
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True))
            if token not in stop_ids and len(continuations[row]) < limits[row]
        ]
        if not unfinished:
            return continuations
        if len(unfinished) < len(rows):
            cache.select_rows(torch.tensor(unfinished, device=hidden.device))
        rows = [rows[place] for place in unfinished]
        tokens = [tokens[place] for place in unfinished]
        ids = torch.tensor(tokens, device=hidden.device)[:, None]  # (B', 1)
        hidden = model.body(ids, cache)[:, -1]  # (B', C)


def prefill(model: LanguageModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Tensor, Cache]:
    """Return the hidden state of each prompt's last token (B, C), and the cache with room for `new_tokens` more.

    The prompts come in order of length. Those of one length are read together, so nothing is padded; in the
    cache all end in the same column.
    """
    lengths = [len(prompt) for prompt in prompts]
    cache = model.new_cache(len(prompts), lengths[-1] + new_tokens)
    starts = lengths[-1] - torch.tensor(lengths, device=model.device)  # (B,)
    hidden = []
    for length, group in groupby(range(len(prompts)), key=lambda row: lengths[row]):
        rows = list(group)
        view = cache.view(slice(rows[0], rows[-1] + 1), lengths[-1] - length)
        ids = torch.tensor([list(prompts[row]) for row in rows], device=model.device)  # (B', T)
        hidden.append(model.body(ids, view)[:, -1])  # (B', C)
    cache.resume_at(lengths[-1], starts)
    return torch.cat(hidden), cache
