"""A class is read at one token: the last real one, or the last position as in the book."""

import pytest
import torch
from tiny import CPU, END_OF_TEXT, tiny_gpt
from torch.nn import functional as F

from llmcore.model.classifier import GPTClassifier
from llmcore.tasks.classification import ClassificationTask, Labelled, class_probabilities, pad

ROWS = [Labelled([1, 2, 3], 0), Labelled([4], 1), Labelled([5, 6, 7, 8, 9], 1), Labelled([3, 3], 0)]
IDS = [row.ids for row in ROWS]


@pytest.fixture
def model() -> GPTClassifier:
    config = tiny_gpt().config
    classifier = GPTClassifier(config, ["ham", "spam"], "last_real", 20)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return classifier.eval()


def task(micro_batch_size: int, pad_to: int | None = None) -> ClassificationTask:
    return ClassificationTask(
        ROWS,
        ROWS,
        batch_size=4,
        micro_batch_size=micro_batch_size,
        seed=0,
        pad_id=END_OF_TEXT,
        pad_to=pad_to,
        device=CPU.device,
    )


def one_by_one(model: GPTClassifier) -> torch.Tensor:
    """Logits of each row without any padding: (rows, labels)."""
    return torch.cat([model(torch.tensor([ids]), torch.tensor([len(ids) - 1])) for ids in IDS]).detach()


def test_rows_are_read_at_their_last_real_token() -> None:
    ids, read = pad(IDS[:3], END_OF_TEXT, None)
    end = END_OF_TEXT
    assert ids.tolist() == [[1, 2, 3, end, end], [4, end, end, end, end], [5, 6, 7, 8, 9]]
    assert read.tolist() == [2, 0, 4]


def test_padded_to_a_length_they_are_read_at_the_last_position() -> None:
    ids, read = pad(IDS[:2], END_OF_TEXT, 6)
    end = END_OF_TEXT
    assert ids.tolist() == [[1, 2, 3, end, end, end], [4, end, end, end, end, end]]
    assert read.tolist() == [5, 5]


def test_a_batch_keeps_rows_and_labels_together() -> None:
    [batch] = task(4).micro_batches(0)
    labels = {
        tuple(ids[: read + 1]): label
        for ids, read, label in zip(batch.ids.tolist(), batch.read.tolist(), batch.labels.tolist(), strict=True)
    }
    assert labels == {tuple(row.ids): row.label for row in ROWS}
    assert batch.supervised == 4


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_neither_padding_nor_batching_changes_a_probability(model: GPTClassifier, batch_size: int) -> None:
    found = class_probabilities(model, IDS, batch_size=batch_size, pad_id=END_OF_TEXT, pad_to=None)
    torch.testing.assert_close(found, one_by_one(model).softmax(-1), rtol=1e-5, atol=1e-6)


def test_read_at_the_last_position_padding_counts(model: GPTClassifier) -> None:
    """The book's way: the reason why it is not ours."""
    six = class_probabilities(model, IDS, batch_size=4, pad_id=END_OF_TEXT, pad_to=6)
    eight = class_probabilities(model, IDS, batch_size=4, pad_id=END_OF_TEXT, pad_to=8)
    assert (six - eight).abs().max() > 1e-3


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4])
def test_metrics_are_means_over_rows(model: GPTClassifier, micro_batch_size: int) -> None:
    logits, labels = one_by_one(model), torch.tensor([row.label for row in ROWS])
    metrics = task(micro_batch_size).evaluate(model)
    assert metrics["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert metrics["accuracy"] == (logits.argmax(-1) == labels).float().mean().item()


def test_loss_is_summed_over_rows(model: GPTClassifier) -> None:
    classifying = task(4)
    [batch] = classifying.micro_batches(0)
    mean = F.cross_entropy(model(batch.ids, batch.read), batch.labels)
    torch.testing.assert_close(classifying.loss_sum(model, batch), mean * 4)
