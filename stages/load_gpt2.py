"""Load the base. in: a model folder or GGUF file, data/raw/text, data/samples, data/tokens, data/tokenizer
params: weights, compute | out: models/base, metrics, tables."""

from pathlib import Path

import torch

from llmcore.base import parallel
from llmcore.base.errors import UserError
from llmcore.base.files import fresh_folder, sha256_file, write_json
from llmcore.config.read import read_params
from llmcore.data.samples import read_samples, validation_texts
from llmcore.data.tokens import open_tokens
from llmcore.generate.open import open_language_model
from llmcore.model.folder import save_language_model
from llmcore.model.gguf_path import source_of
from llmcore.model.transformer import LanguageModel, parameter_counts
from llmcore.model.weights import WEIGHTS_FILE
from llmcore.run.inputs import card_facts, hashes_of, log_inputs
from llmcore.tasks.language import text_metrics
from llmcore.tokenizer.bpe import load_byte_pair_tokenizer
from llmcore.tracking.run import tracked_run
from llmcore.train.compute import setup_compute


def main(argv: list[str]) -> None:
    path, raw_text, samples_folder, tokens_folder, tokenizer_folder, out, metrics_file, tables = map(Path, argv)
    params = read_params()
    compute = setup_compute(params.compute)
    with tracked_run("load_gpt2", params, note=f"The base is {path.as_posix()}.") as tracker:
        model, tokenizer = open_language_model(path)
        inputs = hashes_of(weights=path)
        log_inputs(tracker, inputs, weights=path)
        notes = crop_context(model, params.weights.context_length)
        samples = read_samples(samples_folder)
        token_bytes = load_byte_pair_tokenizer(tokenizer_folder).token_bytes
        texts = validation_texts(raw_text, open_tokens(tokens_folder), samples, token_bytes)
        # Windows are no longer than those of pretraining: a model trained here knows no later position.
        length = min(samples.window_tokens, model.config.context_length)
        with compute.autocast():
            loss = text_metrics(model.to(compute.device).eval(), tokenizer, texts, window_tokens=length)
        model.check_finite(torch.tensor(list(loss.values())), "validation loss")
        parallel.leave_to_first()
        metrics = {
            "parameters": parameter_counts(model)["parameters"],
            "vocab_size": tokenizer.vocab_size,
            "context_length": model.config.context_length,
            **{f"val/{name}": value for name, value in loss.items()},
        }
        origin = {"inputs": inputs, "source": source_of(path)._asdict()}
        save_language_model(out, model, tokenizer=tokenizer, origin=origin)
        write_json(metrics_file, metrics)
        write_json(fresh_folder(tables) / "card.json", card_facts(inputs, {}, weights=path) | {"notes": notes})
        tracker.log_metrics(metrics)
        tracker.set_tags({"model_sha256": sha256_file(out / WEIGHTS_FILE)})
    print(" ".join([f"The base of fine-tuning, {out.as_posix()}, is {path.as_posix()}.", *notes]))


def crop_context(model: LanguageModel, wanted: int) -> list[str]:
    """Keep the first `wanted` positions of the model, all where it is 0; return a sentence about it if any went."""
    stored = model.config.context_length
    if wanted > stored:
        rule = f"must be at most the {stored} positions that the model of weights.path has"
        raise UserError(f"weights.context_length {rule}, got {wanted}; lower it, or 0 keeps all")
    if wanted in (0, stored):
        return []
    model.crop_context(wanted)
    return [f"Of its {stored} positions the first {wanted} were kept."]
