"""A byte-level BPE tokenizer in GPT-2's format: text to ids and back, with `tiktoken`.

The merges define the vocabulary: ids 0-255 are the bytes in GPT-2's order, then comes one id per merge,
then `<|endoftext|>`. A tokenizer folder contains `vocab.json` and `merges.txt`, which tiktoken and
transformers can read too. Book: chapter 2.5.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from llmcore.base.errors import UserError
from llmcore.base.files import read_bytes, read_json, sha256_file, write_json, write_text
from llmcore.base.text import normalise_input
from llmcore.tokenizer.byte_level import BYTE_TO_CHARACTER, END_OF_TEXT, PATTERN, to_bytes, to_characters
from llmcore.tokenizer.long_runs import cut_long_runs
from llmcore.tokenizer.tokenizer import ROLES, TEXTS_PER_BATCH, generation_config
from llmcore.tokenizer.tokenizer_config import read_tokenizer_config

if TYPE_CHECKING:
    import tiktoken

Merge = tuple[bytes, bytes]


class BytePairTokenizer:
    """Encode text to ids and decode ids to text; `decode(encode(text)) == text` for every text.

    End-of-text is a boundary between documents and is never encoded from a text: the characters
    `<|endoftext|>` in data are ordinary text.
    """

    def __init__(self, merges: Sequence[Merge], chat_template: str | None = None):
        self.merges = list(merges)
        self.chat_template = chat_template
        self.ranks = {bytes([byte]): rank for rank, byte in enumerate(BYTE_TO_CHARACTER)}
        for left, right in self.merges:
            self.ranks[left + right] = len(self.ranks)
        self.end_of_text = len(self.ranks)
        self.vocab_size = len(self.ranks) + 1
        self.bos_id = self.pad_id = self.end_of_text  # one token has every role
        self.text_start: list[int] = []
        self.document_start = [self.end_of_text]
        self.stop_ids = frozenset([self.end_of_text])
        self.special_tokens = {END_OF_TEXT: self.end_of_text}
        self.special_tokens_map = {f"{role}_token": END_OF_TEXT for role in ROLES}

    @cached_property
    def _encoding(self) -> "tiktoken.Encoding":
        import tiktoken

        specials = {END_OF_TEXT: self.end_of_text}
        return tiktoken.Encoding("llmcore", pat_str=PATTERN, mergeable_ranks=self.ranks, special_tokens=specials)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`; special tokens in it are ordinary text, and overlong runs are cut first."""
        return [number for part in cut_long_runs(text) for number in self._encoding.encode_ordinary(part)]

    def encode_special(self, text: str) -> list[int]:
        """Return the ids of a text in which `<|endoftext|>` is the special token."""
        first, *others = (self.encode(part) for part in text.split(END_OF_TEXT))
        return first + [number for part in others for number in (self.end_of_text, *part)]

    def encode_stream(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Yield the ids of each text; batches of TEXTS_PER_BATCH texts are encoded on all cores."""
        texts = iter(texts)
        while chunk := list(islice(texts, TEXTS_PER_BATCH)):
            parts = [cut_long_runs(text) for text in chunk]
            flat = [part for of_text in parts for part in of_text]
            encoded = iter(self._encoding.encode_ordinary_batch(flat, num_threads=os.cpu_count() or 1))
            for of_text in parts:
                yield list(chain.from_iterable(islice(encoded, len(of_text))))

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of `ids`; bytes that are not valid UTF-8, as of a cut character, become U+FFFD."""
        kept = (number for number in ids if not (skip_special_tokens and number == self.end_of_text))
        return self.decode_bytes(kept).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of `ids`; end-of-text gives the characters `<|endoftext|>`."""
        return self._encoding.decode_bytes(list(ids))

    @property
    def token_bytes(self) -> list[int]:
        """The length of each token's text in bytes, by id; 0 for end-of-text."""
        return [*map(len, self.ranks), 0]

    def save(self, folder: str | Path) -> None:
        """Write `vocab.json` and `merges.txt` in GPT-2's format."""
        vocab = {to_characters(token): rank for token, rank in self.ranks.items()} | {END_OF_TEXT: self.end_of_text}
        write_text(Path(folder) / "vocab.json", json.dumps(vocab, ensure_ascii=False))
        lines = [f"{to_characters(left)} {to_characters(right)}" for left, right in self.merges]
        write_text(Path(folder) / "merges.txt", "\n".join(["#version: 0.2", *lines]) + "\n")

    def save_for_transformers(self, folder: str | Path, context_length: int) -> None:
        """Write the files of `save`, the `tokenizer_config.json` that `AutoTokenizer` needs, and with a chat
        template the `generation_config.json`."""
        self.save(folder)
        config = {
            "tokenizer_class": "GPT2Tokenizer",
            "model_max_length": context_length,
            "add_prefix_space": False,
            **self.special_tokens_map,
        }
        if self.chat_template is not None:
            config["chat_template"] = self.chat_template
            write_json(Path(folder) / "generation_config.json", generation_config(self))
        write_json(Path(folder) / "tokenizer_config.json", config)

    def with_chat(self, chat_template: str, stop_ids: Iterable[int] = ()) -> "BytePairTokenizer":
        """Return the tokenizer with a chat template; its one special token stops it already."""
        assert self.stop_ids.issuperset(stop_ids)
        return BytePairTokenizer(self.merges, chat_template)


def load_byte_pair_tokenizer(folder: str | Path) -> BytePairTokenizer:
    """Read `vocab.json` and `merges.txt`, and the chat template of `tokenizer_config.json` where there is one.

    UserError if the vocabulary is not the one that the merges make.
    """
    vocab_file = Path(folder) / "vocab.json"
    merges_file = Path(folder) / "merges.txt"
    vocab = read_json(vocab_file)
    if not isinstance(vocab, dict):
        raise UserError(f"{vocab_file}: must be a JSON object of token -> id; restore the file")
    tokenizer = BytePairTokenizer(read_merges(merges_file), read_tokenizer_config(folder).get("chat_template"))
    expected = {to_characters(token): rank for token, rank in tokenizer.ranks.items()}
    expected[END_OF_TEXT] = tokenizer.end_of_text
    if vocab != expected:
        raise UserError(f"{vocab_file}: {_difference(vocab, expected)}; the file does not belong to {merges_file}")
    return tokenizer


def read_merges(path: Path) -> list[Merge]:
    """Read `merges.txt`: a `#version` line, then two tokens per line, each a byte or made by an earlier line."""
    try:
        lines = normalise_input(read_bytes(path).decode("utf-8")).split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); restore the file") from None
    known = {bytes([byte]) for byte in BYTE_TO_CHARACTER}
    merges: list[Merge] = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        try:
            left, right = (to_bytes(part) for part in line.split(" "))
        except (ValueError, KeyError):
            raise UserError(f"{path}, line {number}: must be two tokens, got {line!r}; restore the file") from None
        if unknown := [token for token in (left, right) if token not in known]:
            rule = f"merges a token that no earlier line makes, {to_characters(unknown[0])!r}"
            raise UserError(f"{path}, line {number}: {rule}; restore the file")
        if left + right in known:
            raise UserError(f"{path}, line {number}: makes a token a second time, {line!r}; restore the file")
        known.add(left + right)
        merges.append((left, right))
    return merges


def _difference(vocab: dict[str, int], expected: dict[str, int]) -> str:
    """Describe the first entry in which a vocabulary differs from the expected one."""
    if missing := sorted(expected.keys() - vocab.keys(), key=expected.__getitem__):
        return f"lacks {missing[0]!r} (id {expected[missing[0]]})"
    if surplus := sorted(vocab.keys() - expected.keys()):
        return f"has {surplus[0]!r} (id {vocab[surplus[0]]}), which no merge makes"
    token = next(token for token, rank in expected.items() if vocab[token] != rank)
    return f"has id {vocab[token]} for {token!r}, which must be {expected[token]}"


def fingerprint(folder: str | Path) -> str:
    """Return the fingerprint of a tokenizer: the SHA-256 of its merges.txt."""
    return sha256_file(Path(folder) / "merges.txt")
