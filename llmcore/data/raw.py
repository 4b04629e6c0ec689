"""Write a raw folder: from the built-in world, a pinned download, or the user's own files.

Every function writes its files and `meta.json` into an empty folder and returns the meta. The meta
contains file names, never paths, so that the folder's bytes do not depend on where the project is.
"""

import dataclasses
import shutil
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import reading, sha256_file, user_errors, write_csv, write_jsonl
from llmcore.base.text import is_unicode
from llmcore.data.documents import DOCUMENTS_FILE, DocumentRow
from llmcore.data.published import Fetch, Meta, remote_entry, write_meta
from llmcore.data.reading import (
    ALPACA_SUFFIXES,
    TABLE_SUFFIXES,
    check_suffix,
    read_alpaca,
    read_documents,
    read_table,
    read_text,
    split_tables,
    text_files,
)
from llmcore.data.sources import BOOK_INSTRUCTIONS, GPT2_TOKENIZER, SMS_SPAM, THE_VERDICT

WORLD_LICENCE = "generated here; no rights reserved"
LOCAL_LICENCE = "the user's own file; see its source"
MAX_SHOWN_NAMES = 5


def write_raw_text(folder: Path, kind: str, path: Path, stories: int, seed: int, fetch: Fetch) -> Meta:
    """Write documents.jsonl: `stories` stories of the world, The Verdict, or the documents at `path`."""
    files: list[Meta] = []
    documents: list[DocumentRow]
    if kind == "world":
        from llmcore.data.world.stories import write_stories

        licence = WORLD_LICENCE
        documents = [{"text": story.text, "nats": story.nats} for story in write_stories(stories, seed)]
    elif kind == "the-verdict":
        licence = THE_VERDICT.licence
        downloaded = folder / THE_VERDICT.name
        files = [remote_entry(THE_VERDICT, fetch(THE_VERDICT, downloaded))]
        documents = [{"text": read_text(downloaded)}]
        downloaded.unlink()
    else:
        licence = LOCAL_LICENCE
        texts, left_out = text_files(path)
        _report_left_out(path, left_out, ".txt files")
        files = [_entry(file) for file in texts]
        documents = [{"text": text} for file in texts for text in read_documents(file)]
    write_jsonl(folder / DOCUMENTS_FILE, documents)
    size_bytes = sum(len(document["text"].encode("utf-8")) for document in documents)
    return write_meta(folder, kind, licence, files=files, documents=len(documents), bytes=size_bytes)


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


def _entry(file: Path) -> Meta:
    if not is_unicode(file.name):
        raise UserError(f"{file.name!a}: the name of a file must be UTF-8; rename it")
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file), "url": None}


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
