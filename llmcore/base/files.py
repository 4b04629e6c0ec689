"""Reading and writing files: regular files only, atomic writes, hashes, one spelling and one reader of JSON."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from safetensors import SafetensorError

from llmcore.base.errors import UserError

CHUNK_BYTES = 1 << 20
MAX_DIGITS = 4300  # of an integer; Python refuses to convert longer ones


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes as lowercase hex, reading it in chunks."""
    digest = hashlib.sha256()
    with reading(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_folder(folder: str | Path) -> str:
    """Return one SHA-256 over the relative names and contents of all files below `folder`."""
    folder = Path(folder)
    return _sha256_named({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()})


def sha256_files(paths: Iterable[Path]) -> str:
    """Return one SHA-256 over the names and contents of the files; of a single file, the SHA-256 of its content."""
    paths = list(paths)
    return sha256_file(paths[0]) if len(paths) == 1 else _sha256_named({path.name: path for path in paths})


def _sha256_named(paths: Mapping[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(paths.items()):
        digest.update(f"{name}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically: a reader sees the old file or the whole new one."""
    with writing(Path(path)) as temporary, user_errors(path):
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically, with `\\n` line ends on every platform."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically in the spelling of `json_text`; ValueError for NaN and infinity."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Return a value as JSON in the one spelling of all files: sorted keys, indented by two spaces, a final newline."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, atomically; keys keep their order."""
    with writing(Path(path)) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
            with user_errors(path):
                file.write(line)


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV: columns in the order in which they first appear, missing values as empty cells."""
    text = io.StringIO()
    columns = dict.fromkeys(key for row in rows for key in row)
    write = csv_writer(text)
    write(list(columns))
    for row in rows:
        write([row.get(column) for column in columns])
    write_text(path, text.getvalue())


def csv_writer(file: TextIO, separator: str = ",") -> Callable[[Sequence[Any]], object]:
    """Return the function that writes a row as CSV, which ends with `\\n`.

    Python's writer puts a text with a carriage return into quotation marks only where that ends rows, too, and its
    reader ends the row there. Here all cells of such a row are put into them.
    """
    plain = csv.writer(file, delimiter=separator, lineterminator="\n")
    quoted = csv.writer(file, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Sequence[Any]) -> object:
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
        return (quoted if has_return else plain).writerow(row)

    return write


@contextmanager
def reading(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file to read its bytes; UserError if that is impossible, or if the file is not a regular one.

    Opening a FIFO waits for a writer, and a device may never end.
    """
    with read_errors(path):
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "a folder" if Path(path).is_dir() else "a pipe or a device"
            raise UserError(f"{path}: must be a file, got {what}; correct the path")
        file = open(path, "rb")  # noqa: SIM115 - closed below; what the body raises is not about opening
    with file:
        yield file


@contextmanager
def read_errors(path: str | Path) -> Iterator[None]:
    """Turn a failed read of `path` (missing, no permission, a loop of links) into a UserError."""
    try:
        yield
    except FileNotFoundError:
        rule = "is a link to a file that does not exist" if Path(path).is_symlink() else "no such file"
        raise UserError(f"{path}: {rule}; run `dvc repro` to build it, or correct the path") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); correct the path or its permissions") from None


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a regular file; UserError if it cannot be read."""
    with reading(path) as file, read_errors(path):
        return file.read()


def parse_json(text: str) -> Any:
    """Return the value of a JSON text; ValueError, one line, for everything that is not JSON.

    Missing values, which other programs write as NaN, become None. Refused are infinite numbers, integers of more
    than MAX_DIGITS digits, a key twice in one object, and nesting deeper than the interpreter's stack.
    """
    try:
        return json.loads(
            text.removeprefix("\ufeff"),
            parse_constant=_json_constant,
            parse_float=_json_float,
            parse_int=_json_int,
            object_pairs_hook=_json_object,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _json_constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is not a number of JSON")


def _json_float(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits[:20]} is too large")
    return number


def _json_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits):,} digits is too large")
    return int(digits)


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:40]!r} stands twice in one object")
    return value


def has_conflict_marks(data: bytes) -> bool:
    """Return whether a file's content has the marks that git writes where a merge failed."""
    return data.startswith(b"<<<<<<< ") or b"\n<<<<<<< " in data


def read_json(path: str | Path) -> Any:
    """Read a JSON file, with or without a byte order mark, as `parse_json` does; UserError if missing or broken."""
    data = read_bytes(path)
    try:
        return parse_json(data.decode("utf-8-sig"))
    except ValueError as error:
        raise _invalid(path, "JSON", data, error, "restore or rebuild the file") from None


def read_yaml(path: str | Path) -> Any:
    """Read YAML 1.2 as DVC does (`1e-3` is a number, `on` a string); UserError if the file is missing or broken."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if not os.path.lexists(path):
        raise UserError(f"{path}: no such file; run from the repository's root, or `cp presets/NAME.yaml {path}`")
    data = read_bytes(path)
    try:
        return YAML(typ="safe").load(data.decode("utf-8-sig"))
    except (ValueError, RecursionError, YAMLError) as error:
        raise _invalid(path, "YAML", data, error, "correct it") from None


def _invalid(path: str | Path, form: str, data: bytes, error: Exception, remedy: str) -> UserError:
    if has_conflict_marks(data):
        return UserError(f"{path}: has the marks of a merge conflict; resolve it, e.g. `git checkout --ours {path}`")
    return UserError(f"{path}: not valid {form} ({' '.join(str(error).split())}); {remedy}")


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; UserError with the line number if a line is broken."""
    with reading(path) as file, io.TextIOWrapper(file, encoding="utf-8") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip().strip("\ufeff"):
                    yield row_of_line(path, number, line)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from None


def row_of_line(path: str | Path, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object of a line; UserError if it is none."""
    try:
        row = parse_json(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not valid JSON ({error}); correct the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}, line {number}: must be a JSON object, got {type(row).__name__}; correct the line")
    return row


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; on success sync it and rename it to `path`.

    Exceptions of the body are not converted, because they may concern other files. The temporary file
    keeps the suffix of `path`, because some writers choose the format by it.
    """
    with user_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".tmp-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with user_errors(path):
            os.chmod(temporary, 0o644)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def user_errors(path: str | Path) -> Iterator[None]:
    """Turn a failed write of `path` (no permission, disk full) into a UserError."""
    try:
        yield
    except OSError as error:
        remedy = "raise `ulimit -f`" if error.errno == errno.EFBIG else "free disk space or change its permissions"
        raise UserError(f"{path}: cannot be written ({error.strerror}); {remedy}") from error
    except SafetensorError as error:  # its message: "... I/O error: No space left on device (os error 28)"
        if "I/O error" not in str(error):
            raise
        reason = str(error).partition("I/O error: ")[2]
        raise UserError(f"{path}: cannot be written ({reason}); free disk space or change its permissions") from error


def fresh_folder(path: str | Path) -> Path:
    """Make `path` an empty folder, deleting what an earlier run left there, and return it."""
    path = Path(path)
    with user_errors(path):
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
    return path


def read_csv(path: str | Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file that `write_csv` wrote, every value as a string of any length.

    UserError if it is missing or not UTF-8.
    """
    csv.field_size_limit(sys.maxsize)  # of the process; 131,072 characters otherwise
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run `dvc repro` to build it, or correct the path") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert the file to UTF-8") from None
