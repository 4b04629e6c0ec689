"""The next-token loss equals plain cross-entropy and that of transformers; the metrics follow their formulas."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from structure import ROOT
from tiny import CONTEXT, CPU, END_OF_TEXT, language_task, tiny_gpt, tiny_windows
from tokenizer_files import learned, save
from torch.nn import functional as F

from llmcore.base.containers import chunks
from llmcore.config.read import read_params
from llmcore.data.tokens import join_documents
from llmcore.data.windows import IGNORE_INDEX, Windows, document_windows
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.model.transformer import LanguageModel
from llmcore.tasks.language import LanguageTask, collate_windows, language_metrics, target_bytes, text_metrics
from llmcore.tasks.next_token import TokenBatch, mean_loss, next_token_loss
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.load import load_tokenizer
from llmcore.train.loop import total_steps


@pytest.fixture
def model() -> LanguageModel:
    """Weights so large that the loss is far from that of equal probabilities."""
    gpt = tiny_gpt().eval()
    with torch.no_grad():
        for parameter in gpt.parameters():
            parameter.mul_(5)
    return gpt


def batch_of(windows: Windows, *rows: int) -> TokenBatch:
    return collate_windows(windows, rows, CPU.device)


def test_loss_is_cross_entropy_over_all_positions(model: LanguageModel) -> None:
    """Masking before the output head saves work and changes neither loss nor gradient."""
    batch = batch_of(tiny_windows(), *range(len(tiny_windows())))
    model = model.double()
    assert 0 < batch.n_targets < batch.targets.numel()

    loss = next_token_loss(model, batch)
    logits = model(batch.inputs)  # (B, T, V)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
    torch.testing.assert_close(loss, plain, rtol=1e-12, atol=0)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(plain, parameters), rtol=1e-9, atol=1e-12
    )


def test_loss_is_that_of_transformers_times_the_number_of_targets(
    gpt: LanguageModel, config: GPT2Config, tokenizer: BytePairTokenizer, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    save_language_model(tmp_path / "gpt", gpt, tokenizer=tokenizer, origin={})
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "gpt").eval()
    ids = torch.randint(0, config.vocab_size, (3, config.context_length), generator=torch.Generator().manual_seed(0))
    inputs, targets = ids[:, :-1], ids[:, 1:].clone()
    targets[0, 5:] = targets[2, :7] = IGNORE_INDEX
    labels = torch.cat([torch.full((3, 1), IGNORE_INDEX), targets], dim=1)  # they shift the labels themselves
    batch = TokenBatch.of(inputs.numpy(), targets.numpy(), inputs.numel(), CPU.device)
    with torch.no_grad():
        expected = theirs(ids, labels=labels).loss * batch.n_targets
        torch.testing.assert_close(next_token_loss(gpt, batch), expected, rtol=1e-5, atol=0)


def test_padding_does_not_change_the_loss(model: LanguageModel) -> None:
    windows = tiny_windows()
    rows = range(len(windows))
    together = next_token_loss(model, batch_of(windows, *rows)).item()
    alone = sum(next_token_loss(model, batch_of(windows, row)).item() for row in rows)
    assert together == pytest.approx(alone, rel=1e-6)


def test_mean_loss_gives_each_target_the_same_weight(model: LanguageModel) -> None:
    windows = tiny_windows()
    whole = batch_of(windows, *range(len(windows)))
    expected = next_token_loss(model, whole).item() / whole.n_targets
    for size in (1, 2, len(windows)):
        loss, n_targets = mean_loss(model, lambda rows: batch_of(windows, *rows), chunks(range(len(windows)), size))
        assert n_targets == whole.n_targets
        assert loss == pytest.approx(expected, rel=1e-6)


def test_metrics_follow_their_formulas(model: LanguageModel) -> None:
    windows = tiny_windows()
    loss, tokens = mean_loss(model, lambda row: batch_of(windows, row), range(len(windows)))
    metrics = language_metrics(model, windows, text_bytes=250, batch_size=3, device=CPU.device)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert metrics["nats_per_byte"] == pytest.approx(loss * tokens / 250, rel=1e-6)
    assert metrics["bits_per_byte"] == pytest.approx(loss * tokens / 250 / math.log(2), rel=1e-6)


def test_a_start_of_texts_that_does_not_end_them_is_read_and_not_predicted(
    tmp_path: Path, config: GPT2Config, randomised: Callable[..., LanguageModel]
) -> None:
    """SmolLM2's instruct model: <|endoftext|> begins a document, <|im_end|> ends an answer."""
    fast = load_tokenizer(save(tmp_path, learned()))
    [start] = fast.document_start
    assert start != fast.end_of_text
    gpt = randomised(new_model(replace(config, vocab_size=fast.vocab_size)))
    texts = ["Anna had", "a red ball"]
    summed = 0.0
    for text in texts:
        ids = torch.tensor([start, *fast.encode(text)])
        logits = gpt(ids[None, :-1])[0]
        summed += F.cross_entropy(logits, ids[1:], reduction="sum").item()
        assert len(ids) <= gpt.config.context_length
    n_bytes = sum(map(len, texts))
    window = max(len(fast.encode(text)) + 1 for text in texts)
    found = text_metrics(gpt, fast, texts, window_tokens=window)
    assert found["nats_per_byte"] == pytest.approx(summed / n_bytes, rel=1e-5)


