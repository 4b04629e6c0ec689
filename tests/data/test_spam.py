"""Tables of labelled messages, and their division into splits."""

import contextlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.data.audit import Entry, audit_splits
from llmcore.data.download import fetch
from llmcore.data.reading import read_table
from llmcore.data.sources import SMS_SPAM
from llmcore.data.spam import messages, split_messages
from llmcore.data.split import normalise_message, split_groups

MIRROR = os.environ.get("LLMCORE_MIRROR", "")
needs_mirror = pytest.mark.skipif(not Path(MIRROR or "?").is_dir(), reason="LLMCORE_MIRROR is not set to a folder")
same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def frame_of(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label"], dtype=str)


def grouped(frame: pd.DataFrame, seed: int = 1, balance: str = "none") -> dict[str, pd.DataFrame]:
    return split_messages(frame, "grouped", balance, 0.1, 0.2, seed)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def sms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sms")
    fetch(SMS_SPAM, folder / SMS_SPAM.name, folder / "scratch")
    return folder / SMS_SPAM.name


def book_parts(sms: Path) -> dict[str, pd.DataFrame]:
    frame, _ = messages(read_table(sms), "text", "label")
    return split_messages(frame, "book", "undersample", 0.1, 0.2, 7)


# The SMS Spam Collection and the book


@needs_mirror
def test_the_collection_has_5574_messages_without_quoting_and_5572_as_the_book_reads_it(sms: Path) -> None:
    assert len(read_table(sms, quoting=False)) == 5_574
    assert len(read_table(sms)) == 5_572


@needs_mirror
def test_the_books_split_is_rebuilt_exactly(sms: Path) -> None:
    """Against chapter 6's own lines, run on the file here."""
    df = pd.read_csv(sms, sep="\t", header=None, names=["Label", "Text"])
    ham = df[df["Label"] == "ham"].sample(df[df["Label"] == "spam"].shape[0], random_state=123)
    df = pd.concat([ham, df[df["Label"] == "spam"]])
    assert list(df.index[:3]) == [4307, 4138, 4831]  # as the book prints them
    df = df.sample(frac=1, random_state=123).reset_index(drop=True)
    train_end = int(len(df) * 0.7)
    val_end = train_end + int(len(df) * 0.1)
    for part, expected in zip(
        book_parts(sms).values(), (df[:train_end], df[train_end:val_end], df[val_end:]), strict=True
    ):
        assert list(part["text"]) == list(expected["Text"])
        assert list(part["label"]) == list(expected["Label"])


@needs_mirror
def test_the_books_split_has_its_sizes_and_its_leaks(sms: Path) -> None:
    parts = book_parts(sms)
    entries = {
        name: [
            Entry(text, normalise_message(text), label) for text, label in zip(part["text"], part["label"], strict=True)
        ]
        for name, part in parts.items()
    }
    metrics = audit_splits(entries).metrics
    assert [metrics[f"{name}_rows"] for name in ("train", "val", "test")] == [1_045, 149, 300]
    assert (metrics["test_in_train"], metrics["val_in_train"]) == (37, 13)
    assert metrics["test_near_train"] == 46


@needs_mirror
def test_the_grouped_split_of_the_collection_has_no_leaks_and_keeps_the_share_of_spam(sms: Path) -> None:
    frame, empty_rows = messages(read_table(sms, quoting=False), "text", "label")
    assert empty_rows == 0
    parts = grouped(frame)
    keys = {name: {normalise_message(text) for text in part["text"]} for name, part in parts.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["val"]
    assert not keys["val"] & keys["test"]
    assert [len(part) for part in parts.values()] == pytest.approx([3_902, 557, 1_115], abs=2)
    shares = [(part["label"] == "spam").mean() for part in parts.values()]
    assert shares == pytest.approx([747 / 5_574] * 3, abs=0.002)


def test_the_books_split_refuses_other_fractions_balance_and_labels() -> None:
    frame = frame_of([("a", "ham"), ("b", "ham"), ("c", "spam")])
    with pytest.raises(UserError, match=r"spam\.balance: must be 'undersample'"):
        split_messages(frame, "book", "none", 0.1, 0.2, 1)
    with pytest.raises(UserError, match=r"must be 0\.1 and 0\.2 .*, got 0\.1 and 0\.3; correct them"):
        split_messages(frame, "book", "undersample", 0.1, 0.3, 1)
    with pytest.raises(UserError, match="'book' needs the classes 'ham' and 'spam'"):
        split_messages(frame_of([("a", "0"), ("b", "1")]), "book", "undersample", 0.1, 0.2, 1)


# Reading tables

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"))
ROWS = st.lists(st.tuples(TEXT, st.sampled_from(["ham", "spam", "NA", "0", "null"])), min_size=1, max_size=20)


@given(ROWS)
@same_folder
def test_a_csv_table_is_read_as_it_was_written(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    frame_of(rows).to_csv(tmp_path / "a.csv", index=False, lineterminator="\n")
    found = read_table(tmp_path / "a.csv")
    assert list(zip(found["text"], found["label"], strict=True)) == rows


@given(ROWS)
@same_folder
def test_a_tsv_table_is_read_as_it_was_written(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    frame_of(rows).to_csv(tmp_path / "a.tsv", sep="\t", index=False, lineterminator="\n")
    found = read_table(tmp_path / "a.tsv")
    assert list(zip(found["text"], found["label"], strict=True)) == rows


@given(ROWS, st.booleans())
@same_folder
def test_a_jsonl_table_is_read_as_it_was_written(tmp_path: Path, rows: list[tuple[str, str]], ascii_only: bool) -> None:
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=ascii_only) for text, label in rows]
    found = read_table(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert list(zip(found["text"], found["label"], strict=True)) == rows


@given(st.binary(max_size=200))
@same_folder
def test_any_bytes_are_a_table_or_a_user_error(tmp_path: Path, data: bytes) -> None:
    for name in ("a.csv", "a.jsonl"):
        (tmp_path / name).write_bytes(data)
        with contextlib.suppress(UserError):
            messages(read_table(tmp_path / name), "text", "label")


def test_numbers_as_labels_are_class_names(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.jsonl", '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n'))
    assert list(messages(table, "text", "label")[0]["label"]) == ["0", "1"]
    table = read_table(write(tmp_path / "a.csv", "label,text\n0,a\n01,b\n"))
    assert list(messages(table, "text", "label")[0]["label"]) == ["0", "01"]


def test_columns_may_have_other_names_and_labels_lose_white_space(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "id,Sentiment,Body\n1, good ,fine day\n2,bad,rain\n"))
    frame, _ = messages(table, "Body", "Sentiment")
    assert frame.to_dict("list") == {"text": ["fine day", "rain"], "label": ["good", "bad"]}


def test_the_worlds_extra_column_is_kept(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", "text,label,p_spam\na,ham,0.25\nb,spam,0.75\n"))
    assert list(messages(table, "text", "label", ["p_spam"])[0]["p_spam"]) == ["0.25", "0.75"]


def test_rows_without_text_are_dropped_and_counted(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "a.csv", 'text,label\n"",ham\n" ",spam\nNA,ham\nnull,spam\n'))
    frame, empty_rows = messages(table, "text", "label")
    assert (list(frame["text"]), empty_rows) == (["NA", "null"], 2)


BAD_TABLES = [
    (
        "a.csv",
        "message,class\na,b\n",
        "spam.text_column: must be a column of the table, got 'text'; .*'message', 'class'",
    ),
    ("a.csv", "text;label\na;b\n", "the table has 'text;label'"),
    ("a.csv", "text,class\na,b\n", "spam.label_column: must be a column of the table, got 'label'"),
    ("a.csv", "text,label\na,ham\nb,ham\n", "must have two classes or more, got only 'ham'"),
    ("a.csv", "text,label\n", "must have rows with text in 'text', found none"),
    ("a.csv", "text,label\na,ham\nb,\n", "row 2 has no 'label'"),
    ("a.csv", "text,label\nhi, you,ham\nb,spam\n", "every row must have as many fields as the header"),
    ("a.csv", "text,label\nb,spam\nhi, you,ham\n", "every row must have as many fields as the header"),
    ("a.csv", 'text,label\n"a,ham\nb,ham\n', "every row must have as many fields as the header"),
    ("a.csv", "", "must not be empty"),
    ("a.jsonl", "", "spam.text_column: must be a column of the table, got 'text'; the table has none"),
    ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b",\n', "line 2: not valid JSON"),
    ("a.jsonl", '["a", "b"]\n', "line 1: must be a JSON object, got list"),
    ("a.jsonl", '{"text": "\\ud800", "label": "x"}\n', r"row 1, 'text': must be valid Unicode, got the lone surrogate"),
    ("a.jsonl", '{"text": "a", "label": null}\n{"text": "b"}\n', "row 1 has no 'label'"),
    ("a.parquet", "PAR1", "must end in .csv, .tsv or .jsonl, got 'a.parquet'"),
]


@pytest.mark.parametrize(("name", "text", "problem"), BAD_TABLES)
def test_a_malformed_table_is_refused_with_the_reason(tmp_path: Path, name: str, text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        messages(read_table(write(tmp_path / name, text)), "text", "label")


def test_a_binary_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(UserError, match="must be UTF-8 text"):
        read_table(tmp_path / "a.csv")


# Splitting

GROUPS = st.lists(
    st.tuples(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), st.sampled_from("xyz")), min_size=1, max_size=80
)


@given(GROUPS, st.integers(0, 5), st.sampled_from([(0.1, 0.2), (0.05, 0.1), (0.4, 0.4)]))
def test_no_group_is_in_two_splits_and_no_row_is_lost(
    rows: list[tuple[str, str]], seed: int, fractions: tuple[float, float]
) -> None:
    keys = [key for key, _ in rows]
    strata = [stratum for _, stratum in rows]
    splits = split_groups(keys, strata, *fractions, seed)
    assert set(splits) <= {"train", "val", "test"}
    assert len(splits) == len(rows)
    assert len({(key, split) for key, split in zip(keys, splits, strict=True)}) == len(set(keys))
    assert splits == split_groups(keys, strata, *fractions, seed)


@given(st.lists(st.integers(4, 200), min_size=1, max_size=5), st.integers(0, 3))
def test_without_duplicates_every_class_has_the_fractions_asked_for(sizes: list[int], seed: int) -> None:
    strata = [str(label) for label, size in enumerate(sizes) for _ in range(size)]
    keys = [str(row) for row in range(len(strata))]
    found = Counter(zip(strata, split_groups(keys, strata, 0.1, 0.2, seed), strict=True))
    for label, size in enumerate(sizes):
        for split, fraction in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
            count = found[str(label), split]
            assert count >= 1
            assert abs(count - fraction * size) <= 1


def test_messages_that_differ_in_case_spacing_and_numbers_stay_together() -> None:
    copies = [("WIN 500 pounds, call 0800123", "spam"), ("win 9 pounds,  call 0900", "spam")]
    others = [(f"note {'x' * i}", label) for i in range(20) for label in ("ham", "spam")]
    for seed in range(20):
        parts = grouped(frame_of(copies * 3 + others), seed)
        holding = [name for name, part in parts.items() if part["text"].isin([text for text, _ in copies]).any()]
        assert len(holding) == 1


def test_large_groups_do_not_all_end_in_train() -> None:
    rows = [(f"group {'x' * group}", "ab"[group % 2]) for group in range(40) for _ in range(5)]
    assert {name: len(part) for name, part in grouped(frame_of(rows)).items()} == {"train": 140, "val": 20, "test": 40}


def test_a_huge_group_does_not_overfill_a_small_split() -> None:
    rows = [(text, "a") for text, copies in (("many", 40), ("more", 30)) for _ in range(copies)]
    rows += [(f"single {'x' * i}", "a") for i in range(30)]
    frame = frame_of(rows)
    for seed in range(5):
        parts = grouped(frame, seed)
        assert {name: len(part) for name, part in parts.items()} == {"train": 70, "val": 10, "test": 20}


def test_the_split_depends_on_the_seed_alone() -> None:
    frame = frame_of([(f"text {'x' * i}", "ab"[i % 2]) for i in range(60)])
    first, again, other = grouped(frame, 1), grouped(frame, 1), grouped(frame, 2)
    assert all(first[name].equals(again[name]) for name in first)
    assert not first["test"].equals(other["test"])


def test_undersampling_cuts_every_class_to_the_smallest() -> None:
    rows = [(f"{label} {'x' * i}", label) for label, count in (("a", 50), ("b", 20), ("c", 31)) for i in range(count)]
    parts = grouped(frame_of(rows), balance="undersample")
    assert Counter(label for part in parts.values() for label in part["label"]) == {"a": 20, "b": 20, "c": 20}
    assert all(part.index.is_monotonic_increasing for part in parts.values())


def test_four_classes_from_csv(tmp_path: Path) -> None:
    labels = ["north", "east", "south", "west"]
    lines = [f"wind {'i' * i},{labels[i % 4]}" for i in range(80)]
    frame, _ = messages(read_table(write(tmp_path / "a.csv", "text,label\n" + "\n".join(lines))), "text", "label")
    for part, each in zip(grouped(frame).values(), (14, 2, 4), strict=True):
        assert Counter(part["label"]) == dict.fromkeys(labels, each)


def test_twenty_unbalanced_classes_from_jsonl_are_all_in_every_split(tmp_path: Path) -> None:
    rows = [{"text": f"{label} {'i' * i}", "label": label} for label in range(20) for i in range(3 + 10 * label)]
    table = read_table(write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows)))
    for part in grouped(messages(table, "text", "label")[0]).values():
        assert set(part["label"]) == {str(label) for label in range(20)}


@pytest.mark.parametrize("rows", [[("a", "x"), ("b", "x")], [("a", "x"), ("a", "x"), ("A", "x"), (" a", "x")]])
def test_a_class_with_too_few_different_messages_is_named(rows: list[tuple[str, str]]) -> None:
    many = [(f"text {'i' * i}", "y") for i in range(20)]
    with pytest.raises(UserError, match=rf"class 'x' must be in every split, but none of its {len(rows)} rows is in"):
        grouped(frame_of(rows + many))


def test_very_short_and_long_texts_and_other_scripts_are_split(tmp_path: Path) -> None:
    texts = ["k", "x" * 10_000, "поздравляем", "你中奖了", "مبروك", "🎉🎉", "नमस्ते", "a\nb"]
    rows: list[dict[str, Any]] = [{"text": text, "label": label} for text in texts for label in ("p", "q")]
    rows += [{"text": f"text {'i' * i}", "label": "pq"[i % 2]} for i in range(20)]
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    parts = grouped(messages(read_table(tmp_path / "a.csv"), "text", "label")[0])
    assert sorted(text for part in parts.values() for text in part["text"]) == sorted(row["text"] for row in rows)


@pytest.mark.parametrize(
    ("text", "key"), [("Call  0800\t1\n", "call 0 0"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("٣٤", "0")]
)
def test_messages_are_normalised(text: str, key: str) -> None:
    assert normalise_message(text) == key
