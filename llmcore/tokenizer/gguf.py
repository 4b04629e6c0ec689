"""A vocabulary as a GGUF file keeps it: into a tokenizer, and back. Only byte-level BPE, GGUF's model `gpt2`.

Where and how a text is cut before it is merged stands in no key: `tokenizer.ggml.pre` names a rule of llama.cpp.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from llmcore.base.errors import UserError
from llmcore.base.files import parse_json
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.byte_level import to_characters
from llmcore.tokenizer.fast import FastTokenizer

MODEL = "gpt2"
END_OF_TURN = "tokenizer.ggml.eot_token_id"
CHAT_TEMPLATE = "tokenizer.chat_template"
SPECIAL_IDS = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}


class TokenType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class PreTokenizer(NamedTuple):
    """What a name of `tokenizer.ggml.pre` stands for."""

    steps: list[dict[str, Any]]  # in the spelling of tokenizer.json
    normalizer: str | None = None
    ignore_merges: bool = False  # a piece that is a token is not merged
    add_bos: bool = False  # where `tokenizer.ggml.add_bos_token` is absent


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(max_digits: str) -> dict[str, Any]:
    """The pattern of Llama 3 and Qwen2, which differ in how many digits are one piece."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + max_digits + r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


PRE_TOKENIZERS = {
    "gpt-2": PreTokenizer([_byte_level(use_regex=True)]),
    "smollm": PreTokenizer([{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)]),
    "llama-bpe": PreTokenizer([_split("{1,3}"), _byte_level(use_regex=False)], ignore_merges=True, add_bos=True),
    "qwen2": PreTokenizer([_split(""), _byte_level(use_regex=False)], normalizer="NFC"),
}


def tokenizer_from_gguf(metadata: Mapping[str, Any], source: str) -> FastTokenizer:
    """Return the tokenizer of a GGUF file from the values of its metadata; `source` begins the messages of errors."""
    if (model := metadata.get("tokenizer.ggml.model")) != MODEL:
        raise UserError(f"{source}: tokenizer.ggml.model must be '{MODEL}' (byte-level BPE), got {model!r}")
    name = metadata.get("tokenizer.ggml.pre")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        known = ", ".join(PRE_TOKENIZERS)
        raise UserError(f"{source}: tokenizer.ggml.pre must be one of {known}, got {name!r}; give another model")
    tokens = _strings(metadata, "tokenizer.ggml.tokens", source)
    merges = _strings(metadata, "tokenizer.ggml.merges", source)
    if not tokens:
        raise UserError(f"{source}: tokenizer.ggml.tokens must not be empty; give a complete file")
    if len(set(tokens)) < len(tokens):
        twice = Counter(tokens).most_common(1)[0][0]
        raise UserError(f"{source}: tokenizer.ggml.tokens has {twice!r} more than once; give another file")
    types = _types(metadata, len(tokens), source)
    roles = _roles(metadata, tokens, source)
    pre = PRE_TOKENIZERS[name]
    adds_bos = metadata.get("tokenizer.ggml.add_bos_token", pre.add_bos) and "bos_token" in roles
    begin = (roles["bos_token"], metadata["tokenizer.ggml.bos_token_id"]) if adds_bos else None
    content = _tokenizer_json(tokens, types, merges, pre, begin)
    template = metadata.get(CHAT_TEMPLATE)
    stops = [stop for stop in [metadata.get(END_OF_TURN)] if type(stop) is int and 0 <= stop < len(tokens)]
    config = {**roles, **({"chat_template": template} if isinstance(template, str) else {})}
    return FastTokenizer(json.dumps(content, ensure_ascii=False).encode("utf-8"), config, stops, source)


def gguf_metadata(tokenizer: FastTokenizer | BytePairTokenizer, n_rows: int | None = None) -> dict[str, Any]:
    """Return the metadata of a GGUF file that keep a tokenizer; UserError if GGUF has no name for its pre-tokenizer.

    `n_rows` is the number of rows of the model's embedding, where it has more than the vocabulary: the others
    become tokens that no text has.
    """
    tokens, types, merges, name, add_bos = (
        _of_byte_pairs(tokenizer) if isinstance(tokenizer, BytePairTokenizer) else _of_tokenizer_json(tokenizer)
    )
    surplus = range(len(tokens), n_rows or len(tokens))
    found: dict[str, Any] = {
        "tokenizer.ggml.model": MODEL,
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": [*tokens, *(f"[PAD{number}]" for number in surplus)],
        "tokenizer.ggml.token_type": [*map(int, types), *(int(TokenType.UNUSED) for _ in surplus)],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.add_bos_token": add_bos,
    }
    for role, key in SPECIAL_IDS.items():
        if text := tokenizer.special_tokens_map.get(f"{role}_token"):
            found[f"tokenizer.ggml.{key}"] = tokenizer.special_tokens[text]
    found["tokenizer.ggml.eos_token_id"] = tokenizer.end_of_text
    if other_stops := sorted(tokenizer.stop_ids - {tokenizer.end_of_text}):
        found[END_OF_TURN] = other_stops[0]  # GGUF has room for one
    if tokenizer.chat_template is not None:
        found[CHAT_TEMPLATE] = tokenizer.chat_template
    return found


