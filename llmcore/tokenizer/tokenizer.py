"""What the rest of the code asks of a tokenizer, whatever files it was read from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

TEXTS_PER_BATCH = 256  # encoded together, in memory at the same time
ROLES = ("bos", "eos", "unk", "pad")  # of special tokens, as `tokenizer_config.json` names them: `eos_token`


class Tokenizer(Protocol):
    """Encode text to ids and decode ids to text. Special tokens are never encoded from users' text."""

    def __hash__(self) -> int: ...

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; a model may have more rows, which no text has."""

    @property
    def end_of_text(self) -> int:
        """The id that ends a text, and that a model learns to end its texts with."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def pad_id(self) -> int:
        """The id that fills rows; often that of `end_of_text`, so padding is known by length alone."""

    @property
    def text_start(self) -> list[int]:
        """What stands before every text that a model reads, a chat apart; often nothing."""

    @property
    def document_start(self) -> list[int]:
        """What stands before a text that begins a document; at least one id."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids at which decoding stops; `end_of_text` is one of them."""

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The id of each special token, by its text."""

    @property
    def special_tokens_map(self) -> Mapping[str, str]:
        """The special tokens that a chat template knows by name: `eos_token` and others of ROLES."""

    @property
    def chat_template(self) -> str | None:
        """The form of chats, in Jinja; None if the tokenizer brings none."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; special tokens in it are ordinary text."""

    def encode_special(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens are meant, such as a chat template's."""

    def encode_stream(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Yield the ids of each text; the texts are read a batch at a time."""

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; bytes that are not valid UTF-8, as of a cut character, become U+FFFD."""

    def with_chat(self, chat_template: str, stop_ids: Iterable[int]) -> "Tokenizer":
        """Return the same tokenizer with this chat template, which also stops at `stop_ids`."""

    def save_for_transformers(self, folder: str | Path, context_length: int) -> None:
        """Write the files that `AutoTokenizer` needs, and with a chat template or several stops the
        `generation_config.json`."""


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return the content of a `generation_config.json`: greedy, up to one of the tokens that stop."""
    stops = [tokenizer.end_of_text, *sorted(tokenizer.stop_ids - {tokenizer.end_of_text})]
    return {
        "bos_token_id": tokenizer.bos_id,
        "do_sample": False,
        "eos_token_id": stops if len(stops) > 1 else stops[0],
        "pad_token_id": tokenizer.pad_id,
    }
