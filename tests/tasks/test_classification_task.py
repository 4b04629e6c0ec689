"""A class is read at one token: the last real one, or as in the book the last position."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CPU, END_OF_TEXT, classifier_of, tiny_gpt
from torch.nn import functional as F

from llmcore.generate.classify import class_probabilities
from llmcore.model.classifier import SequenceClassifier, pad_rows, set_trainable
from llmcore.tasks.classification import ClassificationTask, LabelledText, balanced_weights, encode_labelled
from llmcore.tokenizer.bpe import BytePairTokenizer

ROWS = [LabelledText([1, 2, 3], 0), LabelledText([4], 1), LabelledText([5, 6, 7, 8, 9], 1), LabelledText([3, 3], 0)]
IDS = [row.ids for row in ROWS]


def classifier(pooling: str = "last_real", max_tokens: int = 12) -> SequenceClassifier:
    made = classifier_of(tiny_gpt().config, pooling=pooling, max_tokens=max_tokens)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return made.eval()


@pytest.fixture
def model() -> SequenceClassifier:
    return classifier()


def task(
    micro_batch_size: int, pad_to: int | None = None, class_weights: list[float] | None = None
) -> ClassificationTask:
    return ClassificationTask(
        ROWS,
        ROWS,
        batch_size=4,
        micro_batch_size=micro_batch_size,
        seed=0,
        pad_id=END_OF_TEXT,
        pad_to=pad_to,
        class_weights=class_weights,
        device=CPU.device,
    )


def one_by_one(model: SequenceClassifier) -> torch.Tensor:
    """Logits of each row without any padding: (rows, labels)."""
    return torch.cat([model(torch.tensor([ids]), torch.tensor([len(ids) - 1])) for ids in IDS]).detach()


def test_rows_are_read_at_their_last_real_token() -> None:
    ids, read = pad_rows(IDS[:3], END_OF_TEXT, None)
    end = END_OF_TEXT
    assert ids.tolist() == [[1, 2, 3, end, end], [4, end, end, end, end], [5, 6, 7, 8, 9]]
    assert read.tolist() == [2, 0, 4]


def test_padded_to_a_length_they_are_read_at_the_last_position() -> None:
    ids, read = pad_rows(IDS[:2], END_OF_TEXT, 6)
    end = END_OF_TEXT
    assert ids.tolist() == [[1, 2, 3, end, end, end], [4, end, end, end, end, end]]
    assert read.tolist() == [5, 5]


def test_a_batch_keeps_each_row_with_its_label() -> None:
    [batch] = task(4).loader.micro_batches(0)
    labels = {
        tuple(ids[: read + 1]): label
        for ids, read, label in zip(batch.ids.tolist(), batch.read.tolist(), batch.labels.tolist(), strict=True)
    }
    assert labels == {tuple(row.ids): row.label for row in ROWS}
    assert batch.n_targets == 4
    assert batch.n_tokens == 11


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_neither_padding_nor_batching_changes_a_probability(model: SequenceClassifier, batch_size: int) -> None:
    found = class_probabilities(model, IDS, batch_size=batch_size, pad_id=END_OF_TEXT)
    torch.testing.assert_close(found, one_by_one(model).softmax(-1), rtol=1e-5, atol=1e-6)


def test_read_at_the_last_position_padding_changes_the_probabilities() -> None:
    """This is why the book's way is not the default."""
    six = class_probabilities(classifier("last_position", 6), IDS, batch_size=4, pad_id=END_OF_TEXT)
    eight = class_probabilities(classifier("last_position", 8), IDS, batch_size=4, pad_id=END_OF_TEXT)
    assert (six - eight).abs().max() > 1e-3


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4])
def test_metrics_are_means_over_rows(model: SequenceClassifier, micro_batch_size: int) -> None:
    logits = one_by_one(model)
    labels = torch.tensor([row.label for row in ROWS])
    metrics = task(micro_batch_size).evaluate(model)
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["accuracy"] == (logits.argmax(-1) == labels).float().mean().item()


