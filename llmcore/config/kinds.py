"""The one table of model kinds: cards, the ledger, the registry and the command line read it.

Nothing heavy is imported: the command line shows the names.
"""

from dataclasses import dataclass
from typing import Any

from llmcore.config.generation import ANSWER, STORY, GenerationConfig


@dataclass(frozen=True)
class ModelKind:
    """What is known of a kind of model: who makes it, how it is opened, served and described."""

    folder: str
    stage: str  # that makes it
    title: str
    text: str  # of its card
    task: str  # pipeline_tag of the Hugging Face hub
    opened_by: str  # transformers' class
    licence_source: str  # whose licence it inherits
    registered_name: str | None = None  # in MLflow's registry; None: it is not registered
    example: tuple[Any, ...] = ()  # of a request
    generation: GenerationConfig | None = None  # defaults of generation, where it generates


MODEL_KINDS = {
    "pretrain": ModelKind(
        folder="models/pretrain",
        stage="pretrain",
        title="Small language model, pretrained",
        text="A causal language model, trained from random weights to predict the next token.",
        task="text-generation",
        opened_by="AutoModelForCausalLM",
        licence_source="the training text",
    ),
    "base": ModelKind(
        folder="models/base",
        stage="load_gpt2",
        title="Base of the fine-tunings",
        text="A causal language model with the weights named below, ready to be fine-tuned.",
        task="text-generation",
        opened_by="AutoModelForCausalLM",
        licence_source="the weights",
        registered_name="base-model",
        example=("Mia and Tom",),
        generation=STORY,
    ),
    "classifier": ModelKind(
        folder="models/classifier",
        stage="finetune_classifier",
        title="Text classifier",
        text="A transformer with a linear head, fine-tuned to classify texts. "
        "The class is read at the last token that is not padding.",
        task="text-classification",
        opened_by="AutoModelForSequenceClassification",
        licence_source="the base model",
        registered_name="spam-classifier",
        example=("You won a kite!",),
    ),
    "instruct": ModelKind(
        folder="models/instruct",
        stage="finetune_instruct",
        title="Instruction model",
        text="A causal language model, fine-tuned to follow instructions.",
        task="text-generation",
        opened_by="AutoModelForCausalLM",
        licence_source="the base model",
        registered_name="instruction-follower",
        example=({"instruction": "What is the opposite of big?"},),
        generation=ANSWER,
    ),
}

REGISTERED = {name: kind for name, kind in MODEL_KINDS.items() if kind.registered_name}
