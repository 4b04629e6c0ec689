"""The settings of text generation, one type for params, command line, endpoint and served models.

Nothing heavy is imported: `llmcore --help` shows the defaults at once.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from llmcore.base.errors import UserError

MAX_TOP_LOGPROBS = 20  # OpenAI's limit
MAX_NUM_BEAMS = 64
MAX_N = 128  # OpenAI's limit
MAX_STOP_STRINGS = 16
PRECISIONS = ("fp32", "bf16", "int8")  # of the weights of a model that generates


@dataclass(frozen=True)
class GenerationConfig:
    """How long a text may get and how its tokens are chosen; names are transformers', or else OpenAI's.

    `llmcore.generate.sampling` says in which order they work.
    """

    max_new_tokens: int
    temperature: float  # 0 takes the likeliest token
    top_k: int  # 0 keeps all
    top_p: float  # 1 keeps all
    seed: int = 0
    min_p: float = 0.0  # tokens below this share of the likeliest one's probability are dropped
    repetition_penalty: float = 1.0  # of tokens that prompt or continuation have; 1 is none
    frequency_penalty: float = 0.0  # taken from a logit for each time that the continuation has the token
    presence_penalty: float = 0.0  # taken once from the logits of tokens that the continuation has
    suppress_tokens: tuple[int, ...] = ()  # ids that never come
    forced_tokens: tuple[int, ...] = ()  # ids with which the continuation begins
    num_beams: int = 1  # 1 is no beam search
    length_penalty: float = 1.0  # of beams: above 0 longer texts are favoured
    n: int = 1  # continuations of each prompt
    stop: tuple[str, ...] = ()  # texts before which a continuation ends
    top_logprobs: int | None = None  # alternatives that are reported with each token; None reports nothing
    prompt_lookup_num_tokens: int = 0  # tokens guessed ahead from an earlier place with the same words; 0 is off

    @property
    def takes_argmax(self) -> bool:
        """Whether each token is the one with the largest logit, as the model computed it."""
        penalties = self.repetition_penalty != 1 or self.frequency_penalty != 0 or self.presence_penalty != 0
        return self.temperature == 0 and not (penalties or self.suppress_tokens or self.forced_tokens)

    def numbers(self) -> dict[str, Any]:
        """Return the settings of one continuation that are one number each."""
        return {key: value for key, value in asdict(self).items() if isinstance(value, int | float) and key != "n"}

    def check(self, spelled: Callable[[str], str] = str) -> None:
        """UserError with a line for each setting out of range; `spelled` gives its name as the user wrote it."""
        at_most_2 = "must be from -2 to 2"
        rules = {
            "max_new_tokens": (self.max_new_tokens > 0, "must be positive"),
            "temperature": (0 <= self.temperature < float("inf"), "must be 0 or more"),
            "top_k": (self.top_k >= 0, "must be 0 or more"),
            "top_p": (0 < self.top_p <= 1, "must be above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "must be from 0 to 1"),
            "repetition_penalty": (0.1 <= self.repetition_penalty <= 10, "must be from 0.1 to 10"),
            "frequency_penalty": (-2 <= self.frequency_penalty <= 2, at_most_2),
            "presence_penalty": (-2 <= self.presence_penalty <= 2, at_most_2),
            "num_beams": (1 <= self.num_beams <= MAX_NUM_BEAMS, f"must be from 1 to {MAX_NUM_BEAMS}"),
            "length_penalty": (-10 <= self.length_penalty <= 10, "must be from -10 to 10"),
            "n": (1 <= self.n <= MAX_N, f"must be from 1 to {MAX_N}"),
            "stop": (
                all(self.stop) and len(self.stop) <= MAX_STOP_STRINGS,
                f"must be at most {MAX_STOP_STRINGS} texts that are not empty",
            ),
            "top_logprobs": (
                self.top_logprobs is None or 0 <= self.top_logprobs <= MAX_TOP_LOGPROBS,
                f"must be from 0 to {MAX_TOP_LOGPROBS}",
            ),
            "prompt_lookup_num_tokens": (0 <= self.prompt_lookup_num_tokens <= 64, "must be from 0 to 64"),
        }
        broken = [
            f"{spelled(key)}: {rule}, got {getattr(self, key)!r}; correct it"
            for key, (kept, rule) in rules.items()
            if not kept
        ]
        if self.num_beams > 1 and self.temperature > 0:
            rule = f"must be 0 with {spelled('num_beams')} above 1"
            broken.append(f"{spelled('temperature')}: {rule}, got {self.temperature!r}; correct either")
        if self.num_beams > 1 and self.n > self.num_beams:
            rule = f"must be at most {spelled('num_beams')} ({self.num_beams})"
            broken.append(f"{spelled('n')}: {rule}, got {self.n}; correct either")
        if broken:
            raise UserError("\n".join(broken))


STORY = GenerationConfig(max_new_tokens=80, temperature=0.8, top_k=0, top_p=0.95)  # to continue a text: varied
ANSWER = GenerationConfig(max_new_tokens=256, temperature=0.0, top_k=0, top_p=1.0)  # to an instruction: the likeliest
