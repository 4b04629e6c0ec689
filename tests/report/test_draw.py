"""The pictures and pages of a stage are made from its tables alone, each from the file that it shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmcore.base.files import write_csv, write_json, write_jsonl, write_text
from llmcore.report.draw import DRAWN, draw_report

SOURCE = {"kind": "world", "licence": "generated here", "sha256": "ab12"}
CARD = {"licence": "mit", "params": {"max_tokens": 12}, "inputs": {"base": SOURCE}}
METRICS = {"val/loss": 0.5, "floor_nats_per_token": 0.4}


@pytest.fixture
def draw(tmp_path: Path) -> Callable[[str], set[str]]:
    """Draw the tables in `tables/` as those of a stage; the names of the files that come out."""

    def draw(stage: str) -> set[str]:
        draw_report(stage, METRICS, tmp_path / "tables", tmp_path / "plots")
        return {path.name for path in (tmp_path / "plots").iterdir()}

    return draw


def write_curves(tables: Path) -> None:
    write_csv(tables / "steps.csv", [{"step": step, "train/loss": 1 / step, "train/lr": 0.1} for step in range(1, 9)])
    write_csv(tables / "evaluations.csv", [{"step": 4, "val/loss": 0.6}, {"step": 8, "val/loss": 0.5}])


def test_training_is_drawn_as_curves_and_described_by_a_card(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    write_curves(tmp_path / "tables")
    write_json(tmp_path / "tables/card.json", CARD)
    assert draw("pretrain") == {"loss.png", "lr.png", "card.md"}
    card = (tmp_path / "plots/card.md").read_text()
    assert "# Small language model, pretrained" in card
    assert "| val/loss | 0.5 |" in card


def test_fine_tuning_shows_its_lengths_and_first_batch(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    tables = tmp_path / "tables"
    write_curves(tables)
    write_json(tables / "card.json", CARD)
    write_csv(tables / "lengths.csv", [{"split": split, "tokens": 5 + n} for split in ("train", "val") for n in (1, 9)])
    batch: dict[str, Any] = {"title": "spam", "pieces": [["Call", "masked"], [" now", "target"], ["", "padding"]]}
    write_jsonl(tables / "batch.jsonl", [batch])
    assert draw("finetune_classifier") == {"loss.png", "lr.png", "lengths.png", "batch.png", "card.md"}


def test_sample_text_is_drawn_token_by_token(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    tokens = ["Mia", " and", " Tom"]
    rows = [{"token": token, "probability": 0.5} for token in tokens]
    write_csv(tmp_path / "tables/sample_tokens.csv", rows)
    attention = [{"token": token, "0": 1.0, "1": 0.5, "2": 0.1} for token in tokens]
    write_csv(tmp_path / "tables/attention.csv", attention)
    assert draw("pretrain") == {"token_probabilities.png", "attention.png"}


def test_predictions_are_drawn_as_a_confusion_matrix(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    probabilities = {"p_ham": 0.9, "p_spam": 0.1}
    rows = [{"text": "hi", "label": label, "predicted": "ham", **probabilities} for label in ("ham", "spam")]
    write_csv(tmp_path / "tables/predictions.csv", rows)
    assert draw("evaluate_classifier") == {"confusion.png"}
    first = (tmp_path / "plots/confusion.png").read_bytes()
    write_csv(tmp_path / "tables/predictions.csv", [row | {"predicted": "spam"} for row in rows])
    draw("evaluate_classifier")
    assert (tmp_path / "plots/confusion.png").read_bytes() != first


def test_of_many_classes_those_with_the_lowest_f1_are_drawn(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    def write(last_f1: float) -> bytes:
        scores = [n / 150 for n in range(149)] + [last_f1]
        rows = [{"class": f"c{n}", "rows": 30, "f1": f1, "f1_low": f1, "f1_high": 1} for n, f1 in enumerate(scores)]
        write_csv(tmp_path / "tables/classes.csv", sorted(rows, key=lambda row: row["f1"]))
        assert draw("evaluate_classifier") == {"classes.png"}
        return (tmp_path / "plots/classes.png").read_bytes()

    assert write(0.98) == write(0.99)  # a class with a high F1 is not shown
    assert write(0.05) != write(0.99)


def test_files_of_an_earlier_drawing_go_away(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    write_text(tmp_path / "plots/old.png", "old")
    (tmp_path / "tables").mkdir()
    assert draw("evaluate_instruct") == set()


def test_drawing_the_same_tables_twice_gives_the_same_bytes(tmp_path: Path, draw: Callable[[str], set[str]]) -> None:
    write_curves(tmp_path / "tables")
    write_json(tmp_path / "tables/card.json", CARD)
    drawn = []
    for _ in range(2):
        draw("pretrain")
        drawn.append({path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()})
    assert drawn[0] == drawn[1]


def test_every_table_that_is_drawn_is_tested_here_or_with_the_audit_page() -> None:
    tested = {"steps.csv", "lengths.csv", "batch.jsonl", "sample_tokens.csv", "attention.csv"}
    tested |= {"predictions.csv", "classes.csv"}
    assert set(DRAWN) == tested | {"audit.json", "card.json"}