@pytest.mark.parametrize("trainable", ["head", "last_block"])
@pytest.mark.parametrize("pad_to", [None, 7])
def test_caching_the_output_of_frozen_blocks_changes_neither_loss_nor_gradient(
    trainable: str, pad_to: int | None
) -> None:
    plain, cached = classifier().double(), classifier().double()
    caching = task(3, pad_to)
    for model in (plain, cached):
        set_trainable(model, trainable)
    assert plain.n_frozen_blocks == {"head": 2, "last_block": 1}[trainable]
    caching.cache_frozen_prefix(cached)
    calls = count_calls(cached.body.blocks[0])
    for mine, theirs in zip(caching.loader.micro_batches(0), task(3, pad_to).loader.micro_batches(0), strict=True):
        caching.loss_sum(cached, mine).backward()
        task(3, pad_to).loss_sum(plain, theirs).backward()
    assert caching.evaluate(cached) == pytest.approx(task(3, pad_to).evaluate(plain), rel=1e-12)
    assert calls == []
    for one, other in zip(cached.parameters(), plain.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)


def count_calls(module: torch.nn.Module) -> list[int]:
    """Return a list that grows with each call of the module."""
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_model_that_is_trained_whole_has_no_frozen_blocks() -> None:
    assert classifier().n_frozen_blocks == 0


def test_loss_is_summed_over_rows(model: SequenceClassifier) -> None:
    classifying = task(4)
    [batch] = classifying.loader.micro_batches(0)
    mean = F.cross_entropy(model(batch.ids, batch.read), batch.labels)
    torch.testing.assert_close(classifying.loss_sum(model, batch), mean * 4)


texts_as_ids = st.lists(st.lists(st.integers(0, END_OF_TEXT - 1), min_size=1, max_size=9), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(rows=texts_as_ids, batch_size=st.integers(1, 6), extra=st.integers(0, 3), filler=st.integers(0, END_OF_TEXT))
def test_read_at_the_last_real_token_padding_changes_no_probability(
    rows: list[list[int]], batch_size: int, extra: int, filler: int
) -> None:
    """Whatever follows a text, and whichever texts share its batch."""
    model = classifier()
    found = class_probabilities(model, rows, batch_size=batch_size, pad_id=END_OF_TEXT)
    for row, chances in zip(rows, found, strict=True):
        ids = torch.tensor([row + [filler] * extra])
        alone = model(ids, torch.tensor([len(row) - 1]))[0].softmax(-1)
        torch.testing.assert_close(chances, alone, rtol=1e-4, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(rows=texts_as_ids, batch_size=st.integers(1, 6))
def test_read_at_the_last_position_other_texts_of_the_batch_change_no_probability(
    rows: list[list[int]], batch_size: int
) -> None:
    """Padding counts there, but all texts are padded to one length."""
    model = classifier("last_position", 9)
    found = class_probabilities(model, rows, batch_size=batch_size, pad_id=END_OF_TEXT)
    alone = [class_probabilities(model, [row], batch_size=1, pad_id=END_OF_TEXT) for row in rows]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("counts", [[3, 1], [5, 5], [1, 2, 97], [10] * 20])
def test_balanced_weights_give_every_class_the_same_total(counts: list[int]) -> None:
    rows = [LabelledText([0], label) for label, count in enumerate(counts) for _ in range(count)]
    weights = balanced_weights(rows, len(counts))
    assert [weight * count for weight, count in zip(weights, counts, strict=True)] == pytest.approx(
        [len(rows) / len(counts)] * len(counts)
    )
    assert sum(weights[row.label] for row in rows) == pytest.approx(len(rows))


def test_a_weighted_loss_is_the_weighted_sum_over_rows(model: SequenceClassifier) -> None:
    weighing = task(4, class_weights=[0.5, 3.0])
    [batch] = weighing.loader.micro_batches(0)
    each = F.cross_entropy(model(batch.ids, batch.read), batch.labels, reduction="none")
    torch.testing.assert_close(weighing.loss_sum(model, batch), (each * torch.tensor([0.5, 3.0])[batch.labels]).sum())


def test_the_share_of_padding_is_counted() -> None:
    """Lengths 1, 2, 3, 5: sorted, two micro-batches are 2 and 5 tokens wide."""
    assert task(4).padding_share() == pytest.approx(1 - 11 / 20)
    assert task(2).padding_share() == pytest.approx(1 - 11 / (2 * 2 + 2 * 5))
    assert task(4, pad_to=10).padding_share() == pytest.approx(1 - 11 / 40)


def test_encoded_rows_are_cut_and_never_empty() -> None:
    rows = [{"text": "abc", "label": "b"}, {"text": "", "label": "a"}]
    tokenizer = BytePairTokenizer([])
    labelled, lengths = encode_labelled(rows, tokenizer, ["a", "b"], 2)
    assert labelled == [LabelledText(tokenizer.encode("ab"), 1), LabelledText([tokenizer.end_of_text], 0)]
    assert lengths == [3, 1]
