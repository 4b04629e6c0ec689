import pytest

from llmcore.data.audit import FAULTS, MAX_LISTED_CASES, Audit, Entry, audit_splits, class_counts
from llmcore.data.split import normalise_message

TRAIN = [("Call 0800 now", "spam"), ("hello", "ham"), ("hello", "ham"), ("HELLO ", "ham"), ("win", "spam")]
VAL = [("see you", "ham"), ("win", "ham")]
TEST = [("call  0900 now", "spam"), ("hello", "ham"), ("see you", "ham"), ("x" * 10, "ham")]


def entries(rows: list[tuple[str, str]]) -> list[Entry]:
    return [Entry(text, normalise_message(text), label) for text, label in rows]


def audit() -> Audit:
    return audit_splits({"train": entries(TRAIN), "val": entries(VAL), "test": entries(TEST)})


def test_rows_and_duplicates_within_a_split_are_counted() -> None:
    metrics = audit().metrics
    assert [metrics[f"{name}_rows"] for name in ("train", "val", "test")] == [5, 2, 4]
    assert [metrics[f"{name}_duplicates"] for name in ("train", "val", "test")] == [1, 0, 0]
    assert [metrics[f"{name}_near_duplicates"] for name in ("train", "val", "test")] == [2, 0, 0]


def test_leaks_across_splits_are_counted_exact_and_near() -> None:
    metrics = audit().metrics
    assert (metrics["test_in_train"], metrics["test_near_train"]) == (1, 2)
    assert (metrics["val_in_train"], metrics["val_near_train"]) == (1, 1)
    assert (metrics["test_in_val"], metrics["test_near_val"]) == (1, 1)


def test_leaks_are_listed_with_split_row_and_kind() -> None:
    assert audit().leaks == [
        {"split": "val", "row": 1, "also_in": "train", "kind": "exact", "text": "win"},
        {"split": "test", "row": 0, "also_in": "train", "kind": "near", "text": "call  0900 now"},
        {"split": "test", "row": 1, "also_in": "train", "kind": "exact", "text": "hello"},
        {"split": "test", "row": 2, "also_in": "val", "kind": "exact", "text": "see you"},
    ]


def test_a_text_with_two_labels_is_a_conflict_across_splits_too() -> None:
    assert audit().metrics["label_conflicts"] == 1
    assert audit().conflicts == [{"text": "win", "labels": ["ham", "spam"]}]


def test_lengths_are_in_characters() -> None:
    metrics = audit().metrics
    assert [metrics[f"train_chars_{name}"] for name in ("p50", "p95", "max")] == [5, 6, 13]
    assert metrics["test_chars_max"] == 14


def test_clean_splits_have_nothing_to_report() -> None:
    clean = audit_splits({name: entries([(name, "a")]) for name in ("train", "val", "test")})
    assert (clean.leaks, clean.conflicts) == ([], [])
    assert clean.metrics["label_conflicts"] == clean.metrics["test_near_train"] == 0


def test_counts_are_complete_when_lists_are_limited() -> None:
    rows = entries([(f"row {'x' * number}", "a") for number in range(3 * MAX_LISTED_CASES)])
    found = audit_splits({"train": rows, "val": rows[:1], "test": rows})
    assert found.metrics["test_in_train"] == 3 * MAX_LISTED_CASES
    assert len(found.leaks) == MAX_LISTED_CASES


def test_classes_are_counted_in_every_split() -> None:
    splits = {"train": entries(TRAIN), "val": entries(VAL), "test": entries(TEST)}
    assert class_counts(splits) == {
        "train": {"ham": 3, "spam": 2},
        "val": {"ham": 2, "spam": 0},
        "test": {"ham": 3, "spam": 1},
    }


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("It's \u00a35, caf\u00e9, \u201cquoted\u201d; AT&T & co; \u4f60\u597d \U0001f642", []),
        ('He said "no" and "yes".', []),
        ("tab\tis fine", []),
        ("cost \ufffd5", ["replacement_characters"]),
        ("bell\x07", ["control_characters"]),
        ("\x93quoted\x94", ["control_characters"]),
        ("caf\u00e9".encode().decode("latin-1"), ["doubly_encoded"]),
        ("it\u2019s".encode().decode("cp1252"), ["doubly_encoded"]),
        ("&lt;#&gt; and &#39;", ["html_entities"]),
        ('"Hello', ["odd_quotes"]),
        ('5" is "wide"', ["odd_quotes"]),
        ("first\nham\tsecond", ["swallowed_lines"]),
    ],
)
def test_traces_of_wrong_encoding_and_quoting_are_found(text: str, faults: list[str]) -> None:
    found = audit_splits({"train": entries([(text, "a")]), "val": entries([("v", "a")]), "test": entries([("t", "a")])})
    assert [fault for fault in FAULTS if found.metrics[fault]] == faults
    assert found.faults == [{"split": "train", "row": 0, "fault": fault, "text": text} for fault in faults]


def test_only_the_requested_faults_are_counted() -> None:
    found = audit_splits({name: entries([('two\n"lines', "a")]) for name in ("train", "val", "test")}, ["odd_quotes"])
    assert found.metrics["odd_quotes"] == 3
    assert "swallowed_lines" not in found.metrics
