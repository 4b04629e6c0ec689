"""The curve of F1 against labels, with a tiny base: what is measured, what a second run does again."""

from pathlib import Path

import pytest

from benchmarks import label_efficiency
from benchmarks.label_efficiency import WORD_COUNTS, draw, draw_labels, f1_of, measure
from llmcore.base.files import write_json, write_jsonl
from llmcore.base.rows import LabelledRow
from llmcore.base.seeds import torch_generator
from llmcore.config.read import read_params
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.tokenizer import Tokenizer


def rows_of(begin: int, end: int) -> list[LabelledRow]:
    return [
        {"text": f"{word} {'ball ' * (number % 7)}{number}", "label": label}
        for number in range(begin, end)
        for word, label in (("won", "spam"), ("garden", "ham"))
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """40 rows to train and 20 to test, which one word tells apart."""
    for split, rows in {"train": rows_of(0, 20), "val": rows_of(30, 34), "test": rows_of(40, 50)}.items():
        write_jsonl(tmp_path / f"data/{split}.jsonl", rows)
    write_json(tmp_path / "data/meta.json", {"labels": ["ham", "spam"]})
    return tmp_path / "data"


@pytest.fixture
def base(tmp_path: Path, config: GPT2Config, tokenizer: Tokenizer) -> Path:
    model = new_model(config)
    model.initialise(torch_generator(0, "initialise"))
    save_language_model(tmp_path / "tiny", model, tokenizer=tokenizer, origin={})
    return tmp_path / "tiny"


def test_labels_of_a_small_number_are_among_those_of_a_larger_and_differ_by_seed() -> None:
    train = rows_of(0, 20)
    assert draw_labels(train, 10, 1) == draw_labels(train, 30, 1)[:10]
    assert draw_labels(train, 10, 1) != draw_labels(train, 10, 2)


def test_f1_is_that_of_spam_or_the_mean_of_more_classes() -> None:
    assert f1_of(["ham", "spam", "spam"], ["ham", "spam", "ham"], ["ham", "spam"]) == pytest.approx(2 / 3)
    assert f1_of(["a", "b", "c"], ["a", "b", "a"], ["a", "b", "c"]) == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_word_counts_and_a_base_are_measured_once_for_each_number_and_seed(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: GPT2Config
) -> None:
    monkeypatch.setattr(label_efficiency, "LABELS", (10, 1000))
    monkeypatch.setattr(label_efficiency, "SEEDS", (1, 2))
    params = read_params()
    classifier = params.classifier.model_copy(update={"max_tokens": config.context_length, "epochs": 0.1})
    params = params.model_copy(update={"classifier": classifier})
    rows = list(measure(data, base, params, 2, []))
    expected = [(method, n, seed) for method in (WORD_COUNTS, "local, LoRA") for n in (10, 40) for seed in (1, 2)]
    assert [(row["method"], row["labels"], row["seed"]) for row in rows] == expected
    assert all(0 <= row["f1"] <= 1 for row in rows)
    assert all(row["f1"] == 1 for row in rows if row["method"] == WORD_COUNTS and row["labels"] == 40)
    [again] = measure(data, base, params, 2, rows[:5] + rows[6:])
    assert {key: again[key] for key in ("f1", "accuracy")} == {key: rows[5][key] for key in ("f1", "accuracy")}
    draw(tmp_path / "a.png", rows)
    assert (tmp_path / "a.png").stat().st_size > 10_000
