"""The one exception for what a user can get wrong, and how an entry point tells it."""

import sys

from llmcore.base.credentials import masked


class UserError(Exception):
    """A mistake the user can mend: the message names the key or file, the rule, the value, the remedy.

    Entry points (`stages`, `llmcore`) print it as one line on stderr and exit with code 2; anything
    else that escapes is a bug of ours and keeps its traceback.
    """


def tell(error: UserError) -> int:
    """Print each line of the error on stderr, without passwords, and return the exit code of a user's mistake, 2."""
    for line in masked(str(error)).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return 2
