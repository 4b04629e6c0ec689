"""Cut overlong runs of one kind of character before a text is divided into tokens.

Learning merges takes quadratic time in the length of a run (a piece of GPT-2's pattern), and tiktoken's pattern
overflows its stack in a long run of white space. Ordinary text has no run of MAX_RUN characters and stays whole.
"""

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

MAX_RUN = 1000
BLOCK = MAX_RUN // 2  # a run of MAX_RUN characters fills at least one of the blocks that begin at its multiples
# letters and numbers; white space; all others: each kind of `_kind` within one of the three
_ONE_KIND = re.compile(r"[^\W_]+|\s+|(?:[^\w\s]|[_\x1c-\x1f])+")


def cut_long_runs(text: str) -> list[str]:
    """Return the text in parts: cut inside each run of more than MAX_RUN characters, after each MAX_RUN of them."""
    blocks = range(0, len(text) - BLOCK + 1, BLOCK)
    if len(text) <= MAX_RUN or not any(_ONE_KIND.fullmatch(text, begin, begin + BLOCK) for begin in blocks):
        return [text]
    cuts = [0]
    position = 0
    for _, run in groupby(text, _kind):
        length = sum(1 for _ in run)
        cuts += range(position + MAX_RUN, position + length, MAX_RUN)
        position += length
    if len(cuts) > 1:
        _report()
    return [text[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _kind(character: str) -> str:
    """Return the kind by which GPT-2's pattern divides text: letter, number, white space, other."""
    category = unicodedata.category(character)[0]
    if category in "LN":
        return category
    return "space" if character.isspace() and character not in "\x1c\x1d\x1e\x1f" else "other"


@cache
def _report() -> None:
    """Say it once in a process."""
    print(f"tokenizer: runs of more than {MAX_RUN:,} characters without a break are cut", file=sys.stderr)
