"""`--explain`: the probability of each token, and what could have stood in its place."""

from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from llmcore.generate.decoder import NewToken
from llmcore.generate.text_stream import next_text
from llmcore.tokenizer.tokenizer import Tokenizer


class Alternative(NamedTuple):
    text: str
    probability: float


class Explanation(NamedTuple):
    text: str
    probability: float
    alternatives: list[Alternative]


def explain(tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[NewToken]) -> list[Explanation]:
    """Return the text of each token as it stands behind those before it, with the model's probabilities."""
    before, found = list(prompt), []
    for new in tokens:
        assert new.logprob is not None
        likeliest = [Alternative(next_text(tokenizer, before, one.token), exp(one.logprob)) for one in new.alternatives]
        found.append(Explanation(next_text(tokenizer, before, new.token), exp(new.logprob), likeliest))
        before.append(new.token)
    return found


def table(rows: Sequence[Explanation]) -> str:
    """Return a line for each token: its text, probability, and the likeliest tokens."""
    width = max(len(repr(row.text)) for row in rows)
    lines = []
    for row in rows:
        others = "  ".join(f"{one.text!r} {one.probability:.1%}" for one in row.alternatives)
        lines.append(f"{row.text!r:{width}}  {row.probability:6.1%}  {others}".rstrip())
    return "\n".join(lines)
