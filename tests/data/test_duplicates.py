"""Documents that repeat an earlier one are counted, or left out."""

import random
from pathlib import Path

import numpy as np
import pytest
from data.offline import no_download
from hypothesis import given
from hypothesis import strategies as st

from llmcore.base.files import read_jsonl, write_jsonl
from llmcore.data.duplicates import BANDS, HASHES_PER_BAND, DuplicateFinder, band_keys, repeats
from llmcore.data.published import Meta
from llmcore.data.raw import write_raw_text

WORDS = [f"word{number}" for number in range(5000)]


def story(seed: int, words: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=words)


def written(folder: Path, texts: list[str], near_duplicates: str) -> tuple[Meta, list[str]]:
    write_jsonl(folder.parent / "own.jsonl", [{"text": text} for text in texts])
    path = folder.parent / "own.jsonl"
    meta = write_raw_text(folder, "local", path, 1, 1, no_download, near_duplicates=near_duplicates)
    return meta, [row["text"] for row in read_jsonl(folder / "documents.jsonl")]


@given(st.lists(st.integers(0, 5)))
def test_a_key_repeats_if_it_stands_before(keys: list[int]) -> None:
    expected = [key in keys[:place] for place, key in enumerate(keys)]
    assert repeats(np.array(keys, np.uint64)).tolist() == expected


@pytest.mark.parametrize(
    ("near_duplicates", "counts", "kept"),
    [
        ("ignore", {"documents": 5, "equal_documents": 1}, [0, 1, 2, 3, 4]),
        ("count", {"documents": 5, "equal_documents": 1, "near_duplicates": 3}, [0, 1, 2, 3, 4]),
        ("drop", {"documents": 2, "equal_documents": 1, "near_duplicates": 3}, [0, 2]),
    ],
)
def test_equal_documents_are_counted_and_near_ones_as_told(
    folder: Path, near_duplicates: str, counts: dict[str, int], kept: list[int]
) -> None:
    words = story(1)
    changed = [*words[:100], "other", *words[101:]]
    texts = [" ".join(words), " ".join(words).upper(), " ".join(story(2)), " ".join(changed), " ".join(words)]
    meta, documents = written(folder, texts, near_duplicates)
    assert {key: meta.get(key) for key in counts} == counts
    assert documents == [texts[number] for number in kept]
    assert meta["bytes"] == sum(len(text) for text in documents)
    assert sorted(path.name for path in folder.iterdir()) == ["documents.jsonl", "meta.json"]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
def test_near_duplicates_are_found_as_often_as_the_formula_says(similarity: float, tmp_path: Path) -> None:
    """Two documents of n runs of words share the first ones: s = shared / (2 n - shared)."""
    n, trials = 400, 300
    shared = round(2 * n * similarity / (1 + similarity))
    finder = DuplicateFinder(tmp_path, near=True)
    for trial in range(trials):
        first, second = story(2 * trial, n + 4), story(2 * trial + 1, n + 4)
        for words in (first, [*first[: shared + 4], *second[shared + 4 :]]):
            list(finder.watch([{"text": " ".join(words)}]))
    found = finder.near().reshape(trials, 2)
    expected = 1 - (1 - similarity**HASHES_PER_BAND) ** BANDS
    assert not found[:, 0].any()
    assert abs(found[:, 1].mean() - expected) < 4 * (expected * (1 - expected) / trials) ** 0.5


def test_the_hashes_of_bands_are_pinned() -> None:
    """A new version of the library that finds other duplicates must be noticed."""
    assert band_keys("The cat sat on the mat.")[:8].hex() == "f5293c4c4d5a5bbb"
