"""A language model as judge of answers: any endpoint with OpenAI's chat completions API.

Replies are cached under the hash of the complete request, so that a rerun sends nothing again and gives
the same scores, and an interrupted run continues where it stopped.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import requests

from llmcore.base.errors import UserError, root_cause
from llmcore.base.progress import bar
from llmcore.base.rows import AnswerRow

KEY_VARIABLE = "LLMCORE_JUDGE_KEY"  # the API key is read from this environment variable and from nowhere else
MAX_ATTEMPTS = 3
FIRST_WAIT_SECONDS = 1.0  # before the second attempt; doubles before each later one
FINAL_STATUS = (400, 401, 403, 404, 422)  # HTTP statuses that another attempt would not change

# From chapter 7.8 of *Build a Large Language Model (From Scratch)*
QUESTION = (
    "Given the input `{prompt}` and correct output `{output}`, score the model response `{answer}` on a scale "
    "from 0 to 100, where 100 is the best score. Respond with the integer number only."
)


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
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with open(self.cache, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n")
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
        """Return the reply to a request, after at most MAX_ATTEMPTS attempts."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                response = self._post(request)
                if response.status_code == 200:
                    return _message_content(response)
                reason = _status_text(response)
                final = response.is_redirect or response.status_code in FINAL_STATUS
            except (requests.RequestException, ValueError) as error:  # no connection, timeout, not the right JSON
                reason = root_cause(error)
                final = False
            if final:
                break
            if attempt + 1 < MAX_ATTEMPTS:
                time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
        raise UserError(
            f"evaluate_instruct.judge: {self.settings.url} must answer, got {reason}; correct url or model, set "
            f"{KEY_VARIABLE} if it wants a key, or set kind to none; replies so far are kept in {self.cache.name}"
        )

    def _post(self, request: Mapping[str, Any]) -> requests.Response:
        return requests.post(
            self.settings.url.rstrip("/") + "/chat/completions",
            json=request,
            auth=_add_key,
            timeout=self.settings.timeout_seconds,
            allow_redirects=False,  # a redirect must not carry the key and the question to another host
        )


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
    for line in cache.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            replies[entry["key"]] = entry["reply"]
        except (ValueError, KeyError, TypeError):
            continue
    return replies


def request_key(url: str, request: Mapping[str, Any]) -> str:
    """Return the hash of a request and the URL it is sent to."""
    return hashlib.sha256(json.dumps([url, request], ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def parse_score(reply: str) -> int | None:
    """Return the score in a reply, None unless the reply contains exactly one number, an integer from 0 to 100.

    `"85"`, `"Score: 85/100."` -> 85; `"between 70 and 80"`, `"7.5"`, `"I cannot judge this."` -> None.
    """
    numbers = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?:/|\bout of)\s*100\b", "", reply))
    if len(numbers) != 1 or not numbers[0].isdigit() or re.search(r"-\s*\d", reply):
        return None
    return int(numbers[0]) if int(numbers[0]) <= 100 else None


def _add_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add the API key, if there is one. Passed as `auth`, because requests would otherwise send one from ~/.netrc."""
    if key := os.environ.get(KEY_VARIABLE):
        request.headers["Authorization"] = f"Bearer {key}"
    return request


def _message_content(response: requests.Response) -> str:
    try:
        return str(response.json()["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise ValueError("a reply that is not in OpenAI's chat form") from None


def _status_text(response: requests.Response) -> str:
    if response.is_redirect:
        return f"HTTP {response.status_code}, a redirect to {response.headers['Location']}"
    return f"HTTP {response.status_code}"
