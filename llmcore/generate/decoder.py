"""The decoding loop: rows join and leave a batch at token boundaries. It sees ids, never text.

A prompt is read in chunks, so that the others wait for one chunk at most (chunked prefill); then each step computes
one token of every row, or several where some were guessed right. Shapes in the margin: B rows, T tokens, C = n_embd,
V = vocab_size.
"""

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from llmcore.base.errors import UserError
from llmcore.base.seeds import torch_generator
from llmcore.config.generation import GenerationConfig
from llmcore.generate.prefixes import Prefixes
from llmcore.generate.prompt_lookup import lookup
from llmcore.generate.sampling import Logprob, choose, logprobs
from llmcore.model.cache import Cache
from llmcore.model.transformer import LanguageModel

PREFILL_TOKENS = 512  # of a chunk: other rows wait while it is computed
MAX_PADDING = 0.25  # of the tokens of prompts that are read together; more would cost more than another pass

FinishReason = Literal["stop", "length", "context"]


class NewToken(NamedTuple):
    """One more token of a row.

    `finish_reason` is set with the last one: `stop` (the token is one of `stop_ids`, and no part of the text),
    `length` (`max_new_tokens` are written) or `context` (the model's context is full).
    """

    key: Hashable
    token: int
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    alternatives: tuple[Logprob, ...] = ()


@dataclass
class Row:
    """A continuation that is being written."""

    key: Hashable
    prompt: list[int]
    config: GenerationConfig
    stop_ids: Collection[int]
    generator: torch.Generator
    limit: int  # tokens that max_new_tokens and the context allow
    written: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)  # guesses of what follows

    def take(self, logits: Tensor, token: int) -> NewToken:
        """Write a token, which was chosen from `logits` (V,)."""
        self.written.append(token)
        reason: FinishReason | None = None
        if token in self.stop_ids:
            reason = "stop"
        elif len(self.written) >= self.limit:
            reason = "length" if self.limit == self.config.max_new_tokens else "context"
        if self.config.top_logprobs is None:
            return NewToken(self.key, token, reason)
        return NewToken(self.key, token, reason, *logprobs(logits, token, self.config.top_logprobs))


@dataclass
class Prefill:
    """Prompts that are read together, padded behind."""

    rows: list[list[Row]]  # by prompt: the rows that continue it; they may be removed while it is read
    cache: Cache
    begin: int = 0  # tokens read before this chunk
    prompts: list[list[int]] = field(init=False)
    hidden: dict[int, Tensor] = field(default_factory=dict)  # of each prompt's last token (C,)

    def __post_init__(self) -> None:
        self.prompts = [samples[0].prompt for samples in self.rows]


