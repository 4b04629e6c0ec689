import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.data.audit import FAULTS, MAX_LISTED_CASES, SWALLOWED_LINES, Audit, Entry, audit_splits, class_counts
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
        ("first\na\tsecond", ["swallowed_lines"]),
        ("first,a\nsecond", ["swallowed_lines"]),
        ("1,first,a,x\n2,second", ["swallowed_lines"]),
        ("Dear a,\nsee you, a, at ten\na, b\na\nb", []),
    ],
)
def test_traces_of_wrong_encoding_and_quoting_are_found(text: str, faults: list[str]) -> None:
    found = audit_splits({"train": entries([(text, "a")]), "val": entries([("v", "a")]), "test": entries([("t", "a")])})
    assert [fault for fault in (*FAULTS, SWALLOWED_LINES) if found.metrics[fault]] == faults
    assert found.faults == [{"split": "train", "row": 0, "fault": fault, "text": text} for fault in faults]


def test_free_labels_are_no_classes_and_their_lines_are_not_swallowed() -> None:
    splits = {name: entries([('two\na,"lines', "a"), ("three", "A")]) for name in ("train", "val", "test")}
    found = audit_splits(splits, classes=False)
    assert found.metrics["odd_quotes"] == 3
    assert not {"swallowed_lines", "look_alike_classes"} & found.metrics.keys()


@pytest.mark.parametrize("damage", ["\ufffd", "\x00", "caf\u00c3\u00a9", "&amp;", '"open'])
def test_a_damaged_answer_is_a_damaged_row(damage: str) -> None:
    rows = [Entry("ask", "ask", damage, answer=damage), Entry("fine", "fine", "yes", answer="yes")]
    found = audit_splits(dict.fromkeys(("train", "val", "test"), rows), classes=False)
    assert [(case["split"], case["row"], case["text"]) for case in found.faults] == [
        (name, 0, damage) for name in ("train", "val", "test")
    ]


ALIKE = [
    ("1", "1.0", "+1", "01", "1e0", "1."),
    ("0", "-0", "0.0"),
    ("Ham", "ham", "HAM", "h\u200bam", "ham\ufeff", "ham\u00ad", "\uff48am"),
    ("caf\u00e9", "cafe\u0301"),
    ("not spam", "not_spam", "not-spam", "Not  Spam"),
    ("spam", "s\u0440am", "sp\u0430m"),
    ("\u00df", "ss"),
    ("True", "true"),
]


@pytest.mark.parametrize("alike", ALIKE)
def test_classes_that_look_alike_are_named(alike: tuple[str, ...]) -> None:
    splits = {name: entries([("a", label) for label in (*alike, "other", "10")]) for name in ("train", "val", "test")}
    found = audit_splits(splits)
    assert found.look_alikes == [{"labels": [ascii(label) for label in sorted(alike)]}]
    assert found.metrics["look_alike_classes"] == len(alike)


@given(st.sets(st.text(), min_size=1, max_size=5))
def test_any_labels_are_grouped_without_an_error(labels: set[str]) -> None:
    found = audit_splits({name: entries([("a", label) for label in labels]) for name in ("train", "val", "test")})
    assert found.metrics["look_alike_classes"] <= len(labels)


def test_labels_that_differ_to_the_eye_are_not_alike() -> None:
    labels = ["1", "10", "1.5", "-1", "ham", "spam", "C", "C++", "C#", "?", "!", "\u65e5", "\u672c", "nan", "inf"]
    found = audit_splits({name: entries([("a", label) for label in labels]) for name in ("train", "val", "test")})
    assert found.look_alikes == []
