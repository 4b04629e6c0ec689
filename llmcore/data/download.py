"""The one way a file comes from the network: mirror first, resumed, retried, checked, then renamed.

`LLMCORE_MIRROR` names a folder or a base URL that is asked before the file's own address, under the
file's `mirror_name`. A mirror that has the file makes every other connection unnecessary.
"""

import hashlib
import os
import re
import shutil
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import HTTPRedirectHandler, Request, build_opener

from llmcore.base.errors import UserError
from llmcore.base.files import CHUNK_BYTES, sha256_file, user_errors, writing

MIRROR_VARIABLE = "LLMCORE_MIRROR"
ATTEMPTS = 4  # in a row without a new byte; a transfer that moves on is never given up
TIMEOUT_SECONDS = 30
RETRIED_STATUS = {408, 416, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class RemoteFile:
    """A file somebody else publishes, and what is known of its bytes.

    With `member`, `url` is a zip archive and hash and size are those of that member: archives are
    repacked, contents are not. `sha256` is None where nobody publishes one.
    """

    name: str  # file name in the raw folder
    url: str
    mirror_name: str  # unique in the table of sources
    licence: str
    sha256: str | None = None
    size_bytes: int | None = None
    member: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Fetched:
    """What was stored: hash and size of the target, and the ETag that the file's own address gave."""

    sha256: str
    size_bytes: int
    etag: str | None = None  # None when a mirror served the file


def fetch(
    file: RemoteFile, target: Path, scratch: Path, *, progress: bool = False, wait_seconds: float = 1.0
) -> Fetched:
    """Store `file` at `target`, whole and checked, or leave nothing there.

    `scratch` is a folder outside any stage's outputs (DVC deletes those before a rerun): a broken
    transfer is kept in it and resumed by HTTP range. `wait_seconds` is the first pause between
    attempts; each later one doubles. Raises UserError when no address serves the file, when its
    bytes are not the pinned ones, or when a path cannot be written.
    """
    with user_errors(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    part, etag = _obtain(file, scratch, progress, wait_seconds)
    try:
        content = part if file.member is None else _extract(file, part)
        sha256, size_bytes = sha256_file(content), content.stat().st_size
        _check(file, sha256, size_bytes, etag)
    except UserError:
        _remove(part)  # bytes that are wrong once stay wrong; right ones outlive a target that cannot be written
        raise
    with writing(target) as temporary:
        shutil.move(content, temporary)
    _remove(part)
    return Fetched(sha256, size_bytes, etag)


def _obtain(file: RemoteFile, scratch: Path, progress: bool, wait_seconds: float) -> tuple[Path, str | None]:
    """Bring the whole file into `scratch`, from the mirror if it has it, else from its own address."""
    problems = []
    for address in (*_mirror_address(file), file.url):
        part = _part_path(scratch, file, address)
        try:
            if not address.startswith(("http://", "https://")):
                _copy(address, part)
                return part, None
            etag = _download(file, address, part, progress, wait_seconds)
            return part, etag if address == file.url else None
        except (OSError, HTTPException) as error:
            problems.append(f"{address} ({_reason(error)})")
    raise UserError(
        f"{file.mirror_name}: cannot be had from {' or '.join(problems)}; connect to the network, or set "
        f"{MIRROR_VARIABLE} to a folder or base URL that has {file.mirror_name!r}, or use files of your own "
        f"(sources.*.kind: local; for weights, weights.path)"
    )


def _mirror_address(file: RemoteFile) -> list[str]:
    """Return where the mirror would have the file, a path or a URL; nothing when no mirror is set."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    if mirror.startswith(("http://", "https://")):
        return [f"{mirror.rstrip('/')}/{quote(file.mirror_name)}"]
    if mirror and not Path(mirror).is_dir():
        raise UserError(f"{MIRROR_VARIABLE}: must be a folder or a base URL, got {mirror!r}; correct or unset it")
    return [str(Path(mirror, file.mirror_name))] if mirror else []


def _copy(source: str, part: Path) -> None:
    with open(source, "rb") as opened, user_errors(part), open(part, "wb") as output:
        shutil.copyfileobj(opened, output, CHUNK_BYTES)


def _download(file: RemoteFile, url: str, part: Path, progress: bool, wait_seconds: float) -> str | None:
    """Transfer `url` into `part` with retries and return its ETag; the last error escapes as it is."""
    failures, most = 0, _size(part)
    while True:
        try:
            return _transfer(file, url, part, progress)
        except HTTPError as error:
            if error.code not in RETRIED_STATUS:
                raise
            if error.code == 416:  # our part does not fit the remote file: begin again
                part.unlink(missing_ok=True)
            last: Exception = error
        except (OSError, HTTPException) as error:
            last = error
        # Against the most there ever was: a server that always begins anew and breaks off must end, too.
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == ATTEMPTS:
            raise last
        time.sleep(wait_seconds * 2 ** max(failures - 1, 0))


def _transfer(file: RemoteFile, url: str, part: Path, progress: bool) -> str | None:
    """Fetch what `part` lacks in one request; raise ConnectionError when the connection ends early."""
    redirects = _Redirects()
    request = Request(url, headers={"User-Agent": "llmcore", **_range_headers(file, part)})
    try:
        response = build_opener(redirects).open(request, timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{_size(part)}":
            return _plain_etag(redirects.linked_etag or error.headers.get("ETag"))  # nothing was lacking
        raise
    with response:
        etag = response.headers.get("ETag")
        start = _size(part) if response.status == 206 else 0
        total = _total_bytes(response, start)
        with user_errors(part):
            if not start:
                part.write_bytes(b"")  # before the ETag is noted: it must never stand beside another file's bytes
            _etag_path(part).write_text(etag or "", encoding="utf-8")
        _append(response, part, start, total, file.mirror_name, progress)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"connection ended after {_size(part)} of {total} bytes")
    return _plain_etag(redirects.linked_etag or etag)


def _range_headers(file: RemoteFile, part: Path) -> dict[str, str]:
    """Ask for the rest only where a check exists that the remote file is still the one begun."""
    etag_path = _etag_path(part)
    etag = etag_path.read_text(encoding="utf-8") if etag_path.exists() else ""
    if not _size(part):
        return {}
    if etag and not etag.startswith("W/"):
        return {"Range": f"bytes={_size(part)}-", "If-Range": etag}  # RFC 9110, 13.1.5: else the whole file
    return {"Range": f"bytes={_size(part)}-"} if file.sha256 else {}


def _total_bytes(response: HTTPResponse, start: int) -> int | None:
    """Return the remote file's full length, None if it is not told; a range we did not ask for is an error."""
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != start:
            raise ConnectionError(f"server answered with the range {response.headers.get('Content-Range')!r}")
        return int(found[2])
    length = response.headers.get("Content-Length")
    return int(length) if length else None


def _append(response: HTTPResponse, part: Path, start: int, total: int | None, name: str, progress: bool) -> None:
    from tqdm import tqdm

    bar: Any = tqdm(
        total=total,
        initial=start,
        desc=name,
        unit="B",
        unit_scale=True,
        unit_divisor=1024,
        disable=not progress,
        mininterval=0.2 if sys.stderr.isatty() else 10.0,  # a log file needs no more
    )
    with user_errors(part):
        output = open(part, "ab")  # noqa: SIM115 (closed below; reading must stay outside user_errors)
    with bar, output:
        while chunk := response.read(CHUNK_BYTES):
            with user_errors(part):
                output.write(chunk)
                output.flush()
            bar.update(len(chunk))


class _Redirects(HTTPRedirectHandler):
    """Follows redirects, and remembers the ETag that the hub gives for a file stored elsewhere."""

    linked_etag: str | None = None

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        self.linked_etag = self.linked_etag or headers.get("X-Linked-ETag")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _extract(file: RemoteFile, archive: Path) -> Path:
    assert file.member is not None
    content = _member_path(archive)
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(file.member) as source, user_errors(content):
            content.write_bytes(source.read())
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UserError(
            f"{file.mirror_name}: must be a zip archive with the member {file.member!r} ({_reason(error)}); "
            f"run again, or give a whole copy in {MIRROR_VARIABLE}"
        ) from None
    return content


def _check(file: RemoteFile, sha256: str, size_bytes: int, etag: str | None) -> None:
    """Compare with the pin; without one, with the hub's ETag, which for large files is their SHA-256."""
    published = file.sha256 or (etag if etag and re.fullmatch("[0-9a-f]{64}", etag) else None)
    what = file.mirror_name if file.member is None else f"{file.mirror_name}, member {file.member}"
    remedy = f"run again; if it stays, the copy is another file: put the right one into {MIRROR_VARIABLE}"
    if published and sha256 != published:
        raise UserError(f"{what}: SHA-256 must be {published}, got {sha256} ({size_bytes:,} bytes); {remedy}")
    if file.size_bytes is not None and size_bytes != file.size_bytes:
        raise UserError(f"{what}: must have {file.size_bytes:,} bytes, got {size_bytes:,}; {remedy}")


def _part_path(scratch: Path, file: RemoteFile, address: str) -> Path:
    """One part per address and pin: bytes of one address are never continued with those of another."""
    key = hashlib.sha256(f"{address}\n{file.mirror_name}\n{file.sha256}".encode()).hexdigest()[:16]
    return scratch / f"{Path(file.name).name}-{key}.part"


def _remove(part: Path) -> None:
    for path in (part, _etag_path(part), _member_path(part)):
        path.unlink(missing_ok=True)


def _member_path(part: Path) -> Path:
    return part.with_suffix(".member")


def _etag_path(part: Path) -> Path:
    return part.with_suffix(".etag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _plain_etag(etag: str | None) -> str | None:
    return etag.removeprefix("W/").strip('"') if etag else None


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"HTTP {error.code} {error.reason}"
    cause = getattr(error, "reason", None) or error
    return " ".join(str(getattr(cause, "strerror", None) or cause or type(cause).__name__).split())
