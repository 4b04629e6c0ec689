"""Credentials stay in the environment: whatever is printed, stored or sent elsewhere contains none."""

import re

# up to the last @ before the path, because passwords often contain an @
_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]*@")


def masked(text: str) -> str:
    """Return `text` with user and password of each URL replaced by `***`: `http://***@host/`."""
    return _USER_INFO.sub("***@", text)


def holds_credentials(text: str) -> bool:
    """Return whether a URL in `text` contains a user, a password or a token."""
    return bool(_USER_INFO.search(text))
