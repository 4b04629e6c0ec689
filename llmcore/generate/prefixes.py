"""The keys and values of texts that ended, kept for texts that begin in the same way: the next turn of a chat."""

from collections.abc import Sequence
from typing import NamedTuple

from llmcore.base.containers import common_length
from llmcore.model.cache import Cache

MIN_TOKENS = 8  # of a common beginning; reading fewer again costs nothing


class Prefix(NamedTuple):
    ids: list[int]
    cache: Cache  # of one row


class Prefixes:
    """The last few texts, the newest last."""

    def __init__(self, limit: int):
        self.limit = limit
        self._kept: list[Prefix] = []

    def keep(self, ids: list[int], cache: Cache, row: int) -> None:
        """Keep a row of a cache, which has seen `ids`; the oldest text makes room."""
        if self.limit and len(ids) >= MIN_TOKENS:
            self._kept.append(Prefix(ids, cache.copy_row(row, len(ids))))
            del self._kept[: -self.limit]

    def knows(self, prompt: Sequence[int]) -> bool:
        """Return whether a text is kept that begins as `prompt` does."""
        return any(common_length(prefix.ids, prompt) >= MIN_TOKENS for prefix in self._kept)

    def take(self, prompt: Sequence[int]) -> Cache | None:
        """Give away the text with the longest beginning of `prompt`, cut to it; its last token is always read again.

        The hidden state of that token is what the first new one is chosen from, and is not kept.
        """
        if not self._kept:
            return None
        best = max(self._kept, key=lambda prefix: common_length(prefix.ids, prompt))
        common = min(common_length(best.ids, prompt), len(prompt) - 1)
        if common < MIN_TOKENS:
            return None
        self._kept.remove(best)
        best.cache.lengths = [common]
        return best.cache
