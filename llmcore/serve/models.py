"""Which models are served, and as what."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llmcore.base.errors import UserError
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.generate.write import prompt_form
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import is_classifier, read_config
from llmcore.model.gguf_path import find_gguf
from llmcore.model.packed import prepare_for_decoding
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.prompt import PROMPT_KEY
from llmcore.tokenizer.tokenizer import Tokenizer

Kind = Literal["text", "chat", "classifier"]

# of each line the first folder that there is
DEFAULT_FOLDERS = (("models/pretrain", "models/base"), ("models/instruct",), ("models/classifier",))


@dataclass(frozen=True)
class ServedModel:
    """An opened model under the name by which requests call it."""

    id: str
    kind: Kind
    model: LanguageModel | SequenceClassifier
    tokenizer: Tokenizer
    form: str | None  # of its chats; None unless `kind` is "chat"
    folder: str

    @property
    def language_model(self) -> LanguageModel:
        assert isinstance(self.model, LanguageModel)
        return self.model

    @property
    def classifier(self) -> SequenceClassifier:
        assert isinstance(self.model, SequenceClassifier)
        return self.model


def default_folders(root: Path) -> list[str]:
    """Return the folders that the pipeline has made; UserError if there is none."""
    found = [
        next((one for one in choice if (root / one / "config.json").is_file()), None) for choice in DEFAULT_FOLDERS
    ]
    if folders := [folder for folder in found if folder]:
        return folders
    raise UserError("models/: holds no model; run `dvc repro` to build them, or name a FOLDER")


def open_models(folders: Sequence[str], precision: str = "fp32") -> dict[str, ServedModel]:
    """Open each folder or GGUF file; its name becomes the model's id. UserError if two have one name."""
    models: dict[str, ServedModel] = {}
    for folder in folders:
        served = open_served(folder, precision)
        if served.id in models:
            rule = f"has the name of {models[served.id].folder}, and a model's name must be its own"
            raise UserError(f"{folder}: {rule}; rename one of the folders")
        models[served.id] = served
    return models


def open_served(folder: str, precision: str = "fp32") -> ServedModel:
    """Open a model, a language model with weights in `precision`.

    One that names the form of its prompts, or brings a chat template, is served for chats.
    """
    path = Path(folder).resolve()
    values: dict[str, Any] = {}
    if not find_gguf(folder):
        entry, _, values = read_config(folder)
        if is_classifier(entry, values):
            classifier, tokenizer = open_classifier(folder)
            classifier.folder = path.name
            return ServedModel(path.name, "classifier", classifier, tokenizer, form=None, folder=folder)
    model, tokenizer = open_language_model(folder)
    model.folder = path.name  # clients need not know where it lies
    prepare_for_decoding(model, precision)
    chats = PROMPT_KEY in values or tokenizer.chat_template is not None
    kind: Kind = "chat" if chats else "text"
    return ServedModel(path.name, kind, model, tokenizer, prompt_form(folder) if chats else None, folder)
