"""The types of the values in params.yaml, with their limits, and the base of its sections."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from llmcore.base.text import is_unicode, normalise_input
from llmcore.config.generation import MAX_NUM_BEAMS


def _without_surrogate(text: str) -> str:
    if not is_unicode(text):
        raise PydanticCustomError("surrogate", "must be valid Unicode, without lone surrogates")
    return text


def _whole(value: object) -> object:
    """Return 1e9, which YAML reads as a float, as the number that it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _auto_or_number(value: object) -> object:
    if value != "auto" and not (type(value) is int and 0 < value <= MOST_THREADS):
        raise PydanticCustomError(
            "processes", "must be 'auto' or a valid number from 1 to {most}", {"most": MOST_THREADS}
        )
    return value


def _all_linear_or_names(value: object) -> object:
    if value != ALL_LINEAR and not (isinstance(value, list) and value and all(isinstance(x, str) and x for x in value)):
        raise PydanticCustomError("targets", f"must be {ALL_LINEAR!r} or a valid list of names of linear layers")
    return value


ALL_LINEAR = "all-linear"  # peft's word for every linear layer of the blocks

# Beyond these, torch, NumPy or the C libraries overflow, or a run would never end.
LARGEST = 10**9
LARGEST_SEED = 2**63 - 1
LARGEST_BUDGET = 10**15
LARGEST_DIMENSION = 10**6
MOST_THREADS = 1024
SMALLEST_FRACTION = 1e-6

PositiveInt = Annotated[int, Field(strict=True, gt=0, le=LARGEST)]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Budget = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, le=LARGEST_BUDGET)]
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]
Dimension = Annotated[int, Field(strict=True, gt=0, le=LARGEST_DIMENSION)]
PositiveFloat = Annotated[float, Field(strict=True, gt=0, le=LARGEST, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(strict=True, ge=0, le=LARGEST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=SMALLEST_FRACTION, le=1 - SMALLEST_FRACTION)]
Probability = Annotated[float, Field(strict=True, ge=0, lt=1)]
LengthPenalty = Annotated[float, Field(strict=True, ge=-10, le=10)]
RepetitionPenalty = Annotated[float, Field(strict=True, ge=0.1, le=10)]
Penalty = Annotated[float, Field(strict=True, ge=-2, le=2)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Beams = Annotated[int, Field(strict=True, ge=1, le=MAX_NUM_BEAMS)]
Nucleus = Annotated[float, Field(strict=True, gt=0, le=1)]
Bool = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(strict=True, min_length=1)]
SourceName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=40)]  # in metrics
QuotedPath = Annotated[str, Field(strict=True, pattern=r'^[^"$`\\]+$')]  # in a command of dvc.yaml
Text = Annotated[str, Field(strict=True), AfterValidator(_without_surrogate), AfterValidator(normalise_input)]

Processes = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_number)]
Targets = Annotated[list[str] | Literal["all-linear"], BeforeValidator(_all_linear_or_names)]

# Keys that DVC's run cache leaves out of a stage's identity, at any depth: their values would change unnoticed.
DROPPED_BY_DVC = {"size", "nfiles"}


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        assert not DROPPED_BY_DVC & cls.model_fields.keys(), f"{cls.__name__} has a key that DVC's run cache ignores"
