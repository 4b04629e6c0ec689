"""The kinds of models that can be registered and served. Nothing heavy is imported: the command line shows them."""

from dataclasses import dataclass
from typing import Any

from llmcore.serve.decoding import ANSWER, STORY, Decoding

ARTIFACT = "model"  # under which MLflow keeps the model folder


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of model: where it lies, what it is called, who made it, a request and its settings."""

    folder: str
    name: str
    stage: str
    example: list[Any]
    decoding: Decoding | None = None


KINDS = {
    "classifier": Kind("models/classifier", "spam-classifier", "finetune_classifier", ["You won a kite!"]),
    "instruct": Kind(
        "models/instruct",
        "instruction-follower",
        "finetune_instruct",
        [{"instruction": "What is the opposite of big?"}],
        ANSWER,
    ),
    "base": Kind("models/base", "base-model", "load_gpt2", ["Mia and Tom"], STORY),
}
