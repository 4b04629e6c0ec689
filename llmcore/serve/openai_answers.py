"""OpenAI's answers, whole and in chunks, from the pieces that a model writes.

What OpenAI has no word for stands in fields of ours: `seed`, with which the same request gets the same answer,
`dropped_messages`, and in a choice `llmcore_finish_reason`, which says why a text was cut where `length` alone would
not: `context` (the model's context is full) or `timeout`.
"""

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from llmcore.generate.decoder import NewToken
from llmcore.generate.sampling import Logprob
from llmcore.generate.text_stream import TextStream
from llmcore.serve.generation import Generation, Piece
from llmcore.serve.models import ServedModel
from llmcore.tokenizer.tokenizer import Tokenizer

INCOMPLETE = "\ufffd"  # in the text of a token that is a part of a character

Json = dict[str, Any]


class ReportedTokens:
    """The tokens of one row that begin in its text, each with its place there: those of a stop string do not.

    As text is, tokens are held back where a stop string may be beginning.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]):
        self.stream = TextStream(tokenizer, prompt)  # of the text with the stop string
        self.held: list[tuple[int, NewToken]] = []
        self.n_decoded = self.n_certain = 0  # characters

    def push(self, piece: Piece) -> list[tuple[int, NewToken]]:
        """Return (offset, token) of those that are now certain; a stop token is none of them."""
        new, stops = piece.token, piece.finish_reason == "stop"
        if new and new.finish_reason == "stop":
            stops = False  # at a token, not at a stop string
        elif new:
            self.held.append((self.n_decoded, new))
            self.n_decoded += len(self.stream.push(new.token))
        self.n_certain += len(piece.text)
        end = math.inf if piece.finish_reason and not stops else self.n_certain
        certain = [entry for entry in self.held if entry[0] < end]
        del self.held[: len(certain)]
        return certain


class CompletionAnswer:
    """The answer of /v1/completions to one request, which is written whole or in chunks."""

    prefix: ClassVar = "cmpl"
    object: ClassVar = "text_completion"
    chunk_object: ClassVar = "text_completion"

    def __init__(self, served: ServedModel, generation: Generation, **extra: Any):
        self.tokenizer = served.tokenizer
        self.head: Json = {
            "id": f"{self.prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": served.id,
            "seed": generation.config.seed,
            **extra,
        }
        self.generation = generation
        self.n_written = 0  # tokens, those that stop included
        prompts = [ids for ids in generation.prompts.ids for _ in range(generation.config.n)]  # of each row
        self.rows = [ReportedTokens(served.tokenizer, ids) for ids in prompts]

    def whole(self, pieces: Sequence[Piece]) -> Json:
        """Return the answer made of all pieces."""
        of_row: dict[int, list[Piece]] = {row: [] for row in range(self.generation.n_rows)}
        for piece in pieces:
            of_row[piece.row].append(piece)
        choices = [
            {
                "index": row,
                **self.text("".join(piece.text for piece in found)),
                "logprobs": self.logprobs(found),
                **finish(found[-1]),
            }
            for row, found in of_row.items()
        ]
        return {**self.head, "object": self.object, "choices": choices, "usage": self.usage()}

    def chunk(self, piece: Piece) -> Json | None:
        """Return what a piece adds; None if that is nothing."""
        logprobs = self.logprobs([piece])
        if not (piece.text or piece.finish_reason or logprobs):
            return None
        choice = {"index": piece.row, **self.delta(piece.text), "logprobs": logprobs, **finish(piece)}
        return self.chunk_of([choice])

    def first_chunks(self) -> Iterator[Json]:
        """Yield what comes before any piece."""
        yield from ()

    def usage_chunk(self) -> Json:
        return {**self.chunk_of([]), "usage": self.usage()}

    def chunk_of(self, choices: list[Json]) -> Json:
        return {**self.head, "object": self.chunk_object, "choices": choices}

    def usage(self) -> Json:
        """Return the tokens read and written so far; a prompt counts once, however often it is continued."""
        read = sum(map(len, self.generation.prompts.ids))
        return {"prompt_tokens": read, "completion_tokens": self.n_written, "total_tokens": read + self.n_written}

    # ---- in what texts and chats differ

    def text(self, text: str) -> Json:
        return {"text": text}

    def delta(self, text: str) -> Json:
        return {"text": text}

    def logprobs(self, pieces: Sequence[Piece]) -> Json | None:
        """Count the tokens of pieces, and return their log-probabilities if those were asked for."""
        found: Json = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for offset, token, alternatives in self.reported(pieces):
            # tokens that are parts of one character have one text
            likeliest: dict[str, float] = {}
            for other in (*alternatives, token):
                likeliest.setdefault(token_text(self.tokenizer, other.token), other.logprob)
            found["tokens"].append(token_text(self.tokenizer, token.token))
            found["token_logprobs"].append(token.logprob)
            found["top_logprobs"].append(likeliest)
            found["text_offset"].append(offset)
        return found if found["tokens"] else None

    def reported(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Logprob, tuple[Logprob, ...]]]:
        """Count the tokens of pieces, and yield (offset, token, alternatives) of those that are reported."""
        self.n_written += sum(piece.token is not None for piece in pieces)
        if self.generation.config.top_logprobs is None:
            return
        for piece in pieces:
            for offset, new in self.rows[piece.row].push(piece):
                assert new.logprob is not None
                yield offset, Logprob(new.token, new.logprob), new.alternatives


class ChatAnswer(CompletionAnswer):
    """The answer of /v1/chat/completions."""

    prefix = "chatcmpl"
    object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def first_chunks(self) -> Iterator[Json]:
        for row in range(self.generation.n_rows):
            delta = {"role": "assistant", "content": ""}
            yield self.chunk_of([{"index": row, "delta": delta, "logprobs": None, "finish_reason": None}])

    def text(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def delta(self, text: str) -> Json:
        return {"delta": {"content": text} if text else {}}

    def logprobs(self, pieces: Sequence[Piece]) -> Json | None:
        content = [
            {
                **self.token_logprob(token),
                "top_logprobs": [self.token_logprob(other) for other in alternatives],
            }
            for _, token, alternatives in self.reported(pieces)
        ]
        return {"content": content, "refusal": None} if content else None

    def token_logprob(self, of: Logprob) -> Json:
        text = token_text(self.tokenizer, of.token)
        known = None if INCOMPLETE in text else list(text.encode())
        return {"token": text, "logprob": of.logprob, "bytes": known}


def finish(piece: Piece) -> Json:
    """Return why a text ended, in OpenAI's words, and in ours where those do not say it."""
    reason = piece.finish_reason
    if reason in ("context", "timeout"):
        return {"finish_reason": "length", "llmcore_finish_reason": reason}
    return {"finish_reason": reason}


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token inside a text: some decoders drop the space before a text's first word."""
    first, both = tokenizer.decode([token]), tokenizer.decode([token, token])
    return both.removeprefix(first) if both.startswith(first) and INCOMPLETE not in both else first
