"""A language model as judge of answers: any endpoint with OpenAI's chat completions API.

Replies are cached under the hash of the complete request, so that a rerun sends nothing again and gives
the same scores, and an interrupted run continues where it stopped.
"""

import hashlib
import json
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import requests
import urllib3

from llmcore.base.errors import UserError, root_cause
from llmcore.base.files import user_errors
from llmcore.base.progress import bar
from llmcore.base.rows import AnswerRow

KEY_VARIABLE = "LLMCORE_JUDGE_KEY"  # the API key is read from this environment variable and from nowhere else
MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 1.0  # before the second attempt; doubles before each later one
FINAL_STATUS = (400, 401, 403, 404, 422)  # HTTP statuses that another attempt would not change
MAX_REPLY_BYTES = 1 << 20  # of the whole body
BAD_REPLIES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError, RecursionError)
DASHES = r"\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d"  # hyphens, dashes and minus signs
MAX_DIGITS = 9  # of a score
NO_INTEGER = re.compile(  # -5, minus 5, a root, .5, 5e
    rf"(?:[{DASHES}\u221a-\u221c]|minus|negative)\s*\d|[.,\u00b7\u066b\uff0e]\d|[a-z]\d|\d[a-z]", re.IGNORECASE
)
REPLACED = "\ufffd"  # stands for what is no character: half of a surrogate pair

# From chapter 7.8 of *Build a Large Language Model (From Scratch)*
QUESTION = (
    "Given the input `{prompt}` and correct output `{output}`, score the model response `{answer}` on a scale "
    "from 0 to 100, where 100 is the best score. Respond with the integer number only."
)


class RefusedError(Exception):
    """The judge refuses in a way that another attempt would not change."""


class JudgeSettings(Protocol):
    """The settings of the judge in params.yaml; `url` is everything before `/chat/completions`."""

    @property
    def url(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def temperature(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def timeout_seconds(self) -> float: ...


class Judge:
    """Asks a model for the score of an answer. `cache` is a JSON Lines file; each new reply is appended."""

    def __init__(self, settings: JudgeSettings, cache: Path):
        check_key()
        self.settings = settings
        self.cache = cache
        self.replies = read_replies(cache)

    def reply(self, prompt: str, output: str, answer: str) -> str:
        """Return the judge's reply about an answer. UserError if the endpoint cannot be reached or refuses."""
        request = self.request_body(QUESTION.format(prompt=prompt, output=output, answer=answer))
        key = request_key(self.settings.url, request)
        if key not in self.replies:
            self.replies[key] = self._ask(request)
            line = {"key": key, "url": self.settings.url, "request": request, "reply": self.replies[key]}
            append_line(self.cache, json.dumps(line, ensure_ascii=False, sort_keys=True))
        return self.replies[key]

    def request_body(self, question: str) -> dict[str, Any]:
        """Return the body of the request: everything that determines the reply."""
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.settings.temperature,
            "seed": self.settings.seed,
            "max_tokens": self.settings.max_tokens,
        }

    def _ask(self, request: Mapping[str, Any]) -> str:
        """Return the reply to a request, after at most MAX_ATTEMPTS attempts of `timeout_seconds` each."""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                time.sleep(FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
            try:
                return within(self.settings.timeout_seconds, lambda: message_content(self._post(request)))
            except RefusedError as error:
                reason = str(error)
                break
            except BAD_REPLIES as error:  # no connection, timeout, not the right JSON
                reason = root_cause(error)
        raise UserError(
            f"evaluate_instruct.judge: {self.settings.url} must answer, got {reason}; correct url or model, set "
            f"{KEY_VARIABLE} if it wants a key, or set kind to none; replies so far are kept in {self.cache.name}"
        )

    def _post(self, request: Mapping[str, Any]) -> bytes:
        """Return the body of the reply. RefusedError where another attempt would not help; else a BAD_REPLIES."""
        with requests.post(
            self.settings.url.rstrip("/") + "/chat/completions",
            json=request,
            headers={"Accept-Encoding": "identity"},  # a compressed body could be of any size
            auth=_add_key,
            timeout=self.settings.timeout_seconds,
            allow_redirects=False,  # a redirect must not carry the key and the question to another host
            stream=True,
        ) as response:
            status = f"HTTP {response.status_code}"
            if response.is_redirect:
                raise RefusedError(f"{status}, a redirect to {response.headers['Location']}")
            if response.status_code in FINAL_STATUS:
                raise RefusedError(status)
            if response.status_code != 200:
                raise ValueError(status)
            body: bytes = response.raw.read(MAX_REPLY_BYTES + 1)
        if len(body) > MAX_REPLY_BYTES:
            raise ValueError(f"a reply of more than {MAX_REPLY_BYTES:,} bytes")
        return body


def within(seconds: float, work: Callable[[], str]) -> str:
    """Return what `work` returns, or raise what it raises; TimeoutError after `seconds`.

    The timeout of requests is that between two bytes, so a slow server could go on for ever.
    """
    outcome: Future[str] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="judge", daemon=True).start()  # one that hangs does not hold the process
    try:
        return outcome.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"timed out after {seconds:g} s") from None


