"""The sections of params.yaml that evaluate a trained model."""

from typing import Literal

from pydantic import model_validator

from llmcore.base.credentials import holds_credentials, masked
from llmcore.config.fields import (
    Beams,
    Fraction,
    LengthPenalty,
    Name,
    NonNegativeFloat,
    NonNegativeInt,
    Nucleus,
    Penalty,
    PositiveFloat,
    PositiveInt,
    RepetitionPenalty,
    Section,
    Seed,
    Share,
)
from llmcore.config.generation import GenerationConfig


class EvaluateClassifierParams(Section):
    batch_size: PositiveInt
    confidence: Fraction


class GenerationParams(Section):
    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat  # 0 takes the likeliest token
    top_k: NonNegativeInt  # 0 keeps all
    top_p: Nucleus  # 1 keeps all
    min_p: Share  # 0 keeps all
    repetition_penalty: RepetitionPenalty  # 1 is none
    frequency_penalty: Penalty
    presence_penalty: Penalty
    num_beams: Beams  # 1 is no beam search
    length_penalty: LengthPenalty

    def generation(self, seed: int) -> GenerationConfig:
        return GenerationConfig(**{key: getattr(self, key) for key in GenerationParams.model_fields}, seed=seed)

    @model_validator(mode="after")
    def _beams_are_greedy(self) -> "GenerationParams":
        if self.num_beams > 1 and self.temperature > 0:
            rule = "must be 0 when num_beams is above 1"
            raise ValueError(f"temperature {rule}, got {self.temperature}; correct either")
        return self


class JudgeParams(Section):
    kind: Literal["none", "openai"]
    url: Name  # everything before /chat/completions
    model: Name
    temperature: NonNegativeFloat
    seed: Seed
    max_tokens: PositiveInt  # of a reply
    timeout_seconds: PositiveFloat

    @model_validator(mode="after")
    def _keeps_no_secret(self) -> "JudgeParams":
        """What stands in params.yaml goes into git and to the tracker."""
        if holds_credentials(self.url):
            rule = f"must hold no user or password, got {masked(self.url)!r}"
            raise ValueError(f"url {rule}; take them out and set LLMCORE_JUDGE_KEY")
        return self


class EvaluateInstructParams(GenerationParams):
    confidence: Fraction
    judge: JudgeParams
