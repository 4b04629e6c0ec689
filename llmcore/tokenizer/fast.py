"""A tokenizer read from `tokenizer.json`, with Hugging Face's `tokenizers`: any pre-tokenizer, any special tokens.

Runs of any length take linear time there, so none is cut.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmcore.base.errors import UserError
from llmcore.base.files import read_bytes, write_bytes, write_json
from llmcore.tokenizer.byte_level import BYTE_TO_CHARACTER, END_OF_TEXT
from llmcore.tokenizer.tokenizer import ROLES, TEXTS_PER_BATCH, generation_config
from llmcore.tokenizer.tokenizer_config import read_stop_ids, read_tokenizer_config

if TYPE_CHECKING:
    import tokenizers

FAST_FILE = "tokenizer.json"


class FastTokenizer:
    """The ids of `tokenizers`, and so of transformers; special tokens in a text stay ordinary text.

    `tokenizer_json` is the file's content, `config` the values of `read_tokenizer_config`; decoding also stops at
    `stop_ids`. `source` begins the messages of errors.
    """

    def __init__(self, tokenizer_json: bytes, config: Mapping[str, Any], stop_ids: Iterable[int], source: str):
        self.tokenizer_json = tokenizer_json
        self.config = dict(config)
        self.source = source
        self._tokenizer = _parse(tokenizer_json, source)
        self._tokenizer.encode_special_tokens = True  # the library's word for: special tokens are ordinary text
        self._vocab = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self._vocab.values(), default=-1) + 1
        self._added = self._tokenizer.get_added_tokens_decoder()
        self.special_tokens = {token.content: number for number, token in self._added.items() if token.special}
        self.special_tokens_map = {
            name: config[name] for role in ROLES if config.get(name := f"{role}_token") in self._vocab
        }
        stops = list(stop_ids)
        texts = {number: text for text, number in self._vocab.items()}
        marks = [*self.special_tokens_map.values(), *(texts[stop] for stop in stops if stop in texts)]
        self._ordinary_marks = [text for text in dict.fromkeys(marks) if text not in self.special_tokens]
        self.special_tokens |= {text: self._vocab[text] for text in self._ordinary_marks}
        # a token that ends texts must not be spelled by one, whatever the file says
        self._tokenizer.add_special_tokens(self._ordinary_marks)
        self.bos_id = self._role("bos")
        self.end_of_text = self._end_of_text(stops)
        self.pad_id = self.end_of_text if (pad := self._role("pad")) is None else pad
        self.stop_ids = frozenset([self.end_of_text, *stops])
        self.text_start = self._text_start()
        self.chat_template: str | None = config.get("chat_template")
        self._reported = False

    def _role(self, role: str) -> int | None:
        return self.special_tokens.get(self.special_tokens_map.get(f"{role}_token", ""))

    def _end_of_text(self, stops: list[int]) -> int:
        """Return the first that is known: the end-of-sequence token, the token that stops, `<|endoftext|>`."""
        for found in (self._role("eos"), *stops, self.special_tokens.get(END_OF_TEXT)):
            if found is not None and found < self.vocab_size:
                return found
        raise UserError(f"{self.source}: must name the token that ends texts (eos_token); give a complete tokenizer")

    def _text_start(self) -> list[int]:
        """Return what the post-processor puts before a text; UserError if it puts something behind it."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        full: list[int] = self._tokenizer.encode("a").ids
        if full[len(full) - len(plain) :] != plain:
            rule = "its post_processor must put special tokens before a text only, and writes others"
            raise UserError(f"{self.source}: {rule}; give another model, or take them out of the file")
        return full[: len(full) - len(plain)]

    @property
    def document_start(self) -> list[int]:
        """What the post-processor puts before a text, or the token with which models of this form begin documents."""
        begin = self.special_tokens.get(END_OF_TEXT, self.bos_id)
        return self.text_start or [self.end_of_text if begin is None else begin]

    @cached_property
    def _reads_special_tokens(self) -> "tokenizers.Tokenizer":
        """A second one, as the library keeps the setting per tokenizer and threads may share this one."""
        tokenizer = _parse(self.tokenizer_json, self.source)
        tokenizer.add_special_tokens(self._ordinary_marks)
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without what the post-processor adds."""
        [ids] = self.encode_stream([text])
        return ids

    def encode_special(self, text: str) -> list[int]:
        """Return the ids of a text in which special tokens are meant."""
        found: list[int] = self._reads_special_tokens.encode(text, add_special_tokens=False).ids
        return found

    def encode_stream(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Yield the ids of each text; characters that the vocabulary cannot spell are counted and reported."""
        texts = iter(texts)
        unspelled = 0
        while chunk := list(islice(texts, TEXTS_PER_BATCH)):
            for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
                yield encoding.ids
            unspelled += sum(map(self._count_unspelled, chunk))
        self._report(unspelled)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; an id beyond the vocabulary has none."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether the vocabulary is spelled in GPT-2's alphabet of bytes."""
        return "ByteLevel" in repr(self._tokenizer.decoder)

    @cached_property
    def _missing_bytes(self) -> bytes:
        """The bytes without a token: a text that holds one of them loses it, as in the original."""
        missing = {byte for byte, character in BYTE_TO_CHARACTER.items() if character not in self._vocab}
        return bytes(sorted(missing)) if self.is_byte_level else b""

    def _count_unspelled(self, text: str) -> int:
        data = text.encode("utf-8")
        if len(data.translate(None, self._missing_bytes)) == len(data):
            return 0
        return sum(any(byte in self._missing_bytes for byte in character.encode("utf-8")) for character in text)

    def _report(self, unspelled: int) -> None:
        """Say it once for a tokenizer."""
        if unspelled and not self._reported:
            self._reported = True
            what = "1 character that it cannot spell was" if unspelled == 1 else "characters that it cannot spell were"
            count = "" if unspelled == 1 else f"{unspelled:,} "
            print(f"tokenizer: {count}{what} left out, as the vocabulary asks for", file=sys.stderr)

    def with_chat(self, chat_template: str, stop_ids: Iterable[int] = ()) -> "FastTokenizer":
        """Return the tokenizer with this chat template, which also stops at `stop_ids`."""
        config = self.config | {"chat_template": chat_template}
        return FastTokenizer(self.tokenizer_json, config, self.stop_ids.union(stop_ids), self.source)

    def save_for_transformers(self, folder: str | Path, context_length: int) -> None:
        """Write `tokenizer.json` as it was read, the `tokenizer_config.json` that opens it as it is, and with a chat
        template or several stops the `generation_config.json`."""
        folder = Path(folder)
        write_bytes(folder / FAST_FILE, self.tokenizer_json)
        # any other class, such as GPT2Tokenizer, puts a pre-tokenizer of its own in the place of the file's
        config = self.config | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context_length}
        if self.pad_id == self.end_of_text and "eos_token" in self.special_tokens_map:
            config.setdefault("pad_token", self.special_tokens_map["eos_token"])  # or no batch could be made
        write_json(folder / "tokenizer_config.json", config)
        if self.chat_template is not None or len(self.stop_ids) > 1:
            write_json(folder / "generation_config.json", generation_config(self))


def load_fast_tokenizer(folder: str | Path) -> FastTokenizer:
    """Read `tokenizer.json`, and what the files beside it say of special tokens; UserError if it is damaged."""
    path = Path(folder) / FAST_FILE
    return FastTokenizer(read_bytes(path), read_tokenizer_config(folder), read_stop_ids(folder), str(path))


def _parse(tokenizer_json: bytes, source: str) -> "tokenizers.Tokenizer":
    import tokenizers

    try:
        parsed = tokenizers.Tokenizer.from_buffer(tokenizer_json)
        parsed.no_truncation()
        parsed.no_padding()
    except Exception as error:  # the library raises no other class
        reason = " ".join(str(error).split())
        raise UserError(f"{source}: not a tokenizer that `tokenizers` reads ({reason}); restore the file") from None
    return parsed