def judge_answers(rows: Sequence[AnswerRow], judge: Judge, progress: bool) -> tuple[list[AnswerRow], dict[str, float]]:
    """Return the rows with the judge's reply and score, and the counts `judge_rows` and `judge_unparsable`.

    `judge_unparsable` counts replies without a score. UserError if the judge does not answer.
    """
    judged: list[AnswerRow] = []
    for row in bar(rows, "judge", len(rows), "answer", enabled=progress):
        prompt = "\n".join(filter(None, (row["instruction"], row["input"])))
        reply = judge.reply(prompt, row["output"], row["answer"])
        judged.append({**row, "judge_reply": reply, "judge_score": parse_score(reply)})
    unparsable = sum(row["judge_score"] is None for row in judged)
    return judged, {"judge_rows": len(judged) - unparsable, "judge_unparsable": unparsable}


def read_replies(cache: Path) -> dict[str, str]:
    """Return the cached replies by key; a line that was cut off is ignored, so its question is asked again."""
    if not cache.is_file():
        return {}
    replies = {}
    for line in cache.read_bytes().split(b"\n"):
        try:
            entry = json.loads(line)
            key, reply = entry["key"], entry["reply"]
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(key, str) and isinstance(reply, str):
            replies[key] = reply
    return replies


def append_line(file: Path, line: str) -> None:
    """Append a line of JSON to a file, after a line end where the last line was cut off."""
    with user_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab+") as opened:
            if opened.tell():
                opened.seek(-1, os.SEEK_END)
                opened.write(b"" if opened.read() == b"\n" else b"\n")
            # half of a surrogate pair has no UTF-8; Python's escape for it is JSON's, too
            opened.write(f"{line}\n".encode("utf-8", "backslashreplace"))


def request_key(url: str, request: Mapping[str, Any]) -> str:
    """Return the hash of a request and the URL it is sent to."""
    text = json.dumps([url, request], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def parse_score(reply: str) -> int | None:
    """Return the score in a reply, None unless the reply contains exactly one number, an integer from 0 to 100.

    `"85"`, `"Score: 85/100."` -> 85; `"between 70 and 80"`, `"7.5"`, `"I cannot judge this."` -> None. A number after
    a dash may be negative; one beside a point, a letter, a fraction or with a combining mark is another number.
    """
    rest = re.sub(r"(?:/|\bout of)\s*100\b", "", reply)
    numbers = re.findall(r"\d+(?:\.\d+)?", rest)
    kinds = pairwise(["", *map(unicodedata.category, reply)])
    is_odd = any(kind == "No" or (before == "Nd" and kind[0] == "M") for before, kind in kinds)
    is_odd = is_odd or REPLACED in reply or NO_INTEGER.search(rest) is not None
    if len(numbers) != 1 or is_odd or len(numbers[0]) > MAX_DIGITS or not numbers[0].isdigit():
        return None
    return int(numbers[0]) if int(numbers[0]) <= 100 else None


def check_key() -> None:
    """UserError, without the key, if it cannot be part of an HTTP header."""
    key = os.environ.get(KEY_VARIABLE, "")
    if key and not re.fullmatch(r"[!-~]+", key):
        rule = "must be one line of visible ASCII characters, without spaces"
        raise UserError(f"{KEY_VARIABLE}: {rule}, got another, which is not shown; set it again")


def _add_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the API key, if there is one. Passed as `auth`, because requests would otherwise send one from ~/.netrc."""
    if key := os.environ.get(KEY_VARIABLE):
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def message_content(body: bytes) -> str:
    """Return the text of a reply in OpenAI's chat form; numbers in it may be of any length. ValueError for others."""
    try:
        text = str(json.loads(body, parse_int=str)["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise ValueError("a reply that is not in OpenAI's chat form") from None
    return "".join(REPLACED if "\ud800" <= character <= "\udfff" else character for character in text)
