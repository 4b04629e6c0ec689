"""With what `llmcore plan` measures: params, sample rows, and the models as a stage would begin with them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from llmcore.base.seeds import torch_generator
from llmcore.config.params import Params
from llmcore.generate.open import open_language_model
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.registry import architecture, new_model
from llmcore.model.transformer import LanguageModel
from llmcore.run.finetune import choose_parameters
from llmcore.run.measure import Sample
from llmcore.run.processes import PRETRAINED
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.train.compute import Compute

MAX_VAL_ROWS = 64  # evaluated


@dataclass(frozen=True)
class Setting:
    """What all stages are measured with."""

    params: Params
    compute: Compute
    sample: Sample
    own: BytePairTokenizer  # of pretraining

    def base(self, dropout: float) -> tuple[LanguageModel, Tokenizer]:
        """Return the base of fine-tuning: as it is on disk, or with fresh weights where pretraining will make it."""
        path = Path(self.params.weights.path)
        if path == PRETRAINED:
            return self.fresh(dropout), self.own
        model, tokenizer = open_language_model(path, dropout)
        model.crop_context(self.params.weights.context_length or model.config.context_length)
        return model, tokenizer

    def fresh(self, dropout: float) -> LanguageModel:
        """Return a model of the section `model`."""
        section = self.params.model
        entry = architecture(section.kind)
        config = entry.config_from_params(section.model_dump(), self.sample.vocab_size or self.own.vocab_size)
        model = new_model(replace(config, dropout=dropout))
        model.initialise(torch_generator(0, "initialise"))
        return model

    def classifier(self) -> tuple[SequenceClassifier, Tokenizer]:
        """Return the classifier before its first step."""
        section = self.params.classifier
        base, tokenizer = self.base(section.dropout)
        labels = sorted({row["label"] for row in self.sample.labelled})
        model = SequenceClassifier(base.body, labels, section.pooling, section.max_tokens)
        model.initialise_head(torch_generator(0, "head"))
        choose_parameters(model, section, self.params.seed)
        return self.compute.place(model), tokenizer


def seconds_of(body: Callable[[], object]) -> float:
    begin = time.perf_counter()
    body()
    return time.perf_counter() - begin
