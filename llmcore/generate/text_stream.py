"""Text from tokens as they come: whole characters only, and nothing that may yet turn out to be a stop string."""

from collections.abc import Sequence

from llmcore.base.containers import common_length
from llmcore.tokenizer.tokenizer import Tokenizer

CONTEXT_TOKENS = 4  # before the new ones: some decoders write a word otherwise at the beginning of a text
INCOMPLETE = "\ufffd"  # what a part of a character is decoded to


class TextStream:
    """The text behind a prompt; what `push` and `flush` return, put together, is the whole of it.

    `stopped` is true as soon as one of the `stop` strings is complete; the text ends before it.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt: Sequence[int],
        stop: Sequence[str] = (),
        *,
        skip_special_tokens: bool = True,
    ):
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = stop
        self._skip_special_tokens = skip_special_tokens
        self._ids = list(prompt[-CONTEXT_TOKENS:])
        self._begin = 0  # of the tokens that are decoded with the next ones
        self._read = len(self._ids)  # tokens whose text is known
        self._held = ""  # text that may be the beginning of a stop string

    def push(self, token: int) -> str:
        """Return the text that is now certain."""
        self._ids.append(token)
        text = self._decoded()
        return "" if text is None else self._released(text)

    def flush(self) -> str:
        """Return what was held back, the text being at its end."""
        text = self._released(self._decoded(at_end=True) or "")
        text, self._held = text + self._held, ""
        return text

    def _decoded(self, *, at_end: bool = False) -> str | None:
        """Return the text of the tokens not read yet, None if it ends within a character."""
        if self.stopped:
            return None
        before = self._text(self._ids[self._begin : self._read])
        whole = self._text(self._ids[self._begin :])
        if not at_end and whole.endswith(INCOMPLETE):
            return None
        new = whole[common_length(before, whole) :]  # not all of `before` where a prompt ends within a character
        self._begin = max(self._begin, self._read - CONTEXT_TOKENS) if new else self._begin
        self._read = len(self._ids)
        return new

    def _text(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=self._skip_special_tokens)

    def _released(self, text: str) -> str:
        """Return the part of held and new text that lies before any stop string, also one that may be beginning."""
        if self.stopped:
            return ""
        text = self._held + text
        ends = [place for place in (text.find(stop) for stop in self._stop) if place >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return the text that each token adds to those before it: put together, the text of all.

    A character of several tokens comes with the last of them. Decoded alone, a token may lose its space.
    """
    stream = TextStream(tokenizer, [], skip_special_tokens=False)
    texts = [stream.push(token) for token in ids]
    return texts and [*texts[:-1], texts[-1] + stream.flush()]


def next_text(tokenizer: Tokenizer, before: Sequence[int], token: int) -> str:
    """Return the text that `token` adds behind `before`; of one that is the middle of a character U+FFFD."""
    stream = TextStream(tokenizer, before, skip_special_tokens=False)
    return stream.push(token) + stream.flush() or tokenizer.decode([token])


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of a text are the beginning of a stop string."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
