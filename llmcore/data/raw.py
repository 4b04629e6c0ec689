"""Fill one raw folder: from the built-in world, a pinned download, or the user's own files.

Every function writes its files and `meta.json` into an empty folder and returns the meta. Names in
the meta are file names, never paths, so that the folder's bytes do not depend on where the project
lies.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file, user_errors, write_csv, write_jsonl
from llmcore.data.published import Get, Meta, remote_entry, write_meta
from llmcore.data.reading import read_alpaca, read_documents, read_table, read_text, text_files
from llmcore.data.sources import BOOK_INSTRUCTIONS, GPT2_TOKENIZER, SMS_SPAM, THE_VERDICT

WORLD_LICENCE = "generated here; no rights reserved"
LOCAL_LICENCE = "the user's own file; see its source"


def fill_text(folder: Path, kind: str, path: Path, size: int, seed: int, get: Get) -> Meta:
    """Write documents.jsonl: `size` stories, or The Verdict, or the documents at `path`."""
    files: list[Meta] = []
    documents: list[Meta]
    if kind == "world":
        from llmcore.data.world.stories import write_stories

        licence = WORLD_LICENCE
        documents = [{"text": story.text, "nats": story.nats} for story in write_stories(size, seed)]
    elif kind == "the-verdict":
        licence = THE_VERDICT.licence
        downloaded = folder / THE_VERDICT.name
        files = [remote_entry(THE_VERDICT, get(THE_VERDICT, downloaded))]
        documents = [{"text": read_text(downloaded)}]
        downloaded.unlink()
    else:
        licence = LOCAL_LICENCE
        files = [_entry(file) for file in text_files(path)]
        documents = [{"text": text} for file in text_files(path) for text in read_documents(file)]
    write_jsonl(folder / "documents.jsonl", documents)
    size_bytes = sum(len(document["text"].encode("utf-8")) for document in documents)
    return write_meta(folder, kind, licence, files=files, documents=len(documents), bytes=size_bytes)


def fill_spam(folder: Path, kind: str, path: Path, size: int, seed: int, get: Get) -> Meta:
    """Write a table of messages as it comes: messages.csv of the world, SMSSpamCollection, or the user's file."""
    if kind == "world":
        from llmcore.data.world.messages import write_messages

        file = folder / "messages.csv"
        write_csv(file, [dataclasses.asdict(message) for message in write_messages(size, seed)])
        return _write_table_meta(folder, kind, file, WORLD_LICENCE, rows=len(read_table(file)))
    if kind == "sms-spam":
        file = folder / SMS_SPAM.name
        entry = remote_entry(SMS_SPAM, get(SMS_SPAM, file))
        rows = len(read_table(file, quoting=False))
        return _write_table_meta(folder, kind, file, SMS_SPAM.licence, rows=rows, url=entry["url"])
    _require_file(path, "sources.spam.path", (".csv", ".tsv", ".jsonl"))
    rows = len(read_table(path))
    return _write_table_meta(folder, kind, _copy(path, folder / f"messages{path.suffix}"), LOCAL_LICENCE, rows=rows)


def fill_instructions(folder: Path, kind: str, path: Path, size: int, seed: int, get: Get) -> Meta:
    """Write rows in Alpaca form: instructions.jsonl of the world, the book's file, or the user's."""
    if kind == "world":
        from llmcore.data.world.instructions import write_instructions

        file = folder / "instructions.jsonl"
        write_jsonl(file, [dataclasses.asdict(instruction) for instruction in write_instructions(size, seed)])
        return _write_table_meta(folder, kind, file, WORLD_LICENCE, rows=len(read_alpaca(file)))
    if kind == "book":
        file = folder / BOOK_INSTRUCTIONS.name
        entry = remote_entry(BOOK_INSTRUCTIONS, get(BOOK_INSTRUCTIONS, file))
        rows = len(read_alpaca(file))
        return _write_table_meta(folder, kind, file, BOOK_INSTRUCTIONS.licence, rows=rows, url=entry["url"])
    _require_file(path, "sources.instructions.path", (".json", ".jsonl"))
    rows = len(read_alpaca(path))
    return _write_table_meta(folder, kind, _copy(path, folder / f"instructions{path.suffix}"), LOCAL_LICENCE, rows=rows)


def fill_tokenizer(folder: Path, kind: str, path: Path, get: Get) -> Meta:
    """Write vocab.json and merges.txt: GPT-2's, or the user's; for kind `none` nothing but the meta."""
    names = [file.name for file in GPT2_TOKENIZER]
    if kind == "gpt2":
        files = [remote_entry(file, get(file, folder / file.name)) for file in GPT2_TOKENIZER]
        licence = GPT2_TOKENIZER[0].licence
    elif kind == "local":
        for name in names:
            _require_file(path / name, "sources.tokenizer.path", (Path(name).suffix,))
        files = [_entry(_copy(path / name, folder / name)) for name in names]
        licence = LOCAL_LICENCE
    else:
        files, licence = [], "none needed"
    return write_meta(folder, kind, licence, files=files, bytes=sum(entry["bytes"] for entry in files))


def _entry(file: Path) -> Meta:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256_file(file), "url": None}


def _write_table_meta(folder: Path, kind: str, file: Path, licence: str, *, rows: int, url: str | None = None) -> Meta:
    entry = _entry(file)
    return write_meta(
        folder, kind, licence, file=file.name, bytes=entry["bytes"], sha256=entry["sha256"], rows=rows, url=url
    )


def _require_file(path: Path, key: str, suffixes: Sequence[str]) -> None:
    if not path.is_file():
        raise UserError(f"{key}: must be a file, got {str(path)!r}; correct the path")
    if path.suffix not in suffixes:
        raise UserError(f"{key}: must end in one of {', '.join(suffixes)}, got {path.name!r}; convert the file")


def _copy(path: Path, target: Path) -> Path:
    with user_errors(target):
        shutil.copyfile(path, target)
    return target
