"""Pretrain. in: data/samples, data/tokens, data/tokenizer | params: seed, model, pretrain, compute
out: models/pretrain, metrics, tables."""

from pathlib import Path

import numpy as np

from llmcore.base.files import write_csv, write_text
from llmcore.base.seeds import torch_generator
from llmcore.config.params import Params
from llmcore.config.read import read_params
from llmcore.data.samples import Samples, read_samples
from llmcore.data.tokens import open_tokens
from llmcore.data.windows import Windows
from llmcore.generate.token_tables import attention_rows, token_rows
from llmcore.generate.write import continue_texts
from llmcore.model.folder import save_language_model
from llmcore.model.registry import architecture
from llmcore.model.transformer import LanguageModel, parameter_counts
from llmcore.run.training import train, training_run
from llmcore.tasks.language import LanguageTask, target_bytes
from llmcore.tokenizer.bpe import load_byte_pair_tokenizer
from llmcore.tokenizer.tokenizer import Tokenizer
from llmcore.train.compute import setup_compute


def main(argv: list[str]) -> None:
    samples_folder, tokens_folder, tokenizer_folder, out, metrics_file, tables = map(Path, argv)
    params = read_params()
    compute = setup_compute(params.compute)
    tokenizer = load_byte_pair_tokenizer(tokenizer_folder)
    samples = read_samples(samples_folder)
    tokens = open_tokens(tokens_folder)
    val = Windows(tokens, samples.val)
    val_bytes = target_bytes(val, np.array(tokenizer.token_bytes))

    inputs = {"samples": samples_folder, "tokens": tokens_folder, "tokenizer": tokenizer_folder}
    with training_run("pretrain", params, compute, tables, **inputs) as run:
        model = compute.place(make_model(params, tokenizer.vocab_size))
        task = LanguageTask(
            Windows(tokens, samples.train),
            val,
            batch_size=params.pretrain.batch_size,
            micro_batch_size=params.pretrain.micro_batch_size,
            seed=params.seed,
            val_bytes=val_bytes,
            device=compute.device,
            sources=samples.sources,
        )
        section = params.pretrain.in_epochs(samples.epoch_tokens)
        trained, history = train(run, model, task, section, sample=lambda: story(model, tokenizer, params))
        metrics = parameter_counts(model) | trained
        metrics |= use_of_sources(samples, trained["steps"] / task.loader.steps_per_epoch)
        metrics |= distance_to_floor(samples, trained["val/nats_per_byte"], val_bytes)
        save_language_model(out, model, tokenizer=tokenizer, origin=run.origin("tokens"))
        run.write_card_facts(["tokens"], run.origin("tokens")["params"])
        text = story(model, tokenizer, params)
        write_text(tables / "sample.txt", text + "\n")
        write_csv(tables / "sample_tokens.csv", token_rows(model, tokenizer, text))
        write_csv(tables / "attention.csv", attention_rows(model, tokenizer, text))
        run.write_results(out, metrics_file, metrics, history)


def make_model(params: Params, vocab_size: int) -> LanguageModel:
    """Return a model with fresh weights, drawn from a generator of their own."""
    entry = architecture(params.model.kind)
    model = entry.new_model(entry.config_from_params(params.model.model_dump(), vocab_size))
    model.initialise(torch_generator(params.seed, "initialise"))
    return model


def story(model: LanguageModel, tokenizer: Tokenizer, params: Params) -> str:
    """Return the prompt and how the model continues it, to the end of the text at most."""
    prompt = params.pretrain.sample_prompt
    [continuation] = continue_texts(model, tokenizer, [prompt], params.pretrain.generation(params.seed))
    return prompt + continuation.text


def use_of_sources(samples: Samples, epochs: float) -> dict[str, float]:
    """Return how often the windows of each source of a mixture were passed, and about how many tokens that are."""
    found: dict[str, float] = {}
    for source in samples.sources:
        passes = epochs * source.epoch_windows / source.train_windows
        found |= {
            f"source/{source.name}/passes": passes,
            f"source/{source.name}/tokens_seen": round(passes * source.train_tokens),
        }
    return found


def distance_to_floor(samples: Samples, nats_per_byte: float, val_bytes: int) -> dict[str, float]:
    """Return the floor of the validation loss and how far above it the model is; nothing where it is unknown."""
    if samples.floor_nats is None:
        return {}
    floor = samples.floor_nats / val_bytes
    return {
        "floor_nats_per_byte": floor,
        "floor_nats_per_token": samples.floor_nats / int(samples.val["count"].sum()),
        "above_floor": nats_per_byte / floor - 1,
    }
