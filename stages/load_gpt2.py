"""Load the base. in: a GPT-2 model folder, data/samples, data/tokens, data/tokenizer | params: weights, compute
out: models/base, metrics."""

from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file, write_json
from llmcore.base.origin import read_source
from llmcore.config.params import read_params
from llmcore.data.samples import read_samples, validation_documents
from llmcore.data.tokens import join_documents, open_tokens
from llmcore.data.windows import Windows, document_windows
from llmcore.generate.open import open_gpt
from llmcore.model.folder import WEIGHTS_FILE, save_gpt
from llmcore.model.gpt2 import GPT, parameter_counts
from llmcore.report.card import model_card
from llmcore.run.inputs import card_lines, inputs_of
from llmcore.tasks.language import language_metrics
from llmcore.tokenizer.bpe import Tokenizer, load_tokenizer
from llmcore.tracking import tracker as tracking
from llmcore.train.compute import Machine, set_up

BATCH_SIZE = 8  # windows evaluated together; changes no more than the last digits


def main(argv: list[str]) -> None:
    path, samples_folder, tokens_folder, tokenizer_folder, out, metrics_file = map(Path, argv)
    params = read_params()
    machine = set_up(params.compute)
    with tracking.run("load_gpt2", params, ["weights", "compute"], note=f"The base is {path.as_posix()}.") as tracker:
        model, tokenizer = open_gpt(path)
        inputs = inputs_of(tracker, weights=path)
        cut = cut_context(model, params.weights.context_length)
        samples = read_samples(samples_folder)
        corpus = load_tokenizer(tokenizer_folder)
        texts = [corpus.decode(ids) for ids in validation_documents(open_tokens(tokens_folder), samples)]
        loss = text_loss(model.to(machine.device), tokenizer, texts, samples.window_tokens, machine)
        facts = {
            "parameters": parameter_counts(model)["parameters"],
            "vocab_size": tokenizer.vocab_size,
            "context_length": model.config.context_length,
        }
        metrics = facts | {f"val_{name}": value for name, value in loss.items()}
        source = read_source(path)
        # The loss is left out: the base's folder must not depend on the text it is measured on.
        card = model_card(
            "base",
            params={},
            metrics=facts,
            licence=source.licence,
            data=card_lines(inputs, {"weights": source}),
            notes=cut,
        )
        origin = {"inputs": inputs, "source": source._asdict()}
        save_gpt(out, model.config, model.state_dict(), tokenizer=tokenizer, origin=origin, card=card)
        write_json(metrics_file, metrics)
        tracker.log_metrics(metrics)
        tracker.set_tags({"model_sha256": sha256_file(out / WEIGHTS_FILE)})
    print(" ".join([f"The base of fine-tuning, {out.as_posix()}, is {path.as_posix()}.", *cut]))


def cut_context(model: GPT, wanted: int) -> list[str]:
    """Keep the first `wanted` positions of the model, all where it is 0; return a sentence that says so if any went."""
    stored = model.config.context_length
    if wanted > stored:
        rule = f"must be at most the {stored} positions that the model of weights.path has"
        raise UserError(f"weights.context_length {rule}, got {wanted}; lower it, or 0 keeps all")
    if wanted in (0, stored):
        return []
    model.cut_context(wanted)
    return [f"Of its {stored} positions the first {wanted} were kept."]


def text_loss(
    model: GPT, tokenizer: Tokenizer, texts: list[str], window_tokens: int, machine: Machine
) -> dict[str, float]:
    """Return the loss on `texts` with the base's own tokenizer; a byte is the unit in which bases compare.

    Windows are no longer than those of pretraining: a model trained here knows no later position.
    """
    tokens = join_documents(list(tokenizer.encode_stream(texts)), tokenizer.end_of_text)
    length = min(window_tokens, model.config.context_length)
    windows = Windows(tokens, document_windows(tokens, 0, len(tokens.ids), length))
    text_bytes = sum(len(text.encode("utf-8")) for text in texts)
    with machine.autocast():
        return language_metrics(
            model.eval(), windows, text_bytes=text_bytes, batch_size=BATCH_SIZE, device=machine.device
        )
