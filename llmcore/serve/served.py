"""Models as MLflow serves them: the form of a request and of its answer.

MLflow checks a request against the type hints of `predict` and gives `params` the types and defaults
with which the model was registered. What else is wrong is a UserError, and becomes HTTP 400.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel, ConfigDict

from llmcore.base.containers import chunks
from llmcore.base.errors import UserError
from llmcore.base.text import checked_input
from llmcore.config.generation import GenerationConfig
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.generate.write import Continuation, answer_instructions, check_room, continue_texts, of_part, prompt_form

ARTIFACT = "model"  # under which MLflow keeps the model folder
BATCH_SIZE = 32  # texts that are classified at a time
GENERATION_BATCH_SIZE = 8  # texts that are continued at a time: each has a cache of keys and values
MAX_ROWS = 256  # of a request
MAX_CHARACTERS = 200_000  # of a request

Params = dict[str, Any] | None
Row = TypeVar("Row")


class Prediction(BaseModel):
    """The likeliest class of a text, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Instruction(BaseModel):
    """An instruction and, where it is about something, its input."""

    model_config = ConfigDict(extra="forbid")  # a misspelled field would be dropped without a word

    instruction: str
    input: str | None = None


class ClassifierModel(PythonModel):
    """Texts in, classes out."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_classifier(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[str], params: Params = None) -> list[Prediction]:
        with bad_requests():
            check_size(model_input)
            texts = [checked_input(text, "inputs") for text in model_input]
            if not all(texts):
                raise UserError("inputs: a text must not be empty; give texts with at least one character")
            rows = classify_texts(self.model, self.tokenizer, texts, batch_size=BATCH_SIZE)
        labels = self.model.labels
        return [
            Prediction(label=labels[int(row.argmax())], probabilities=dict(zip(labels, row.tolist(), strict=True)))
            for row in rows
        ]


class InstructionModel(PythonModel):
    """Instructions in, answers out."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_language_model(context.artifacts[ARTIFACT])
        self.form = prompt_form(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[Instruction], params: Params = None) -> list[str]:
        with bad_requests():
            check_size([row.instruction + (row.input or "") for row in model_input])
            config = checked(params)
            pairs = [
                (checked_input(row.instruction, "instruction"), checked_input(row.input or "", "input"))
                for row in model_input
            ]
            if not all(instruction.strip() for instruction, _ in pairs):
                raise UserError("instruction: must not be empty; say what is to be done")
            check_room(self.model, self.tokenizer, self.form, pairs)
            return in_batches(
                pairs, config, lambda part, own: answer_instructions(self.model, self.tokenizer, self.form, part, own)
            )


class TextModel(PythonModel):
    """Beginnings of texts in, continuations out; an empty beginning is allowed."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_language_model(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[str], params: Params = None) -> list[str]:
        with bad_requests():
            check_size(model_input)
            texts = [checked_input(text, "inputs") for text in model_input]
            return in_batches(
                texts, checked(params), lambda part, own: continue_texts(self.model, self.tokenizer, part, own)
            )


SERVED: dict[str, Callable[[], PythonModel]] = {
    "classifier": ClassifierModel,
    "instruct": InstructionModel,
    "base": TextModel,
}


def check_size(texts: Sequence[str]) -> None:
    """UserError for a request that would take too long or too much memory."""
    characters = sum(map(len, texts))
    if len(texts) > MAX_ROWS or characters > MAX_CHARACTERS:
        limits = f"at most {MAX_ROWS:,} rows and {MAX_CHARACTERS:,} characters"
        raise UserError(
            f"inputs: a request must have {limits}, got {len(texts):,} rows and {characters:,} characters; "
            "send them in several requests"
        )


def in_batches(
    rows: Sequence[Row],
    config: GenerationConfig,
    write: Callable[[Sequence[Row], GenerationConfig], list[Continuation]],
) -> list[str]:
    """Return the text that `write` makes of each row, a few rows at a time, as the command line does."""
    texts = []
    for number, part in enumerate(chunks(rows, GENERATION_BATCH_SIZE)):
        texts += [continuation.text for continuation in write(part, of_part(config, number))]
    return texts


def checked(params: Params) -> GenerationConfig:
    """Return the settings of a request; UserError if one is null, which MLflow lets pass, or out of range."""
    assert params is not None  # MLflow fills in the defaults
    if nulls := [key for key, value in params.items() if value is None]:
        raise UserError(f"{nulls[0]}: must be a number, got null; leave it out for its default")
    config = GenerationConfig(**params)
    config.check()
    return config


@contextmanager
def bad_requests() -> Iterator[None]:
    """Turn a UserError into HTTP 400 with its message."""
    try:
        yield
    except UserError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from None
