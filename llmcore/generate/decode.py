"""Decoding: continue prompts token by token with a key-value cache. It sees ids, never text."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.seeds import torch_generator
from llmcore.generate.sampling import Sampling, choose
from llmcore.model.cache import Cache
from llmcore.model.gpt2 import GPT


@torch.inference_mode()
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
    All are written together, a token of each at a time; each row draws from a generator of its own, so a
    prompt's continuation depends on its place in `prompts` and the seed, not on its neighbours. UserError
    for a prompt that is empty or leaves no room in the context.
    """
    context = model.config.context_length
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise UserError(f"prompt: must have 1 to {context - 1} tokens, got {len(prompt)}; shorten it")
    continuations: list[list[int]] = [[] for _ in prompts]
    limits = [min(max_new_tokens, context - len(prompt)) for prompt in prompts]
    generators = [torch_generator(seed, "decode", row) for row in range(len(prompts))]
    rows = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # those still going on
    if not rows:
        return []
    model.eval()
    hidden, cache = read_prompts(model, [prompts[row] for row in rows], max(limits))  # (B, C)
    while True:
        logits = model.lm_head(hidden).float().cpu()  # (B, V); draws are made on the CPU, so devices agree
        tokens = [int(choose(scores, sampling, generators[row])) for scores, row in zip(logits, rows, strict=True)]
        for row, token in zip(rows, tokens, strict=True):
            if token != stop_id:
                continuations[row].append(token)
        going = [
            place
            for place, (row, token) in enumerate(zip(rows, tokens, strict=True))
            if token != stop_id and len(continuations[row]) < limits[row]
        ]
        if not going:
            return continuations
        if len(going) < len(rows):
            cache.keep(torch.tensor(going, device=hidden.device))
        rows, tokens = [rows[place] for place in going], [tokens[place] for place in going]
        ids = torch.tensor(tokens, device=hidden.device)[:, None]  # (B', 1)
        hidden = model.transformer(ids, cache)[:, -1]  # (B', C)


def read_prompts(model: GPT, prompts: Sequence[Sequence[int]], new_tokens: int) -> tuple[Tensor, Cache]:
    """Return what each prompt's last token holds (B, C), and the cache with room for `new_tokens` more of each.

    The prompts come in order of length. Those of one length are read together, so nothing is padded; in the
    cache all end in the same column.
    """
    config, positions = model.config, model.transformer.wpe.weight  # of the type and device of all that is computed
    lengths = [len(prompt) for prompt in prompts]
    shape = (len(prompts), config.n_head, lengths[-1] + new_tokens, config.n_embd // config.n_head)
    cache = Cache.empty(n_layer=config.n_layer, shape=shape, like=positions)
    starts = lengths[-1] - torch.tensor(lengths, device=positions.device)  # (B,)
    hidden = []
    for length, group in groupby(range(len(prompts)), key=lambda row: lengths[row]):
        rows = list(group)
        part = cache.part(slice(rows[0], rows[-1] + 1), lengths[-1] - length)
        ids = torch.tensor([list(prompts[row]) for row in rows], device=positions.device)  # (B', T)
        hidden.append(model.transformer(ids, part)[:, -1])  # (B', C)
    cache.go_on(lengths[-1], starts)
    return torch.cat(hidden), cache
