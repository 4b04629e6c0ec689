"""The settings of text generation, one type for params, command line and served models.

Nothing heavy is imported: `llmcore --help` shows the defaults at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

from llmcore.base.errors import UserError


@dataclass(frozen=True)
class GenerationConfig:
    """How long a text may get and how its tokens are chosen: temperature 0 takes the likeliest, top_k 0 keeps all."""

    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    seed: int = 0

    def check(self, spelled: Callable[[str], str] = str) -> None:
        """UserError with a line for each setting out of range; `spelled` gives its name as the user wrote it."""
        rules = {
            "max_new_tokens": (self.max_new_tokens > 0, "must be positive"),
            "temperature": (self.temperature >= 0, "must be 0 or more"),
            "top_k": (self.top_k >= 0, "must be 0 or more"),
            "top_p": (0 < self.top_p <= 1, "must be above 0 and at most 1"),
        }
        broken = [
            f"{spelled(key)}: {rule}, got {getattr(self, key)!r}; correct it"
            for key, (kept, rule) in rules.items()
            if not kept
        ]
        if broken:
            raise UserError("\n".join(broken))


STORY = GenerationConfig(max_new_tokens=80, temperature=0.8, top_k=0, top_p=0.95)  # to continue a text: varied
ANSWER = GenerationConfig(max_new_tokens=80, temperature=0.0, top_k=0, top_p=1.0)  # to an instruction: the likeliest