def test_perplexity_does_not_overflow(model: LanguageModel) -> None:
    with torch.no_grad():
        model.body.embeddings[0].weight.mul_(1e4)
    metrics = language_metrics(model, tiny_windows(), text_bytes=1, batch_size=3, device=CPU.device)
    assert metrics["loss"] > 710
    assert math.isfinite(metrics["perplexity"])


def test_target_bytes_are_the_length_of_the_text(tokenizer: BytePairTokenizer) -> None:
    texts = ["Anna had a ball.", "Ünïcode, ☃", "The end of it"]
    tokens = join_documents([tokenizer.encode(text) for text in texts], tokenizer.end_of_text)
    windows = Windows(tokens, document_windows(tokens, 0, len(tokens.ids), 7))
    expected = sum(len(text.encode()) for text in texts)
    assert target_bytes(windows, np.array(tokenizer.token_bytes)) == expected


@pytest.mark.parametrize("micro_batch_size", [1, 3, 8])
def test_micro_batches_divide_the_rows_of_a_step(micro_batch_size: int) -> None:
    def rows(task: LanguageTask, step: int) -> list[list[int]]:
        batches = task.loader.micro_batches(step)
        assert all(len(batch.inputs) <= task.loader.micro_batch_size for batch in batches)
        return [
            [token for token in row if token != IGNORE_INDEX] for batch in batches for row in batch.targets.tolist()
        ]

    small, whole = language_task(8, micro_batch_size), language_task(8, 8)
    for step in (0, 1, 5):
        assert rows(small, step) == rows(whole, step)


@pytest.mark.parametrize("budget_epochs", [0.1, 1.0, 3.4])
def test_a_training_ends_within_half_a_step_of_its_token_budget(budget_epochs: float) -> None:
    task = language_task(4, 2, documents=200)
    epoch_tokens = float(task.train.windows["count"].sum())
    tokens = round(budget_epochs * epoch_tokens)
    section = read_params(ROOT / "presets/quickstart.yaml").pretrain.model_copy(update={"tokens": tokens})
    steps = total_steps(task, section.in_epochs(epoch_tokens).epochs)
    seen = sum(batch.n_tokens for step in range(steps) for batch in task.loader.micro_batches(step))
    largest = task.loader.order.batch_size * CONTEXT
    assert abs(seen - tokens) <= largest / 2 + 0.05 * tokens  # windows of documents are not equally long


def test_without_a_token_budget_the_epochs_of_params_count() -> None:
    section = read_params(ROOT / "presets/quickstart.yaml").pretrain
    assert section.tokens == 0
    assert section.in_epochs(1234) == section


def test_the_first_input_of_the_corpus_is_end_of_text() -> None:
    assert batch_of(tiny_windows(), 0).inputs[0, 0] == END_OF_TEXT


def test_a_batch_counts_its_inputs_without_padding() -> None:
    windows = tiny_windows()
    batch = batch_of(windows, *range(len(windows)))
    assert batch.n_tokens == windows.windows["count"].sum() < batch.inputs.numel()
