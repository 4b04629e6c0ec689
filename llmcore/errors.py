"""The one exception for what a user can get wrong."""


class UserError(Exception):
    """A mistake the user can mend: the message names the key or file, the rule, the value, the remedy.

    Entry points (`stages`, `llmcore`) print it as one line on stderr and exit with code 2; anything
    else that escapes is a bug of ours and keeps its traceback.
    """
