"""How much one request may ask for, and how many may wait."""

from dataclasses import dataclass

from llmcore.base.errors import UserError


@dataclass(frozen=True)
class Limits:
    """What is larger is refused with its limit, before any work."""

    max_rows: int = 32  # texts that a model writes at a time, and that one request may ask for
    max_waiting: int = 64  # requests of a model that have not begun
    max_tokens: int = 4096  # of a text that is written
    max_seconds: float = 300.0  # of a request; its texts are cut then
    max_body_bytes: int = 4 * 2**20
    max_characters: int = 200_000  # of prompts, messages or texts of a request, together
    max_messages: int = 512  # of a chat
    max_texts: int = 256  # to be classified by one request
    max_stop_characters: int = 256  # of a stop string
    max_logit_bias: int = 1024  # entries
    kept_prefixes: int = 4  # texts whose keys and values a model keeps for the next turn of a chat

    def check(self) -> None:
        """UserError for an option of the command that leaves no room for anything."""
        for option in ("max_rows", "max_waiting", "max_tokens", "max_seconds"):
            if not getattr(self, option) > 0:
                got = getattr(self, option)
                raise UserError(f"--{option.replace('_', '-')}: must be positive, got {got}; correct it")
