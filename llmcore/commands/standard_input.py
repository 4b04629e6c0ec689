"""What is typed or piped into a command."""

import sys

from llmcore.base.errors import UserError
from llmcore.base.text import normalise_input


def read_standard_input() -> str:
    """Return the text of standard input without its last line end; UserError if it is not UTF-8."""
    try:
        return normalise_input(sys.stdin.read()).removesuffix("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: must be UTF-8 text ({error}); convert it") from None
