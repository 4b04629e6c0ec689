"""The model card: what a model folder holds, how it was made, how to open it elsewhere."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from llmcore.base.containers import flat

Kind = Literal["pretrain", "base", "classifier", "instruct"]


class About(NamedTuple):
    title: str
    text: str
    task: str  # the hub's pipeline_tag
    opened_by: str  # transformers' class
    heir_of: str  # whose licence the model inherits


GENERATION, CLASSIFICATION = "text-generation", "text-classification"
ABOUT: dict[Kind, About] = {
    "pretrain": About(
        "Small GPT, pretrained",
        "A GPT-2 style language model, trained from random weights to predict the next token.",
        GENERATION,
        "AutoModelForCausalLM",
        "the training text",
    ),
    "base": About(
        "Base of the fine-tunings",
        "A GPT-2 style language model with the weights named below, ready to be fine-tuned.",
        GENERATION,
        "AutoModelForCausalLM",
        "the weights",
    ),
    "classifier": About(
        "Message classifier",
        "A GPT-2 style model with a linear head, fine-tuned to sort short messages into classes. "
        "The class is read at the last token that is not padding.",
        CLASSIFICATION,
        "AutoModelForSequenceClassification",
        "the base model",
    ),
    "instruct": About(
        "Instruction follower",
        "A GPT-2 style language model, fine-tuned to answer instructions.",
        GENERATION,
        "AutoModelForCausalLM",
        "the base model",
    ),
}
HUB_LICENCES = ("mit", "apache-2.0", "cc-by-4.0")  # those of the hub's identifiers that sources here have
LAST_POSITION = (
    "This classifier reads the class at the last position of a row padded to `max_tokens`, padding counted. "
    "`transformers` reads it at the last real token, so its answers differ; `llmcore` honours the setting."
)


def model_card(
    kind: Kind,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    licence: str,
    data: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the README.md of a model folder: front matter of the Hugging Face hub, then Markdown.

    `licence` is that of the base, or of the text where there is none; `data` are lines about the
    training data, `notes` what a user must know. Equal arguments give equal text: no date, no path, no host.
    """
    about = ABOUT[kind]
    if params.get("pooling") == "last_position":
        notes = [*notes, LAST_POSITION]
    parts = [
        _front_matter(about, licence),
        f"# {about.title}\n\n{about.text}",
        _section("Data", [f"- {line}" for line in data]),
        _section("Licence", [f"That of {about.heir_of}: {licence}."]),
        _section("Good to know", [f"- {line}" for line in notes]),
        _section("How to open it", _snippet(about, adapter=params.get("trains") == "lora")),
        _section("Results", _table("metric", metrics)),
        _section("Parameters", _table("parameter", flat(params))),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(about: About, licence: str) -> str:
    identifier = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    known = identifier in HUB_LICENCES
    terms = [f"license: {identifier}"] if known else ["license: other", f"license_name: {identifier}"]
    lines = [*terms, "library_name: transformers", f"pipeline_tag: {about.task}", "tags: [gpt2]"]
    return "\n".join(["---", *lines, "---"])


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _snippet(about: About, adapter: bool) -> list[str]:
    lines = [
        "```python",
        f"from transformers import AutoTokenizer, {about.opened_by}",
        "",
        'folder = "."  # this folder',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        f"model = {about.opened_by}.from_pretrained(folder).eval()",
        *_use(about),
        "```",
    ]
    if adapter:
        lines += [
            "",
            "The weights above are merged. The LoRA adapter alone, to put on the base model it was trained from:",
            "",
            "```python",
            "from peft import PeftModel",
            "",
            'model = PeftModel.from_pretrained(base_model, "./adapter")',
            "```",
        ]
    return lines


def _use(about: About) -> list[str]:
    if about.task == CLASSIFICATION:
        return [
            'logits = model(**tokenizer("You won a prize!", return_tensors="pt")).logits',
            "print(model.config.id2label[int(logits.argmax())])",
        ]
    return [
        'prompt = tokenizer(tokenizer.bos_token + "One", return_tensors="pt")  # a document begins with this token',
        "ids = model.generate(**prompt, max_new_tokens=40)",
        "print(tokenizer.decode(ids[0]))",
    ]


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    if not values:
        return []
    return [f"| {name} | value |", "| --- | --- |", *(f"| {key} | {_cell(value)} |" for key, value in values.items())]


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "\\|").split())
