"""Tokenizing by several processes: the same bytes with any number, and a killed run keeps what it has written."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from structure import ROOT
from workspace import enter_project

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_folder, write_jsonl
from llmcore.data.token_shards import Part, write_part
from llmcore.data.tokens import join_documents, open_tokens
from llmcore.run import encode
from llmcore.run.encode import encode_corpus
from llmcore.tokenizer.bpe import BytePairTokenizer, load_byte_pair_tokenizer

PART_BYTES = 2000
TEXTS = [f"The cat {number} sat on the mat, and so did the dog. " * (number % 5 + 1) for number in range(200)]
CODE = f"""
from pathlib import Path
from llmcore.run.encode import encode_corpus
if __name__ == "__main__":
    raw, tokenizer, tokens = map(Path, ("raw", "tokenizer", "tokens"))
    encode_corpus(raw, "hash", tokenizer, tokens, processes=2, progress=False, part_bytes={PART_BYTES})
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: BytePairTokenizer) -> Path:
    enter_project(tmp_path, monkeypatch)
    write_jsonl("raw/documents.jsonl", [{"text": text} for text in TEXTS])
    Path("tokenizer").mkdir()
    tokenizer.save("tokenizer")
    return tmp_path


def encoded(processes: int, out: str = "tokens") -> str:
    encode_corpus(
        Path("raw"),
        "hash",
        Path("tokenizer"),
        Path(out),
        processes=processes,
        progress=False,
        part_bytes=PART_BYTES,
    )
    return sha256_folder(out)


def parts_written() -> list[Path]:
    return sorted(Path(".ckpt").glob("tokenize/*/*/*/meta.json"))


def test_the_number_of_processes_changes_no_byte() -> None:
    assert encoded(1) == encoded(2) == encoded(3)
    assert len(list(Path("tokens").glob("tokens-*.bin"))) > 10
    assert not parts_written()  # of what is finished, nothing is left


def test_a_failed_run_goes_on_with_the_parts_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = encoded(1, "undisturbed")
    written: list[int] = []

    def fail_at(stop: int) -> Callable[..., None]:
        def write_some(raw_text: Path, part: Part, *arguments: Any, **options: Any) -> None:
            if len(written) == stop:
                raise KeyboardInterrupt
            write_part(raw_text, part, *arguments, **options)
            written.append(part.begin)

        return write_some

    for stop in (3, 7):
        monkeypatch.setattr(encode, "write_part", fail_at(stop))
        with pytest.raises(KeyboardInterrupt):
            encoded(1)
    monkeypatch.setattr(encode, "write_part", fail_at(10**9))
    assert encoded(1) == expected
    assert written == sorted(set(written))  # none twice


def test_a_killed_run_ends_its_processes_and_is_resumed(project: Path) -> None:
    expected = encoded(1, "undisturbed")
    (project / "main.py").write_text(CODE)
    started = psutil.Popen([sys.executable, "main.py"], env=os.environ | {"PYTHONPATH": str(ROOT)})
    while not parts_written():
        time.sleep(0.005)
    processes = started.children(recursive=True)
    assert len(processes) >= 2
    started.kill()
    started.wait()
    assert not psutil.wait_procs(processes, timeout=20)[1]
    assert parts_written()
    assert encoded(2) == expected


def test_a_worker_that_is_killed_ends_the_run_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "encode_part", _die)
    with pytest.raises(UserError, match=r"tokenize: a process was ended from outside; if memory is short, lower"):
        encoded(2)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_parts_of_another_tokenizer_are_not_taken(
    monkeypatch: pytest.MonkeyPatch, tokenizer: BytePairTokenizer
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(encode, "join_parts", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            encoded(1)
    assert parts_written()
    BytePairTokenizer(tokenizer.merges[:-1]).save("tokenizer")
    assert encoded(1) == encoded(1, "again")
    shorter = load_byte_pair_tokenizer("tokenizer")
    texts = [shorter.encode(text) for text in TEXTS]
    assert open_tokens("tokens").ids[:].tolist() == join_documents(texts, shorter.end_of_text).ids[:].tolist()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
