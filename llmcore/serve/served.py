"""Models as MLflow serves them: what a request may hold and what comes back.

MLflow checks a request against the type hints of `predict` and gives `params` the types and defaults
with which the model was registered. What else is wrong is a UserError, and becomes HTTP 400.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel, PythonModelContext
from pydantic import BaseModel, ConfigDict

from llmcore.base.errors import UserError
from llmcore.config.kinds import ARTIFACT
from llmcore.generate.classify import classify_texts
from llmcore.generate.open import open_classifier, open_gpt
from llmcore.generate.settings import Decoding
from llmcore.generate.texts import answers, continuations
from llmcore.generate.write import prompt_form

BATCH_ROWS = 32

Params = dict[str, Any] | None


class Sorted(BaseModel):
    """The likeliest class of a text, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Asked(BaseModel):
    """An instruction and, where it is about something, its input."""

    model_config = ConfigDict(extra="forbid")  # a misspelled field would be left out in silence

    instruction: str
    input: str | None = None


class Classifier(PythonModel):
    """Texts in, classes out."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_classifier(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[str], params: Params = None) -> list[Sorted]:
        with bad_requests():
            if not all(model_input):
                raise UserError("inputs: a text must not be empty; give texts with at least one character")
            rows = classify_texts(self.model, self.tokenizer, model_input, batch_size=BATCH_ROWS)
        labels = self.model.labels
        return [
            Sorted(label=labels[int(row.argmax())], probabilities=dict(zip(labels, row.tolist(), strict=True)))
            for row in rows
        ]


class Follower(PythonModel):
    """Instructions in, answers out."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_gpt(context.artifacts[ARTIFACT])
        self.form = prompt_form(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[Asked], params: Params = None) -> list[str]:
        with bad_requests():
            decoding = checked(params)
            if not all(asked.instruction.strip() for asked in model_input):
                raise UserError("instruction: must not be empty; say what is to be done")
            pairs = [(asked.instruction, asked.input or "") for asked in model_input]
            return answers(self.model, self.tokenizer, self.form, pairs, decoding)


class Writer(PythonModel):
    """Beginnings of texts in, continuations out; an empty beginning is allowed."""

    def load_context(self, context: PythonModelContext) -> None:
        self.model, self.tokenizer = open_gpt(context.artifacts[ARTIFACT])

    def predict(self, context: PythonModelContext, model_input: list[str], params: Params = None) -> list[str]:
        with bad_requests():
            return continuations(self.model, self.tokenizer, model_input, checked(params))


SERVED: dict[str, Callable[[], PythonModel]] = {"classifier": Classifier, "instruct": Follower, "base": Writer}


def checked(params: Params) -> Decoding:
    """Return the settings of a request; UserError if one is null, which MLflow lets pass, or out of range."""
    assert params is not None  # MLflow fills in the defaults
    if nulls := [key for key, value in params.items() if value is None]:
        raise UserError(f"{nulls[0]}: must be a number, got null; leave it out for its default")
    decoding = Decoding(**params)
    decoding.check()
    return decoding


@contextmanager
def bad_requests() -> Iterator[None]:
    """Tell MLflow that a UserError is the request's: it answers 400 and the sentence."""
    try:
        yield
    except UserError as error:
        raise MlflowException.invalid_parameter_value(str(error)) from None
