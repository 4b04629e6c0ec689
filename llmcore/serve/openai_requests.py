"""OpenAI's requests: which fields there are, and the prompts and settings that they mean.

A field that is unknown or not supported is refused by name: nothing that was asked for is ignored in silence. A field
that is null counts as left out.
"""

import secrets
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, model_validator

from llmcore.base.errors import UserError
from llmcore.base.text import checked_input
from llmcore.config.generation import ANSWER, STORY, GenerationConfig
from llmcore.generate.write import Prompts, chat_prompt, fit_chat, text_prompts
from llmcore.serve.errors import of_validation
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.tokenizer.chat import Message

BANNED = -100.0  # the only bias: a token that never comes

Body = TypeVar("Body", bound="Fields")


class Fields(BaseModel):
    """A JSON object with known fields, of the types that they have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: Any) -> Any:
        return (
            {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values
        )


def parse(form: type[Body], body: bytes) -> Body:
    """Read a body; ApiError for the first thing in it that is wrong."""
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        raise of_validation(error) from None


class StreamOptions(Fields):
    include_usage: bool = False


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class GenerationFields(Fields):
    """What texts and chats have in common: OpenAI's names, and below them transformers'."""

    defaults: ClassVar[GenerationConfig]
    alternatives_field: ClassVar[str]

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int = 1
    stop: Annotated[list[str], BeforeValidator(_as_list)] = []
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[str, float] = {}
    user: str = ""  # who asks: changes nothing

    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = Field(1.0, ge=0.1, le=10.0)  # others overflow
    prompt_lookup_num_tokens: int = 0

    @property
    def tokens_field(self) -> str:
        """The field that says how many tokens are written."""
        return "max_tokens"

    @property
    def asked_tokens(self) -> int | None:
        found: int | None = getattr(self, self.tokens_field)
        return found

    @property
    def alternatives(self) -> int | None:
        """How many likeliest tokens are reported with each; None reports nothing."""
        raise NotImplementedError


def _as_prompts(value: Any) -> list[str] | list[list[int]]:
    """Return texts or lists of ids."""

    def is_ids(part: Any) -> bool:
        return isinstance(part, list) and bool(part) and all(type(number) is int for number in part)

    prompts = [value] if isinstance(value, str) or is_ids(value) else value
    found = prompts if isinstance(prompts, list) else []
    if found and (all(isinstance(prompt, str) for prompt in found) or all(map(is_ids, found))):
        return found
    raise ValueError("must be a text, a list of texts, a list of token ids, or a list of such lists")


class CompletionFields(GenerationFields):
    """The body of /v1/completions."""

    defaults = STORY
    alternatives_field = "logprobs"

    prompt: Annotated[list[str] | list[list[int]], PlainValidator(_as_prompts)]
    logprobs: int | None = None
    echo: Literal[False] = False
    best_of: Literal[1] = 1

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


class TextPart(Fields):
    type: Literal["text"]
    text: str


def _as_text(value: Any) -> Any:
    """Join a content that comes in parts."""
    if not isinstance(value, list):
        return value
    return "".join(TextPart.model_validate(part).text for part in value)


class MessageFields(Fields):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, BeforeValidator(_as_text)]


class ChatFields(GenerationFields):
    """The body of /v1/chat/completions."""

    defaults = ANSWER
    alternatives_field = "top_logprobs"

    messages: list[MessageFields] = Field(min_length=1)
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None

    @property
    def tokens_field(self) -> str:
        return "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class ClassifyFields(Fields):
    """The body of /classify."""

    model: str
    input: Annotated[list[str], BeforeValidator(_as_list)] = Field(min_length=1)
    top_k: int | None = Field(None, ge=1)  # None: all classes


# ---- settings


def generation_config(asked: CompletionFields | ChatFields, limits: Limits) -> GenerationConfig:
    """Return the settings that a request means; UserError for those out of range.

    What it leaves out has the default of `llmcore generate` or `llmcore ask`. A seed that is left out is drawn, and an
    answer may get as long as the limits allow.
    """
    default = asked.defaults
    longest = default.max_new_tokens if isinstance(asked, CompletionFields) else limits.max_tokens
    max_tokens = min(longest, limits.max_tokens) if asked.asked_tokens is None else asked.asked_tokens
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        temperature=default.temperature if asked.temperature is None else asked.temperature,
        top_k=default.top_k if asked.top_k is None else asked.top_k,
        top_p=default.top_p if asked.top_p is None else asked.top_p,
        seed=secrets.randbits(31) if asked.seed is None else asked.seed,
        min_p=asked.min_p,
        repetition_penalty=asked.repetition_penalty,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
        suppress_tokens=_banned(asked.logit_bias, limits),
        n=asked.n,
        stop=tuple(asked.stop),
        top_logprobs=asked.alternatives,
        prompt_lookup_num_tokens=asked.prompt_lookup_num_tokens,
    )
    names = {"max_new_tokens": asked.tokens_field, "top_logprobs": asked.alternatives_field}
    config.check(spelled=lambda key: names.get(key, key))
    if isinstance(asked, ChatFields) and asked.top_logprobs is not None and not asked.logprobs:
        raise UserError("top_logprobs: must come with logprobs true; add it")
    if max_tokens > limits.max_tokens:
        raise UserError(f"{asked.tokens_field}: must be at most {limits.max_tokens}, got {max_tokens}; ask for fewer")
    if any(len(stop) > limits.max_stop_characters for stop in config.stop):
        raise UserError(f"stop: a text must have at most {limits.max_stop_characters} characters; shorten it")
    return config


def _banned(logit_bias: dict[str, float], limits: Limits) -> tuple[int, ...]:
    if len(logit_bias) > limits.max_logit_bias:
        raise UserError(f"logit_bias: must have at most {limits.max_logit_bias} entries, got {len(logit_bias)}")
    for token, bias in logit_bias.items():
        if not (token.isascii() and token.isdecimal() and len(token) < 10):
            raise UserError(f"logit_bias: must name token ids, got {token[:40]!r}; correct it")
        if bias != BANNED:
            raise UserError(f"logit_bias: must be -100, which bans a token, got {bias!r}; other biases are not known")
    return tuple(int(token) for token in logit_bias)


# ---- prompts


def completion_prompts(asked: CompletionFields, served: ServedModel, limits: Limits) -> Prompts:
    """Return the prompts of a request; UserError for too many, and for what no text consists of."""
    vocab_size = served.language_model.config.vocab_size
    if len(asked.prompt) * asked.n > limits.max_rows:
        rule = f"prompts times n must be at most {limits.max_rows}, got {len(asked.prompt)} times {asked.n}"
        raise UserError(f"{'prompt' if asked.n == 1 else 'n'}: {rule}; send them in several requests")
    check_characters("prompt", asked.prompt, limits)
    for number in (number for prompt in asked.prompt if not isinstance(prompt, str) for number in prompt):
        if not 0 <= number < vocab_size:
            raise UserError(f"prompt: must be ids from 0 to {vocab_size - 1}, got {number}; correct it")
    texts = [checked_input(prompt, "prompt") for prompt in asked.prompt if isinstance(prompt, str)]
    if texts:
        return text_prompts(served.tokenizer, texts)
    ids = [list(prompt) for prompt in asked.prompt if not isinstance(prompt, str)]
    return Prompts(ids, served.tokenizer.stop_ids)


def chat_prompts(
    asked: ChatFields, served: ServedModel, config: GenerationConfig, limits: Limits
) -> tuple[Prompts, int]:
    """Return the prompt of a chat, cut to the model's context, and the number of messages that were left out.

    UserError for a chat that cannot be continued.
    """
    assert served.form is not None
    if asked.n > limits.max_rows:
        raise UserError(f"n: must be at most {limits.max_rows}, got {asked.n}; send several requests")
    if len(asked.messages) > limits.max_messages:
        got = len(asked.messages)
        raise UserError(f"messages: must be at most {limits.max_messages}, got {got}; leave out the oldest")
    check_characters("messages", [message.content for message in asked.messages], limits)
    messages: list[Message] = []
    for message in asked.messages:
        role = "system" if message.role == "developer" else message.role
        if role == "system" and messages:
            raise UserError("messages: a system message must be the first; move it there")
        messages.append({"role": role, "content": checked_input(message.content, "messages")})
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise UserError("messages: the last one must be the user's, and must not be empty; say what is to be answered")
    kept, dropped = fit_chat(served.language_model, served.tokenizer, served.form, messages, config.max_new_tokens)
    return chat_prompt(served.tokenizer, served.form, kept), dropped


def check_characters(field: str, texts: list[str] | list[list[int]], limits: Limits) -> None:
    """UserError for texts that are too long together; an id counts as a character."""
    characters = sum(map(len, texts))
    if characters > limits.max_characters:
        rule = f"must have at most {limits.max_characters} characters or ids together, got {characters}"
        raise UserError(f"{field}: {rule}; shorten it")
