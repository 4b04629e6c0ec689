"""Text in the one form that training reads, wherever it enters: files, arguments, standard input, requests."""

import unicodedata

from llmcore.base.errors import UserError


def normalise_input(text: str) -> str:
    """Return the text without byte order mark at its beginning, each line end as `\\n`."""
    return text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def is_unicode(text: str) -> bool:
    """Return whether `text` has no lone surrogate, which no UTF-8 file can contain."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_label(text: str) -> bool:
    """Return whether `text` can name a class: not empty, no control character, which would forge lines of output."""
    return bool(text) and not any(unicodedata.category(character) == "Cc" for character in text)


def checked_input(text: str, where: str) -> str:
    """Return `normalise_input`; UserError for a lone surrogate, which no UTF-8 file can contain.

    JSON can spell one (`\\ud800`), and bytes of a command line that are not UTF-8 become some.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        got = repr(text[error.start])
        raise UserError(f"{where}: must be valid Unicode, got the lone surrogate {got}; correct it") from None
    return normalise_input(text)
