"""Fine-tune a classifier. in: models/base, data/spam | params: seed, classifier, compute
out: models/classifier (merged, with the adapter beside), metrics, tables."""

from llmcore.base.files import read_json
from llmcore.base.seeds import torch_generator
from llmcore.config.params import ClassifierParams
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_classifier
from llmcore.run.finetune import Base, FineTuning, choose_parameters, finetune
from llmcore.tasks.classification import classification_task, view_batch


def main(argv: list[str]) -> None:
    finetune("finetune_classifier", argv, "classifier", "spam", set_up)


def set_up(base: Base[ClassifierParams]) -> FineTuning:
    """Put a fresh head on the base's transformer, choose what is trained, encode the rows."""
    section = base.section
    device = base.compute.device
    tokenizer = base.tokenizer
    labels = read_json(base.data / "meta.json")["labels"]
    model = SequenceClassifier(base.model.body, labels, section.pooling, section.max_tokens)
    model.initialise_head(torch_generator(base.params.seed, "head"))
    choose_parameters(model, section, base.params.seed)
    base.compute.place(model)
    task, lengths = classification_task(section, base.rows, labels, tokenizer, seed=base.params.seed, device=device)
    if not section.dropout and model.n_frozen_blocks and not base.compute.is_sharded:
        with base.compute.autocast():
            task.cache_frozen_prefix(model)
    truncated = sum(length > section.max_tokens for length in lengths["train"])
    return FineTuning(
        model=model,
        task=task,
        counts={
            "train_rows": len(task.train),
            "truncated_rows": truncated,
            "truncated_share": truncated / len(task.train),
            "padding_share": task.padding_share(),
        },
        lengths=lengths,
        first_batch=view_batch(task, 0, tokenizer.decode, labels),
        save=lambda out, state, origin: save_classifier(out, model, state, tokenizer=tokenizer, origin=origin),
    )
