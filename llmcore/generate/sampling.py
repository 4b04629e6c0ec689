"""From logits to the next token: temperature, then top-k, then top-p, then a draw. Book: chapter 5.3."""

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig


def choose(logits: Tensor, config: GenerationConfig, generator: torch.Generator) -> Tensor:
    """Return the next id from `logits` (V,); equal logits and an equal generator give an equal id.

    UserError if one of them is NaN or infinite: the token would mean nothing.
    """
    if not logits.isfinite().all():
        raise UserError("model: its logits must be finite, got NaN or infinity; train it again with a lower lr")
    if config.temperature == 0:
        return logits.argmax(-1)
    scaled = (logits.double() - logits.max()) / config.temperature  # at most 0: the smallest temperature is safe
    kept = keep_top_p(keep_top_k(scaled, config.top_k), config.top_p)
    return torch.multinomial(kept.softmax(-1), 1, generator=generator).squeeze(-1)


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
