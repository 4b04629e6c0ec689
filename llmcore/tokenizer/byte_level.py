"""GPT-2's byte-level alphabet: one printable character for each of the 256 bytes.

`vocab.json` and `merges.txt` are text files, so bytes that do not print (space, newline, control) are
written as other characters; a space is `Ġ`. Source: openai/gpt-2, `src/encoder.py`.
"""

END_OF_TEXT = "<|endoftext|>"

# GPT-2's pattern: contractions, words, numbers, other characters (each with one space before), white space.
# In tiktoken's spelling: possessive `++` and `\s++$` give the same pieces with less backtracking.
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


def _alphabet() -> dict[int, str]:
    """Return the character of each byte, in the order of GPT-2's ids: printable bytes first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: chr(byte) for byte in printable}
    return alphabet | {byte: chr(256 + number) for number, byte in enumerate(others)}


BYTE_TO_CHARACTER = _alphabet()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}


def to_characters(token: bytes) -> str:
    """Return a token's bytes in the printable alphabet: `b" ball" -> "Ġball"`."""
    return "".join(BYTE_TO_CHARACTER[byte] for byte in token)


def to_bytes(spelling: str) -> bytes:
    """Return the bytes of a token in the printable alphabet; KeyError for a character outside it."""
    return bytes(CHARACTER_TO_BYTE[character] for character in spelling)
