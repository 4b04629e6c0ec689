"""Write a raw folder: from the built-in world, a pinned download, or the user's own files.

Every function writes its files and `meta.json` into an empty folder and returns the meta. The meta
contains file names, never paths, so that the folder's bytes do not depend on where the project is.
"""

import dataclasses
import shutil
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import compress
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import reading, sha256_file, user_errors, write_csv, write_jsonl
from llmcore.base.text import is_unicode
from llmcore.data.documents import DOCUMENTS_FILE, DocumentRow
from llmcore.data.duplicates import DuplicateFinder
from llmcore.data.published import Fetch, Meta, remote_entry, write_meta
from llmcore.data.reading import (
    ALPACA_SUFFIXES,
    TABLE_SUFFIXES,
    check_suffix,
    read_alpaca,
    read_table,
    read_text,
    split_tables,
)
from llmcore.data.sources import BOOK_INSTRUCTIONS, GPT2_TOKENIZER, SMS_SPAM, THE_VERDICT
from llmcore.data.text_files import iter_documents, text_files

WORLD_LICENCE = "generated here; no rights reserved"
LOCAL_LICENCE = "the user's own file; see its source"
MAX_SHOWN_NAMES = 5


@dataclasses.dataclass(frozen=True)
class TextInput:
    """A source of text: its licence, the files that it was read from, and its documents, which are read one by one."""

    licence: str
    files: list[Meta]
    rows: Callable[[], Iterable[DocumentRow]]  # may be called twice


def write_raw_text(
    folder: Path,
    kind: str,
    path: Path,
    stories: int,
    seed: int,
    fetch: Fetch,
    *,
    files: str = "*",
    text_column: str = "text",
    near_duplicates: str = "ignore",
) -> Meta:
    """Write documents.jsonl: `stories` stories of the world, The Verdict, or the documents at `path`.

    Of a folder of the user's, those of `files` are read, a glob. The documents are read and written one by one.
    """
    found = text_input(
        folder, fetch, kind=kind, path=path, stories=stories, seed=seed, files=files, text_column=text_column
    )
    written = write_documents(folder, found.rows, near_duplicates)
    return write_meta(folder, kind, found.licence, files=found.files, **written)


def text_input(
    folder: Path,
    fetch: Fetch,
    *,
    kind: str,
    path: Path,
    stories: int = 0,
    seed: int = 0,
    files: str = "*",
    text_column: str = "text",
    files_key: str = "sources.text.files",
) -> TextInput:
    """Return a source of text whose documents are not read yet; what is downloaded goes into `folder`."""
    if kind == "world":
        return TextInput(WORLD_LICENCE, [], partial(_world_rows, stories, seed))
    if kind == "the-verdict":
        downloaded = folder / THE_VERDICT.name
        entry = remote_entry(THE_VERDICT, fetch(THE_VERDICT, downloaded))
        text = read_text(downloaded)
        downloaded.unlink()
        return TextInput(THE_VERDICT.licence, [entry], partial(iter, [{"text": text}]))
    texts, left_out = text_files(path, files, files_key)
    _report_left_out(path, left_out, "files of text")
    return TextInput(LOCAL_LICENCE, [_entry(file, path) for file in texts], partial(_file_rows, texts, text_column))


def _world_rows(stories: int, seed: int) -> Iterator[DocumentRow]:
    from llmcore.data.world.stories import iter_stories

    for story in iter_stories(stories, seed):
        yield {"text": story.text, "nats": story.nats}


def _file_rows(files: list[Path], text_column: str) -> Iterator[DocumentRow]:
    for file in files:
        for text in iter_documents(file, text_column):
            yield {"text": text}


def write_documents(folder: Path, rows: Callable[[], Iterable[DocumentRow]], near_duplicates: str) -> Meta:
    """Write documents.jsonl and return its numbers of documents and bytes, and of documents that repeat another.

    Where the rows name their source, `sources` has the documents and bytes of each. `rows` gives the documents, and
    gives them again where `near_duplicates` is "drop": then those that nearly repeat an earlier one are left out,
    which is known of each once all were read. "count" counts them, "ignore" does not.
    """
    with user_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    finder = DuplicateFinder(folder, near=near_duplicates != "ignore")
    sources: dict[str, Counter[str]] = defaultdict(Counter)  # "" where the rows name none

    def counted(rows: Iterable[DocumentRow]) -> Iterator[DocumentRow]:
        for row in rows:
            sources[row.get("source", "")].update(documents=1, bytes=len(row["text"].encode("utf-8")))
            yield row

    n_near: int | None = None
    if near_duplicates == "drop":
        deque(finder.watch(rows()), maxlen=0)
        near = finder.near()
        write_jsonl(folder / DOCUMENTS_FILE, counted(compress(rows(), ~near)))
        n_near = int(near.sum())
    else:
        write_jsonl(folder / DOCUMENTS_FILE, counted(finder.watch(rows())))
        if near_duplicates == "count":
            n_near = int(finder.near().sum())
    found: Meta = {key: sum(counts[key] for counts in sources.values()) for key in ("documents", "bytes")}
    found["equal_documents"] = int(finder.equal().sum())
    if n_near is not None:
        found["near_duplicates"] = n_near
    return found if "" in sources else found | {"sources": {name: dict(counts) for name, counts in sources.items()}}


