"""Credentials stay in the environment: whatever is printed, stored or sent elsewhere contains none.

`masked` is the one way to print an address, or a text that may hold one, such as an exception of a library.
"""

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

HIDDEN = "***"
MIN_SECRET_CHARACTERS = 4  # shorter ones are hidden in addresses only: "a" stands in every text
SECRET_VARIABLE = re.compile(r"(KEY|TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|_PASS|_PWD|_PAT)(_?\d+)?$", re.IGNORECASE)
MIN_VARIABLE_CHARACTERS = 6  # of its value: `true` is no secret

# Up to the last @, because a password may contain any character. Without a colon, up to the last @ before the path.
_USER_INFO = re.compile(
    r"(?<=://)(?:[^\s@/:]*:(?!\d{1,5}(?:[\s'\"),;\]]|$))(?:(?!://)[^\n])*@|[^\s/]*@|[^\s@]*:(?!//)[^\s]*@)"
)
_WITHOUT_SCHEME = re.compile(r"(?<![\w.])[^\s/:@'\"()]+:[^\s/@][^\s@]*@(?=[\w\[])")
# nonnumeric port: 'secret@host'; could not be cast to integer value as 'secret'
_PORT = re.compile(
    r"((?:nonnumeric port:|integer value as|base 10:|Failed to parse:) )(['\"])(?!\d+\2)[^\n]*?(?:(?<!\\)\2|$)",
    re.MULTILINE,
)
_QUERY = re.compile(r"/[^\s?#]*[?#]\S+")  # libraries print paths without a host, too
_QUERY_VALUE = re.compile(r"(?<==)[^&;#\s'\"<>)]+")
_ADDRESS = re.compile(r"[\s'\"]*[\w+.:-]+://")
# what stands in place of a port and is none
_NO_PORT = re.compile(r"\A[^/]*//(?:\[[^\]]*\]|[^:/?#\[]*):(?!\d+(?:[\s'\"),;/?#]|$))([^/?#]+)")
# an address: scheme; user and password, with a slash only where it is no port; host and path
_PARTS = re.compile(r"([\w+.-]+://)(?:([^/]*)@|([^@/:\[]+:(?!\d+/).*)@)([^@]+?(?:/.*)?)", re.DOTALL)


def masked(text: str) -> str:
    """Return `text` with `***` for user and password of each address, for the values of its query, and for the secrets
    of the environment: `http://***@host/?token=***`."""
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    return _masked_addresses(text)


def holds_credentials(text: str) -> bool:
    """Return whether an address in `text` contains a user, a password, or a query, which may be a token."""
    return _masked_addresses(text) != text


def _masked_addresses(text: str) -> str:
    text = _USER_INFO.sub(f"{HIDDEN}@", text)
    text = _WITHOUT_SCHEME.sub(f"{HIDDEN}@", text)
    text = _PORT.sub(rf"\1\2{HIDDEN}\2", text)
    return _QUERY.sub(lambda found: _QUERY_VALUE.sub(HIDDEN, found[0]), text)


def without_credentials(address: str) -> tuple[str, tuple[str, str] | None]:
    """Return an address without user and password, and these two, percent signs decoded; None if it has none.

    What stands before the last @ of the host is a user and a password; a password may contain a slash, unless it begins
    like a port.
    """
    found = _PARTS.fullmatch(address)
    if not found:
        return address, None
    user, _, password = (found[2] or found[3]).partition(":")
    return found[1] + found[4], (unquote(user), unquote(password))


def _secrets() -> list[str]:
    """Return the secrets of the environment as libraries may print them, the longest first."""
    found = {secret for name, value in os.environ.items() for secret in _secrets_of(name, value)}
    spelled = {form for secret in found for form in _spellings(secret)}
    return sorted((form for form in spelled if len(form) >= MIN_SECRET_CHARACTERS), key=len, reverse=True)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """Yield the password of an address, its query, and the words of both, because libraries cut and escape them; the
    value of a secret."""
    scheme = re.match(r"(?:(?:[\w+.-]+:)?//)?", value)[0]  # type: ignore[index]  # matches nothing, too
    user_info = value.removeprefix(scheme).rpartition("@")[0]
    user, colon, password = user_info.partition(":")
    if (colon and "/" not in user) or (scheme and user and "/" not in user_info):
        yield from (password or user, *re.findall(r"\w+", password or user))
    if _ADDRESS.match(value):  # not an address somewhere in a sentence, whose words are no secrets
        address, _ = without_credentials(value)
        yield from re.findall(r"[?#](.+)", address, re.DOTALL)
        values = [part.partition("=")[2] or part for part in re.split("[?#&;]", address)[1:]]
        for secret in values + _NO_PORT.findall(address):
            yield from (secret, *re.findall(rf"\w{{{MIN_VARIABLE_CHARACTERS},}}", unquote(secret)))
    if SECRET_VARIABLE.search(name) and len(value.strip()) >= MIN_VARIABLE_CHARACTERS:
        yield from (value, value.strip(), *value.split("\n"))


def _spellings(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), unquote(secret), repr(secret)[1:-1], ascii(secret)[1:-1])
    yield re.sub("%[0-9a-f]{2}", lambda escape: escape[0].upper(), secret, flags=re.IGNORECASE)