class Decoder:
    """Continue prompts together. `add` lets a prompt wait; each `step` computes what is due and returns new tokens.

    At most `max_rows` are written at a time. With `kept_prefixes`, the keys and values of that many ended rows are
    kept, and a prompt that begins as one of them did is read from there on.
    """

    def __init__(self, model: LanguageModel, max_rows: int, kept_prefixes: int = 0):
        self.model = model.eval()
        self.max_rows = max_rows
        self.waiting: deque[list[Row]] = deque()
        self.rows: list[Row] = []  # as the rows of the cache
        self.cache: Cache | None = None
        self.prefill: Prefill | None = None
        self.prefixes = Prefixes(kept_prefixes)

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.rows or self.prefill)

    def add(
        self,
        keys: Sequence[Hashable],
        prompt: Sequence[int],
        config: GenerationConfig,
        *,
        stop_ids: Collection[int],
        place: int = 0,
    ) -> None:
        """Let a prompt wait, to be continued once for each of `keys`, under which its tokens are reported.

        The draws of continuation i come from a generator of (seed, place + i) alone, so a text depends neither on its
        neighbours nor on when it joins. UserError for a prompt that is empty or leaves no room in the context, and
        for ids that are not in the model's vocabulary.
        """
        check_ids(self.model, config)
        limit = n_new_tokens(self.model, prompt, config)
        rows = [
            Row(key, list(prompt), config, stop_ids, torch_generator(config.seed, "decode", place + sample), limit)
            for sample, key in enumerate(keys)
        ]
        self.waiting.append(rows)

    @torch.inference_mode()
    def remove(self, key: Hashable) -> None:
        """Forget a row, wherever it is; a key that is not there is no error."""
        for group in [*self.waiting, *(self.prefill.rows if self.prefill else [])]:
            group[:] = [row for row in group if row.key != key]
        self.waiting = deque(group for group in self.waiting if group)
        if self.prefill and not any(self.prefill.rows):
            self.prefill = None
        for place, row in enumerate(self.rows):
            if row.key == key:
                self._end(place)
                return

    @torch.inference_mode()
    def step(self) -> list[NewToken]:
        """Read a chunk of waiting prompts, if any, and compute the next tokens of all rows that are being written."""
        found = []
        if self.prefill is None:
            self.prefill = self._next_prefill()
        if self.prefill and self._read_chunk(self.prefill):
            found += self._join(self.prefill)
            self.prefill = None
        if self.rows:
            found += self._write()
        return found

    # ---- reading prompts

    def _next_prefill(self) -> Prefill | None:
        """Take the prompts that come next and are read together."""
        free = self.max_rows - len(self.rows)
        if not self.waiting or (len(self.waiting[0]) > free and self.rows):
            return None
        group = [self.waiting.popleft()]
        free -= len(group[0])
        length = len(group[0][0].prompt)
        if kept := self.prefixes.take(group[0][0].prompt):
            return Prefill(group, kept, begin=kept.seen_tokens)
        tokens = length
        while self.waiting and len(self.waiting[0]) <= free:
            other = len(self.waiting[0][0].prompt)
            width, read = max(length, other), tokens + other
            padding = 1 - read / (width * (len(group) + 1))
            if padding > MAX_PADDING or self.prefixes.knows(self.waiting[0][0].prompt):
                break
            group.append(self.waiting.popleft())
            free -= len(group[-1])
            length, tokens = width, read
        room = max(length + max(row.limit for row in samples) for samples in group)
        return Prefill(group, self.model.new_cache(len(group), min(room, self.model.config.context_length)))

    def _read_chunk(self, prefill: Prefill) -> bool:
        """Read a part of the prompts; return whether they have ended."""
        prompts = prefill.prompts
        width = max(map(len, prompts))
        end = min(width, prefill.begin + max(1, PREFILL_TOKENS // len(prompts)))
        padded = [(prompt + [0] * width)[prefill.begin : end] for prompt in prompts]
        prefill.cache.reserve(len(prompts), end)
        hidden = self.model.body(torch.tensor(padded, device=self.model.device), prefill.cache)  # (B, T, C)
        for number, prompt in enumerate(prompts):
            if prefill.begin < len(prompt) <= end:
                prefill.hidden[number] = hidden[number, len(prompt) - 1 - prefill.begin]
        prefill.begin = end
        return end == width

    def _join(self, prefill: Prefill) -> list[NewToken]:
        """Choose the first token of each row that was read, and let it join the others."""
        prefill.cache.lengths = [len(prompt) for prompt in prefill.prompts]  # without the padding
        hidden = torch.stack([prefill.hidden[number] for number in range(len(prefill.prompts))])  # (B, C)
        logits = next_logits(self.model, hidden)  # (B, V)
        begun = [(number, row) for number, samples in enumerate(prefill.rows) for row in samples]
        if not self.rows and all(len(samples) == 1 for samples in prefill.rows):
            self.cache = prefill.cache
        else:
            if self.cache is None:
                self.cache = prefill.cache.empty_like(len(begun), prefill.cache.max_tokens)
            for number, _ in begun:
                self.cache.add_row(prefill.cache, number)
        rows = [row for _, row in begun]
        self.rows += rows
        of_rows = logits[[number for number, _ in begun]]
        tokens = self._choose(rows, of_rows)
        found = [row.take(scores, token) for row, scores, token in zip(rows, of_rows, tokens, strict=True)]
        self._end_finished(found)
        return found

    # ---- writing

    def _write(self) -> list[NewToken]:
        """Compute the next tokens of all rows: one, or as many of the guessed ones as are right and one more."""
        assert self.cache is not None
        context = self.model.config.context_length
        room = context - self.cache.seen_tokens  # of the longest row
        for row in self.rows:
            wanted = min(row.config.prompt_lookup_num_tokens, room - 1, row.limit - len(row.written) - 1)
            row.draft = lookup([*row.prompt, *row.written], wanted) if wanted > 0 else []
        time = 1 + max(len(row.draft) for row in self.rows)
        self.cache.reserve(len(self.rows), min(context, _at_least(self.cache, time)))
        inputs = [(row.written[-1:] + row.draft + [0] * time)[:time] for row in self.rows]
        lengths = self.cache.lengths
        hidden = self.model.body(torch.tensor(inputs, device=self.model.device), self.cache)  # (B, T, C)
        self.cache.lengths = [length + 1 for length in lengths]  # without guesses, whatever interrupts what follows
        found: list[NewToken] = []
        if time == 1:
            logits = next_logits(self.model, hidden[:, 0])  # (B, V)
            tokens = self._choose(self.rows, logits)
            found = [row.take(scores, token) for row, scores, token in zip(self.rows, logits, tokens, strict=True)]
        else:
            accepted = []
            for row, of_row in zip(self.rows, hidden, strict=True):
                new = self._verify(row, next_logits(self.model, of_row[: len(row.draft) + 1]))
                accepted.append(len(new))
                found += new
            # with the right guesses; what was computed behind the first wrong one is forgotten
            self.cache.lengths = [length + count for length, count in zip(lengths, accepted, strict=True)]
        self._end_finished(found)
        return found

    def _verify(self, row: Row, logits: Tensor) -> list[NewToken]:
        """Choose tokens from `logits` (T, V) as long as those before were guessed right."""
        found: list[NewToken] = []
        for scores, guess in zip(logits, [*row.draft, None], strict=True):
            [token] = self._choose([row], scores[None])
            found.append(row.take(scores, token))
            if token != guess or found[-1].finish_reason:
                break
        return found

    def _choose(self, rows: Sequence[Row], logits: Tensor) -> list[int]:
        if all(row.config.takes_argmax for row in rows):
            return list(map(int, logits.argmax(-1)))
        return [
            choose(scores, row.config, row.generator, row.prompt, row.written)
            for row, scores in zip(rows, logits, strict=True)
        ]

    # ---- ending

    def _end_finished(self, found: list[NewToken]) -> None:
        finished = {new.key for new in found if new.finish_reason}
        for place in range(len(self.rows) - 1, -1, -1):
            if self.rows[place].key in finished:
                self._end(place)

    def _end(self, place: int) -> None:
        """Take a row out of the batch; the last one moves to its place, as in the cache."""
        assert self.cache is not None
        row = self.rows[place]
        seen = self.cache.lengths[place]
        self.prefixes.keep([*row.prompt, *row.written][:seen], self.cache, place)
        self.cache.drop_row(place)
        self.rows[place] = self.rows[-1]
        del self.rows[-1]


def next_logits(model: LanguageModel, hidden: Tensor) -> Tensor:
    """Return the logits (B, V) of hidden states (B, C), on the CPU: draws are made there, so devices agree."""
    return model.check_finite(model.lm_head(hidden), "logits").float().cpu()


def check_ids(model: LanguageModel, config: GenerationConfig) -> None:
    """UserError for suppressed or forced tokens that are not in the model's vocabulary, or are all of it."""
    vocab_size = model.config.vocab_size
    for name in ("suppress_tokens", "forced_tokens"):
        if strange := [token for token in getattr(config, name) if not 0 <= token < vocab_size]:
            raise UserError(f"{name}: must be ids from 0 to {vocab_size - 1}, got {strange[0]}; correct it")
    if len(set(config.suppress_tokens)) == vocab_size:
        raise UserError("suppress_tokens: must leave a token that may come, got all of them; leave some out")


def n_new_tokens(model: LanguageModel, prompt: Sequence[int], config: GenerationConfig) -> int:
    """Return how many tokens settings and context allow; UserError for a prompt that is empty or leaves no room."""
    context = model.config.context_length
    if not 0 < len(prompt) < context:
        raise UserError(f"prompt: must have 1 to {context - 1} tokens, got {len(prompt)}; shorten it")
    return min(config.max_new_tokens, context - len(prompt))


def _at_least(cache: Cache, time: int) -> int:
    """Return room for `time` more tokens, doubled where the cache must grow."""
    needed = cache.seen_tokens + time
    return cache.max_tokens if needed <= cache.max_tokens else max(needed, 2 * cache.max_tokens)
