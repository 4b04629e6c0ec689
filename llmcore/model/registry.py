"""Every architecture, by config.json's `model_type`. A new one is a file with its entry, named here."""

from llmcore.base.errors import UserError
from llmcore.model import gpt2, llama_family
from llmcore.model.architecture import Architecture
from llmcore.model.transformer import LanguageModel, ModelConfig

ARCHITECTURES: dict[str, Architecture] = {
    entry.model_type: entry for entry in (gpt2.ARCHITECTURE, *llama_family.ARCHITECTURES)
}


def architecture(model_type: object, source: str = "model_type") -> Architecture:
    """Return the entry of a `model_type`; an unknown one is a UserError that begins with `source`."""
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        known = ", ".join(map(repr, ARCHITECTURES))
        raise UserError(f"{source}: model_type must be {known}, got {model_type!r}; give such a model folder")
    return ARCHITECTURES[model_type]


def new_model(config: ModelConfig) -> LanguageModel:
    """Return a language model of `config` whose weights are not drawn yet."""
    return architecture(config.model_type).new_model(config)
