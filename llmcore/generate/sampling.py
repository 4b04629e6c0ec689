"""From logits to the next token. Book: chapter 5.3.

The order is transformers': penalty for repetition, penalties for frequency and presence (OpenAI's),
suppressed and forced tokens, temperature, top-k, top-p, min-p, draw. At temperature 0 the largest logit after the
penalties is taken, and the filters, which keep it, do nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig


class Logprob(NamedTuple):
    """The natural logarithm of the probability that the model gave a token."""

    token: int
    logprob: float


def choose(
    logits: Tensor,
    config: GenerationConfig,
    generator: torch.Generator,
    prompt: Sequence[int] = (),
    written: Sequence[int] = (),
) -> int:
    """Return the next id from `logits` (V,) behind `prompt` and what is `written`.

    Equal arguments and an equal generator give an equal id; a draw takes the same from the generator whatever the
    logits are. UserError if a logit is NaN or infinite: the token would mean nothing.
    """
    if not logits.isfinite().all():
        raise UserError("model: its logits must be finite, got NaN or infinity; train it again with a lower lr")
    scores = penalised(logits, config, prompt, written)
    if config.temperature == 0:
        return int(scores.argmax(-1))
    scaled = (scores.double() - scores.max()) / config.temperature  # at most 0: the smallest temperature is safe
    kept = keep_min_p(keep_top_p(keep_top_k(scaled, config.top_k), config.top_p), config.min_p)
    return int(torch.multinomial(kept.softmax(-1), 1, generator=generator))


def penalised(logits: Tensor, config: GenerationConfig, prompt: Sequence[int], written: Sequence[int]) -> Tensor:
    """Return the logits (V,) after the penalties; suppressed tokens, and all but a forced one, are -inf.

    UserError if that leaves none.
    """
    scores = logits
    if config.repetition_penalty != 1:
        scores = penalise_repetition(scores, [*prompt, *written], config.repetition_penalty)
    if written and (config.frequency_penalty or config.presence_penalty):
        counts = torch.bincount(torch.tensor(written), minlength=len(scores)).to(scores)  # (V,)
        scores = scores - counts * config.frequency_penalty - (counts > 0) * config.presence_penalty
    if config.suppress_tokens:
        scores = scores.index_fill(-1, torch.tensor(config.suppress_tokens), -torch.inf)
        if not (scores > -torch.inf).any():
            raise UserError("suppress_tokens: must leave a token that may come, got all of them; leave some out")
    if len(written) < len(config.forced_tokens):
        forced = config.forced_tokens[len(written)]
        scores = torch.full_like(scores, -torch.inf).index_fill(-1, torch.tensor([forced]), 0.0)
    return scores


def penalise_repetition(logits: Tensor, ids: Sequence[int], penalty: float) -> Tensor:
    """Divide the positive logits of `ids` by the penalty and multiply the negative ones, in (V,).

    Paper: Keskar et al. 2019, arXiv:1909.05858.
    """
    places = torch.tensor(sorted(set(ids)), dtype=torch.long)
    found = logits[places]
    return logits.index_copy(-1, places, torch.where(found < 0, found * penalty, found / penalty))


def keep_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Set all but the `top_k` largest of (..., V) to -inf: exactly k stay, also where values are equal."""
    if top_k == 0 or top_k >= logits.shape[-1]:
        return logits
    values, places = logits.topk(top_k, dim=-1)
    return torch.full_like(logits, -torch.inf).scatter(-1, places, values)


def keep_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keep the likeliest of (..., V) whose probabilities first reach `top_p` together, the crossing one included.

    Paper: Holtzman et al. 2019, arXiv:1904.09751.
    """
    if top_p >= 1:
        return logits
    ordered, places = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what the likelier ones reach without this one
    kept = ordered.masked_fill(before >= top_p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, places, kept)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Drop the tokens of (..., V) that are less likely than `min_p` times the likeliest one.

    Paper: Nguyen et al. 2024, arXiv:2407.01082.
    """
    if min_p == 0:
        return logits
    probabilities = logits.softmax(-1)
    return logits.masked_fill(probabilities < min_p * probabilities.amax(-1, keepdim=True), -torch.inf)


def logprobs(logits: Tensor, token: int, alternatives: int) -> tuple[float, tuple[Logprob, ...]]:
    """Return the log-probability of `token` and the likeliest tokens with theirs, from `logits` (V,).

    They are the model's own: before penalties, temperature and filters.
    """
    found = logits.double().log_softmax(-1)
    values, places = found.topk(min(alternatives, len(found)))
    pairs = zip(places.tolist(), values.tolist(), strict=True)
    return float(found[token]), tuple(Logprob(place, value) for place, value in pairs)