def write_raw_spam(folder: Path, kind: str, path: Path, rows: int, seed: int, fetch: Fetch) -> Meta:
    """Write labelled texts: `rows` of the world (messages.csv), SMSSpamCollection, or the user's table.

    Of a folder of the user's the tables train, test and, where it has one, val.
    """
    if kind == "world":
        from llmcore.data.world.messages import write_messages

        file = folder / "messages.csv"
        write_csv(file, [dataclasses.asdict(message) for message in write_messages(rows, seed)])
        return _write_table_meta(folder, kind, file, WORLD_LICENCE, rows=len(read_table(file)))
    if kind == "sms-spam":
        file = folder / SMS_SPAM.name
        entry = remote_entry(SMS_SPAM, fetch(SMS_SPAM, file))
        count = len(read_table(file, quoting=False))
        return _write_table_meta(folder, kind, file, SMS_SPAM.licence, rows=count, url=entry["url"])
    if path.is_dir():
        return _write_split_tables(folder, kind, path)
    suffix = check_suffix(_own_file(path, "sources.spam.path"), TABLE_SUFFIXES, "sources.spam.path")
    count = len(read_table(path))
    return _write_table_meta(folder, kind, _copy(path, folder / f"messages{suffix}"), LOCAL_LICENCE, rows=count)


def _write_split_tables(folder: Path, kind: str, path: Path) -> Meta:
    tables, left_out = split_tables(path)
    _report_left_out(path, left_out, "tables train, val and test")
    files = []
    for split, table in tables.items():
        copy = _copy(table, folder / f"{split}{table.suffix.lower()}")
        files.append({"split": split, **_entry(copy), "rows": len(read_table(copy))})
    totals = {key: sum(entry[key] for entry in files) for key in ("bytes", "rows")}
    return write_meta(folder, kind, LOCAL_LICENCE, files=files, **totals)


def write_raw_instructions(folder: Path, kind: str, path: Path, rows: int, seed: int, fetch: Fetch) -> Meta:
    """Write rows in Alpaca form: `rows` of the world (instructions.jsonl), the book's, or the user's file."""
    if kind == "world":
        from llmcore.data.world.instructions import write_instructions

        file = folder / "instructions.jsonl"
        write_jsonl(file, [dataclasses.asdict(instruction) for instruction in write_instructions(rows, seed)])
        return _write_table_meta(folder, kind, file, WORLD_LICENCE, rows=len(read_alpaca(file)))
    if kind == "book":
        file = folder / BOOK_INSTRUCTIONS.name
        entry = remote_entry(BOOK_INSTRUCTIONS, fetch(BOOK_INSTRUCTIONS, file))
        count = len(read_alpaca(file))
        return _write_table_meta(folder, kind, file, BOOK_INSTRUCTIONS.licence, rows=count, url=entry["url"])
    key = "sources.instructions.path"
    suffix = check_suffix(_own_file(path, key), ALPACA_SUFFIXES, key)
    count = len(read_alpaca(path))
    copy = _copy(path, folder / f"instructions{suffix}")
    return _write_table_meta(folder, kind, copy, LOCAL_LICENCE, rows=count)


def write_raw_tokenizer(folder: Path, kind: str, path: Path, fetch: Fetch) -> Meta:
    """Write vocab.json and merges.txt, GPT-2's or the user's; for kind `none` only the meta."""
    names = [file.name for file in GPT2_TOKENIZER]
    if kind == "gpt2":
        files = [remote_entry(file, fetch(file, folder / file.name)) for file in GPT2_TOKENIZER]
        licence = GPT2_TOKENIZER[0].licence
    elif kind == "local":
        own = [_own_file(path / name, "sources.tokenizer.path") for name in names]
        files = [_entry(_copy(file, folder / file.name)) for file in own]
        licence = LOCAL_LICENCE
    else:
        files = []
        licence = "none needed"
    return write_meta(folder, kind, licence, files=files, bytes=sum(entry["bytes"] for entry in files))


def _entry(file: Path, folder: Path | None = None) -> Meta:
    name = file.relative_to(folder).as_posix() if folder and file != folder else file.name
    if not is_unicode(name):
        raise UserError(f"{name!a}: the name of a file must be UTF-8; rename it")
    return {"name": name, "bytes": file.stat().st_size, "sha256": sha256_file(file), "url": None}


def _write_table_meta(folder: Path, kind: str, file: Path, licence: str, *, rows: int, url: str | None = None) -> Meta:
    entry = _entry(file)
    return write_meta(
        folder, kind, licence, file=file.name, bytes=entry["bytes"], sha256=entry["sha256"], rows=rows, url=url
    )


def _report_left_out(path: Path, names: list[str], read: str) -> None:
    if names:
        shown = ", ".join(names[:MAX_SHOWN_NAMES]) + (", ..." if len(names) > MAX_SHOWN_NAMES else "")
        print(f"{path}: {len(names)} left out, only its {read} are read: {shown}")


def _own_file(path: Path, key: str) -> Path:
    if not path.is_file():
        raise UserError(f"{key}: must be a file, got {str(path)!r}; correct the path")
    return path


def _copy(path: Path, target: Path) -> Path:
    with reading(path) as source, user_errors(target), open(target, "wb") as copy:
        shutil.copyfileobj(source, copy)
    return target
