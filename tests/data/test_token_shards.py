"""A corpus tokenized in parts and kept in shards is the corpus in one file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_folder, write_jsonl
from llmcore.data.documents import DocumentRow, read_raw_part, read_raw_text, sample_raw_text
from llmcore.data.order import Order
from llmcore.data.samples import choose_samples
from llmcore.data.token_shards import corpus_parts, is_written, join_parts, write_part
from llmcore.data.tokens import MAX_OPEN_SHARDS, Document, ShardedArray, Tokens, open_tokens, write_tokens
from llmcore.data.windows import Windows

END = 256
ROWS: list[DocumentRow] = [{"text": "ab日\n" * (number % 7 + 1), "nats": number / 4} for number in range(300)]


def encode(text: str) -> list[int]:
    return list(text.encode())


def in_one_file(folder: Path, rows: list[DocumentRow] = ROWS) -> Tokens:
    documents = [Document(encode(row["text"]), row["nats"]) for row in rows]
    write_tokens(folder, documents, end_of_text=END, tokenizer="t")
    return open_tokens(folder)


def in_parts(folder: Path, part_bytes: int, rows: list[DocumentRow] = ROWS) -> Tokens:
    write_jsonl(folder / "raw" / "documents.jsonl", rows)
    parts = corpus_parts(folder / "raw", folder / "parts", part_bytes)
    for part in reversed(parts):
        assert not is_written(part)
        write_part(folder / "raw", part, encode, end_of_text=END, tokenizer="t")
        assert is_written(part)
    join_parts(folder / "tokens", parts)
    return open_tokens(folder / "tokens")


@pytest.mark.parametrize("part_bytes", [1, 7, 40, 100, 500, 10**9])
def test_parts_of_any_size_make_the_same_corpus(part_bytes: int, tmp_path: Path) -> None:
    """Parts of one byte have a document or none."""
    whole = in_one_file(tmp_path / "one", ROWS[:6])
    joined = in_parts(tmp_path, part_bytes, ROWS[:6])
    assert np.array_equal(joined.ids[:], whole.ids[:])
    assert joined.ids.dtype == whole.ids.dtype
    assert np.array_equal(joined.starts, whole.starts)
    assert joined.document_nats is not None
    assert whole.document_nats is not None
    assert np.array_equal(joined.document_nats, whole.document_nats)
    files = sorted((tmp_path / "tokens").glob("tokens*.bin"))
    assert b"".join(file.read_bytes() for file in files) == (tmp_path / "one" / "tokens.bin").read_bytes()


def test_one_part_is_the_token_folder_of_a_small_corpus(tmp_path: Path) -> None:
    in_one_file(tmp_path / "one")
    in_parts(tmp_path, 10**9)
    assert sha256_folder(tmp_path / "tokens") == sha256_folder(tmp_path / "one")


@pytest.mark.parametrize("window_start", ["documents", "stride"])
def test_the_batches_over_fifty_shards_are_those_over_one(window_start: str, tmp_path: Path) -> None:
    whole = in_one_file(tmp_path / "one")
    total = (tmp_path / "one" / "tokens.bin").stat().st_size
    joined = in_parts(tmp_path, total // 50)
    assert len(read_json(tmp_path / "tokens" / "meta.json")["shard_tokens"]) >= 50
    rows = []
    for tokens in (whole, joined):
        samples = choose_samples(tokens, window_tokens=40, stride_tokens=7, window_start=window_start, val_fraction=0.1)
        windows = Windows(tokens, samples.train)
        order = Order(len(windows), 4, 0, windows.windows["count"])
        rows.append([windows.rows(order.batch(step)) for step in range(order.steps_per_epoch)])
        rows[-1].append(Windows(tokens, samples.val).rows(np.arange(len(samples.val))))
    for one, other in zip(*rows, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    key=st.slices(60) | st.lists(st.integers(0, 59), max_size=20),
)
def test_shards_are_read_as_one_array(lengths: list[int], key: slice | list[int], tmp_path: Path) -> None:
    whole = np.arange(sum(lengths), dtype="<u2")
    paths = [tmp_path / str(number) for number in range(len(lengths))]
    for path, shard in zip(paths, np.split(whole, np.cumsum(lengths)[:-1]), strict=True):
        path.write_bytes(shard.tobytes())
    sharded = ShardedArray(paths, lengths, np.dtype("<u2"))
    assert len(sharded) == len(whole)
    wanted = key if isinstance(key, slice) else np.array(key, int) % len(whole)
    assert sharded[wanted].tolist() == whole[wanted].tolist()


def test_more_shards_than_a_process_may_open_are_read(tmp_path: Path) -> None:
    import resource

    count = MAX_OPEN_SHARDS + 100
    for number in range(count):
        (tmp_path / str(number)).write_bytes(np.uint16(number).tobytes())
    sharded = ShardedArray([tmp_path / str(number) for number in range(count)], [1] * count, np.dtype("<u2"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + MAX_OPEN_SHARDS + 50, limits[1]))
    try:
        assert sharded[:].tolist() == list(range(count))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    in_parts(tmp_path, 500)
    file = sorted((tmp_path / "tokens").glob("tokens-00003-of-*.bin"))[0]
    file.write_bytes(b"12")
    with pytest.raises(
        UserError, match=r"tokens-00003-of-\d+.bin: must have \d+ bytes, got 2; run `dvc repro tokenize`"
    ):
        open_tokens(tmp_path / "tokens")


def test_a_sample_of_the_text_is_drawn_by_its_seed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "documents.jsonl", ROWS)
    drawn = [[row["nats"] for row in sample_raw_text(tmp_path, 0.3, seed)] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(abs(len(numbers) - 90) < 4 * (300 * 0.3 * 0.7) ** 0.5 for numbers in drawn)
    assert drawn[0] == sorted(drawn[0])
    assert list(sample_raw_text(tmp_path, 1.0, 1)) == list(read_raw_text(tmp_path)) == ROWS


def test_a_damaged_line_of_the_text_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "documents.jsonl").write_text('{"text": "a"}\n{"text": \n')
    with pytest.raises(UserError, match=r"documents.jsonl, byte 14: not valid JSON .*; run `dvc repro --force`"):
        list(read_raw_part(tmp_path, 0, 100))