Vocabulary = tuple[list[str], list[TokenType], list[str], str, bool]  # tokens, types, merges, pre, add_bos


def _of_byte_pairs(tokenizer: BytePairTokenizer) -> Vocabulary:
    tokens = [*map(to_characters, tokenizer.ranks), *tokenizer.special_tokens]
    types = [TokenType.NORMAL] * len(tokenizer.ranks) + [TokenType.CONTROL]
    merges = [f"{to_characters(left)} {to_characters(right)}" for left, right in tokenizer.merges]
    return tokens, types, merges, "gpt-2", False


def _of_tokenizer_json(tokenizer: FastTokenizer) -> Vocabulary:
    content = parse_json(tokenizer.tokenizer_json.decode("utf-8"))
    model = content["model"]
    if model.get("type", "BPE") != "BPE" or not tokenizer.is_byte_level:
        raise UserError(f"{tokenizer.source}: only byte-level BPE can be written to GGUF; export another model")
    tokens = [f"[PAD{number}]" for number in range(tokenizer.vocab_size)]
    types = [TokenType.UNUSED] * tokenizer.vocab_size
    for text, number in model["vocab"].items():
        tokens[number], types[number] = text, TokenType.NORMAL
    for token in content.get("added_tokens", []):
        tokens[token["id"]], types[token["id"]] = token["content"], TokenType.USER_DEFINED
    for text, number in tokenizer.special_tokens.items():
        tokens[number], types[number] = text, TokenType.CONTROL
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return tokens, types, merges, _pre_name(content, tokenizer.source), bool(tokenizer.text_start)


def _pre_name(content: Mapping[str, Any], source: str) -> str:
    """Return GGUF's name of a tokenizer.json's pre-tokenizer."""
    found = content.get("pre_tokenizer") or {}
    steps = [_without_offsets(step) for step in found.get("pretokenizers", [found])]
    normalizer = content.get("normalizer")
    for name, pre in PRE_TOKENIZERS.items():
        same_normalizer = normalizer == (pre.normalizer and {"type": pre.normalizer})
        if steps == [_without_offsets(step) for step in pre.steps] and same_normalizer:
            return name
    kinds = ", ".join(str(step.get("type")) for step in steps)
    known = ", ".join(PRE_TOKENIZERS)
    raise UserError(f"{source}: its pre-tokenizer ({kinds}) must be one that GGUF calls {known}; export another model")


def _without_offsets(step: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what changes no id, and name what is left to its default."""
    defaults = {"use_regex": True} if step.get("type") == "ByteLevel" else {}
    return {**defaults, **{key: value for key, value in step.items() if key != "trim_offsets"}}


def _tokenizer_json(
    tokens: Sequence[str],
    types: Sequence[int],
    merges: Sequence[str],
    pre: PreTokenizer,
    begin: tuple[str, int] | None,
) -> dict[str, Any]:
    """Return the content of the tokenizer.json."""
    special = (TokenType.UNKNOWN, TokenType.CONTROL)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": text, "special": kind in special, **flags}
        for number, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (*special, TokenType.USER_DEFINED)
    ]
    vocab = {text: n for n, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind != TokenType.UNUSED}
    steps = pre.steps if len(pre.steps) == 1 else [{"type": "Sequence", "pretokenizers": pre.steps}]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": pre.normalizer and {"type": pre.normalizer},
        "pre_tokenizer": steps[0],
        "post_processor": begin and _begins_with(*begin),
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.ignore_merges,
            "vocab": vocab,
            "merges": list(merges),
        },
    }


def _begins_with(token: str, number: int) -> dict[str, Any]:
    """Put a token before each text, as a tokenizer.json of Llama does."""
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    one, two = ({"Sequence": {"id": name, "type_id": place}} for place, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [first, one],
        "pair": [first, one, {"SpecialToken": {"id": token, "type_id": 1}}, two],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _strings(metadata: Mapping[str, Any], key: str, source: str) -> list[str]:
    values = metadata.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UserError(f"{source}: {key} must be a list of texts; give a complete file")
    return values


def _types(metadata: Mapping[str, Any], n_tokens: int, source: str) -> list[int]:
    types = metadata.get("tokenizer.ggml.token_type", [TokenType.NORMAL] * n_tokens)
    if not isinstance(types, list) or len(types) != n_tokens:
        raise UserError(f"{source}: tokenizer.ggml.token_type must have one number for each of {n_tokens:,} tokens")
    if unknown := [kind for kind in types if kind not in TokenType._value2member_map_]:
        raise UserError(f"{source}: tokenizer.ggml.token_type must be 1 to 6, got {unknown[0]!r}; give another file")
    return types


def _roles(metadata: Mapping[str, Any], tokens: Sequence[str], source: str) -> dict[str, str]:
    """Return the text of each special token that the file names."""
    roles = {}
    for role, name in SPECIAL_IDS.items():
        key = f"tokenizer.ggml.{name}"
        if (number := metadata.get(key)) is None:
            continue
        if type(number) is not int or not 0 <= number < len(tokens):
            raise UserError(f"{source}: {key} must be below {len(tokens):,}, the number of tokens, got {number!r}")
        roles[f"{role}_token"] = tokens[number]
    return roles
