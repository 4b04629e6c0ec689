"""Fine-tune a classifier. in: models/base, data/spam | params: seed, classifier, compute
out: models/classifier (merged, with the adapter beside), metrics, plots."""

from contextlib import nullcontext
from pathlib import Path

from llmcore.base.files import read_json, read_jsonl, write_json
from llmcore.base.seeds import torch_generator
from llmcore.config.params import Classifier, read_params
from llmcore.generate.open import open_gpt
from llmcore.model.adapter import save_adapter
from llmcore.model.classifier import GPTClassifier, choose_trained
from llmcore.model.classifier_folder import save_classifier
from llmcore.model.folder import load_gpt
from llmcore.model.gpt2 import GPT, parameter_counts
from llmcore.model.lora import apply_lora, frozen_in_bf16, merged_state, train_only_lora
from llmcore.report.figures import batch_rows, length_histogram
from llmcore.run.training import check_length, papers, track_model, train, training, write_history
from llmcore.tasks.classification import classification_rows, classification_task
from llmcore.train.compute import set_up

SECTIONS = ["seed", "classifier", "compute"]


def main(argv: list[str]) -> None:
    base, data, out, metrics_file, plots = map(Path, argv)
    params = read_params()
    section = params.classifier
    machine = set_up(params.compute)
    labels = read_json(data / "meta.json")["labels"]
    with training("finetune_classifier", params, SECTIONS, base=base, spam=data) as work:
        gpt, tokenizer = open_gpt(base, dropout=section.dropout)
        check_length("classifier.max_tokens", section.max_tokens, gpt.config.context_length)
        model = make_classifier(gpt, labels, section, params.seed).to(machine.device)
        rows = {split: list(read_jsonl(data / f"{split}.jsonl")) for split in ("train", "val")}
        task, lengths = classification_task(section, rows, labels, tokenizer, seed=params.seed, device=machine.device)
        if not section.dropout and model.frozen_blocks:
            with machine.autocast():
                task.remember(model)
        with frozen_in_bf16(model, lambda: load_gpt(base).state_dict()) if machine.is_bf16 else nullcontext():
            last, history = train(work, model, task, section, machine=machine)
        cut = sum(length > section.max_tokens for length in lengths["train"])
        counts = {
            "train_rows": len(task.train),
            "truncated_rows": cut,
            "truncated_share": cut / len(task.train),
            "padding_share": task.padding_share(),
        }
        metrics = parameter_counts(model) | counts | last
        made = papers(work, "classifier", "base", "spam", params=section.model_dump(), metrics=metrics)
        save_classifier(out, model, merged_state(model), tokenizer=tokenizer, **made)
        if section.trains == "lora":
            values = section.lora.model_dump(include={"alpha", "scaling", "dropout"})
            save_adapter(out / "adapter", model, base=base, **values)
        write_json(metrics_file, metrics)
        write_history(plots, history)
        length_histogram(plots / "lengths.png", lengths, limit=section.max_tokens)
        batch_rows(plots / "batch.png", classification_rows(task, 0, tokenizer.decode, labels), title="First batch")
        track_model(work.tracker, metrics, plots, out)


def make_classifier(gpt: GPT, labels: list[str], section: Classifier, seed: int) -> GPTClassifier:
    """Put a fresh head on the base's transformer and choose what is trained."""
    model = GPTClassifier(gpt.config, labels, section.pooling, section.max_tokens)
    model.transformer = gpt.transformer
    model.initialise_head(torch_generator(seed, "head"))
    if section.trains == "lora":
        apply_lora(model, **section.lora.model_dump(), generator=torch_generator(seed, "lora"))
        train_only_lora(model, also=["score."])
    else:
        choose_trained(model, section.trains)
    return model
