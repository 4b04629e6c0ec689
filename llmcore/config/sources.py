"""The sections of params.yaml that say where each input comes from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from llmcore.config.fields import DROPPED_BY_DVC, Name, PositiveInt, Section, Seed, SourceName


class Source(Section):
    """What every source has: where it comes from, and the seed of what the built-in world writes."""

    path: Name  # kind local: the user's own file or folder; DVC watches it for every kind
    seed: Seed  # kind world: another seed writes other rows


class WorldPart(Section):
    name: SourceName
    kind: Literal["world"]
    stories: PositiveInt
    seed: Seed


class TheVerdictPart(Section):
    name: SourceName
    kind: Literal["the-verdict"]


class LocalPart(Section):
    name: SourceName
    kind: Literal["local"]
    files: Name  # a glob in the folder `path` of the mixture
    text_column: Name


TextPart = Annotated[WorldPart | TheVerdictPart | LocalPart, Field(discriminator="kind")]


class TextSource(Source):
    kind: Literal["world", "the-verdict", "local", "mixture"]
    files: Name  # kind local: a glob of files in the folder `path`
    text_column: Name  # kind local: of JSONL and Parquet
    near_duplicates: Literal["ignore", "count", "drop"]
    stories: PositiveInt  # kind world: stories written
    parts: list[TextPart]  # kind mixture

    @property
    def part_names(self) -> list[str]:
        """The names of a mixture's parts; of another source there are none."""
        return [part.name for part in self.parts] if self.kind == "mixture" else []

    @model_validator(mode="after")
    def _parts_have_names(self) -> "TextSource":
        names = self.part_names
        if self.kind == "mixture" and not names:
            raise ValueError("parts must have at least one source when kind is 'mixture', got []; add one")
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"parts must have a name each, got {', '.join(map(repr, repeated))} twice; rename one")
        if reserved := sorted(DROPPED_BY_DVC & set(names)):
            raise ValueError(f"parts must not be called {reserved[0]!r}, a word that DVC ignores; rename it")
        return self


class SpamSource(Source):
    kind: Literal["world", "sms-spam", "local"]
    rows: PositiveInt  # kind world: messages written


class InstructionsSource(Source):
    kind: Literal["world", "book", "local"]
    rows: PositiveInt  # kind world: instructions written


class TokenizerSource(Section):
    kind: Literal["none", "gpt2", "local"]
    path: Name  # kind local: a folder with vocab.json and merges.txt; DVC watches it for every kind


class SourcesParams(Section):
    text: TextSource
    spam: SpamSource
    instructions: InstructionsSource
    tokenizer: TokenizerSource
