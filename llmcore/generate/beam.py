"""Beam search: of all continuations of the best few texts, the best few go on.

The scores and the moment to stop are those of transformers with `early_stopping=False`. Shapes in the margin: K beams,
V = vocab_size, C = n_embd.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decoder import FinishReason, NewToken, check_ids, n_new_tokens, next_logits
from llmcore.generate.sampling import logprobs, penalised
from llmcore.model.transformer import LanguageModel


@dataclass(frozen=True)
class Beam:
    """A text with the sum of its log-probabilities; divided by a power of its length once it has ended."""

    tokens: list[NewToken]
    score: float

    @property
    def ids(self) -> list[int]:
        return [new.token for new in self.tokens]


@torch.inference_mode()
def beam_search(
    model: LanguageModel,
    prompt: Sequence[int],
    config: GenerationConfig,
    *,
    stop_ids: Collection[int],
    first_key: int = 0,
) -> list[list[NewToken]]:
    """Return the best `config.n` continuations, the best first, each with its last token.

    UserError as `Decoder.add`, for logits that are not finite, and where fewer than `config.n` texts are possible.
    """
    check_ids(model, config)
    limit = n_new_tokens(model, prompt, config)
    at_limit: FinishReason = "length" if limit == config.max_new_tokens else "context"
    cache = model.eval().new_cache(1, len(prompt) + limit)
    logits = next_logits(model, model.body(torch.tensor([list(prompt)], device=model.device), cache)[:, -1])  # (1, V)
    running, ended = [Beam([], 0.0)], list[Beam]()
    for length in range(1, limit + 1):
        candidates = _extended(running, logits, prompt, config, stop_ids)  # (beam it extends, beam), the best first
        hits = [length == limit or beam.tokens[-1].token in stop_ids for _, beam in candidates]
        for (_, beam), hit in zip(candidates[: config.num_beams], hits, strict=False):
            if hit:
                reason = "stop" if beam.tokens[-1].token in stop_ids else at_limit
                last = beam.tokens[-1]._replace(finish_reason=reason)
                ended.append(Beam([*beam.tokens[:-1], last], beam.score / length**config.length_penalty))
        ended = sorted(ended, key=lambda beam: -beam.score)[: config.num_beams]
        going_on = [candidate for candidate, hit in zip(candidates, hits, strict=True) if not hit][: config.num_beams]
        if not going_on or _cannot_improve(going_on[0][1], ended, length, config):
            break
        cache.select_rows([parent for parent, _ in going_on])
        running = [beam for _, beam in going_on]
        inputs = torch.tensor([beam.ids[-1:] for beam in running], device=model.device)  # (K, 1)
        logits = next_logits(model, model.body(inputs, cache)[:, -1])  # (K, V)
    if len(ended) < config.n:
        raise UserError(f"n: must be at most the number of possible texts, here {len(ended)}, got {config.n}; lower it")
    return [
        [new._replace(key=first_key + place) for new in beam.tokens] for place, beam in enumerate(ended[: config.n])
    ]


def _extended(
    running: list[Beam], logits: Tensor, prompt: Sequence[int], config: GenerationConfig, stop_ids: Collection[int]
) -> list[tuple[int, Beam]]:
    """Return the best texts of one more token, with the place of the beam that each extends.

    Enough of them that `num_beams` go on if each beam's best tokens end it.
    """
    scores = torch.stack(
        [
            penalised(of_beam, config, prompt, beam.ids) + beam.score
            for beam, of_beam in zip(running, logits.log_softmax(-1), strict=True)
        ]
    )  # (K, V)
    wanted = max(2, 1 + len(stop_ids)) * config.num_beams
    values, places = scores.flatten().topk(min(wanted, scores.numel()))
    found = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        parent, token = divmod(place, scores.shape[1])
        new = NewToken(0, token)
        if config.top_logprobs is not None:
            new = NewToken(0, token, None, *logprobs(logits[parent], token, config.top_logprobs))
        if value > -torch.inf:
            found.append((parent, Beam([*running[parent].tokens, new], value)))
    return found


def _cannot_improve(best: Beam, ended: list[Beam], length: int, config: GenerationConfig) -> bool:
    """Return whether the best running text is worse than all that have ended, its length being final."""
    return len(ended) == config.num_beams and best.score / length**config.length_penalty <= ended[-1].score
