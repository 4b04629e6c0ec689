"""Guess the next tokens from an earlier place of the text: where its last words stood before, what came after them.

A model computes several tokens in about the time of one, so right guesses are nearly free, and wrong ones are not
used: the text stays the same. Source: Saxena 2023, "Prompt Lookup Decoding"; transformers' prompt_lookup_num_tokens.
"""

from collections.abc import Sequence

MAX_NGRAM = 3  # last tokens that must stand earlier too; fewer if these do not
MIN_NGRAM = 2


def lookup(ids: Sequence[int], max_tokens: int) -> list[int]:
    """Return up to `max_tokens` guesses of what follows `ids`, the newest earlier place first; often none."""
    for n in range(MAX_NGRAM, MIN_NGRAM - 1, -1):
        last = list(ids[-n:])
        for begin in range(len(ids) - n - 1, -1, -1):
            if ids[begin] == last[0] and list(ids[begin : begin + n]) == last:
                return list(ids[begin + n : begin + n + max_tokens])
    return []
