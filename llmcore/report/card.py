"""The model card: what a model folder holds, how it was made, how to open it elsewhere."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmcore.base.containers import flat
from llmcore.config.kinds import MODEL_KINDS, ModelKind

HUB_LICENCES = ("mit", "apache-2.0", "cc-by-4.0")  # identifiers of the hub that sources here have
LAST_POSITION = (
    "This classifier reads the class at the last position of a row padded to `max_tokens`, padding counted. "
    "`transformers` reads it at the last real token, so its answers differ; `llmcore` honours the setting."
)


def model_card(kind: str, facts: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Return the README.md of a model folder: front matter of the Hugging Face hub, then Markdown.

    `facts` are those of `run.inputs.card_facts`, with `notes` beside where a user must know something. Equal
    arguments give equal text: no date, no path, no host.
    """
    about = MODEL_KINDS[kind]
    params = facts["params"]
    licence = facts["licence"]
    notes = [*facts.get("notes", ())]
    if params.get("pooling") == "last_position":
        notes.append(LAST_POSITION)
    data = [
        f"- {name}: {source['kind']}, {source['licence']}; sha256 `{source['sha256']}`"
        for name, source in facts["inputs"].items()
    ]
    parts = [
        _front_matter(about, licence),
        f"# {about.title}\n\n{about.text}",
        _section("Data", data),
        _section("Licence", [f"That of {about.licence_source}: {licence}."]),
        _section("Good to know", [f"- {line}" for line in notes]),
        _section("How to open it", _snippet(about, adapter=params.get("trainable") == "lora")),
        _section("Results", _table("metric", metrics) if metrics else []),
        _section("Parameters", _table("parameter", flat(params)) if params else []),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(about: ModelKind, licence: str) -> str:
    identifier = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-")
    known = identifier in HUB_LICENCES
    terms = [f"license: {identifier}"] if known else ["license: other", f"license_name: {identifier}"]
    lines = [*terms, "library_name: transformers", f"pipeline_tag: {about.task}"]
    return "\n".join(["---", *lines, "---"])


def _section(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *lines]) if lines else ""


def _snippet(about: ModelKind, *, adapter: bool) -> list[str]:
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


def _use(about: ModelKind) -> list[str]:
    if about.task == "text-classification":
        return [
            'logits = model(**tokenizer("You won a prize!", return_tensors="pt")).logits',
            "print(model.config.id2label[int(logits.argmax())])",
        ]
    if about.stage == "finetune_instruct":
        return [
            'chat = [{"role": "user", "content": "What is the opposite of big?"}]',
            "prompt = tokenizer.apply_chat_template(",
            '    chat, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ")",
            "ids = model.generate(**prompt, max_new_tokens=40)",
            'print(tokenizer.decode(ids[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))',
        ]
    return [
        "begin = tokenizer.bos_token or tokenizer.eos_token  # a document begins with it",
        'prompt = tokenizer(begin + "One", add_special_tokens=False, return_tensors="pt")',
        "ids = model.generate(**prompt, max_new_tokens=40)",
        "print(tokenizer.decode(ids[0]))",
    ]


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {key} | {_cell(value)} |" for key, value in values.items()]
    return [f"| {name} | value |", "| --- | --- |", *rows]


def _cell(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "\\|").split())
