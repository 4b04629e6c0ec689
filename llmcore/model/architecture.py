"""An architecture as one entry: its config, its modules, and the form in which Hugging Face stores it.

Outside `model/` only the params of a pretraining name a family: all else asks the entry of config.json's `model_type`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llmcore.model.transformer import LanguageModel, ModelConfig, Transformer


@dataclass(frozen=True)
class StoredTensor:
    """The part of the model that a tensor belongs to, and whether it is stored as (in, out)."""

    part: str
    transposed: bool = False


def no_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """One family of models. `tensors` lists all of its tensors under our names, `{}` for the number of a layer."""

    config: type[ModelConfig]
    transformer: Callable[[Any], Transformer]
    language_model: str  # transformers' class names
    classifier: str
    config_to_json: Callable[[ModelConfig, int], dict[str, Any]]
    config_from_json: Callable[[Mapping[str, Any], str], ModelConfig]
    config_from_params: Callable[[Mapping[str, Any], int], ModelConfig]  # the section `model`, the vocabulary's size
    tensors: Mapping[str, StoredTensor]
    tied_to: str  # the tensor that a tied head shares
    layer_pattern: str  # finds the number of a layer in a name
    lora_targets: tuple[str, ...]  # the linear layers of a block
    ignored_tensors: frozenset[str] = frozenset()  # stored by some checkpoints, no weights
    zero_tensors: Callable[[ModelConfig], Mapping[str, tuple[int, ...]]] = no_tensors  # stored as zeros, not loaded
    positions: str | None = None  # the embedding of positions, if there is one
    fan_in_fan_out: bool = False  # peft's word for transposed linear layers

    @property
    def model_type(self) -> str:
        return self.config.model_type

    @property
    def embeddings(self) -> dict[str, tuple[str, str]]:
        """The embeddings, each with the two sizes of the config that are its shape."""
        found = {self.tied_to: ("vocab_size", "n_embd")}
        return found if self.positions is None else found | {self.positions: ("context_length", "n_embd")}

    def new_model(self, config: ModelConfig) -> LanguageModel:
        """Return a language model whose weights are not drawn yet."""
        return LanguageModel(self.transformer(config))

    def our_name(self, key: str) -> str | None:
        """Return our name of a stored key, which may lack the prefix; None for one that is ignored.

        An unknown key stays as it is.
        """
        prefixed = f"{self.config.transformer_name}.{key}"
        if self._row(key) in self.ignored_tensors or self._row(prefixed) in self.ignored_tensors:
            return None
        return prefixed if self._row(prefixed) in self.tensors else key

    def transpose(self, name: str, tensor: Tensor) -> Tensor:
        """Turn a tensor from the stored orientation to ours, or back: the same step both ways."""
        return tensor.t() if self.tensors[self._row(name)].transposed else tensor

    def stored_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which our parameter `name` of `shape` is stored."""
        return shape[::-1] if self.tensors[self._row(name)].transposed else shape

    def part(self, name: str) -> str:
        """Return the part of the model that a tensor belongs to; `other` if it is unknown."""
        row = self.tensors.get(self._row(name))
        return row.part if row else "other"

    def layer_of(self, name: str) -> str | None:
        """Return the number of the layer that one of the architecture's tensors belongs to, None if there is none."""
        found = re.search(self.layer_pattern, name) if self._row(name) in self.tensors else None
        return "".join(filter(str.isdecimal, found[0])) if found else None

    def _row(self, name: str) -> str:
        """Return the table's key of a name: `transformer.h.11.ln_1.bias -> transformer.h.{}.ln_1.bias`."""
        return re.sub(self.layer_pattern, lambda found: re.sub(r"\d+", "{}", found[0]), name)
