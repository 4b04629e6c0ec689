"""Credentials stay in the environment: what is shown, kept or sent elsewhere names none."""

import re

# up to the last @ before the path: passwords with an @ of their own are common
_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]*@")


def masked(text: str) -> str:
    """Return `text` with `***` for what stands before the host of each address: `http://***@host/`."""
    return _USER_INFO.sub("***@", text)


def holds_credentials(text: str) -> bool:
    """Return whether an address in `text` names a user, a password or a token."""
    return bool(_USER_INFO.search(text))
