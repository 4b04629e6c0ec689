"""A language model as judge: any endpoint that speaks OpenAI's chat form, its replies kept for ever.

A reply is kept under the hash of all that was asked and how, so that a rerun asks nothing again and
gives the same scores; a run that broke off goes on where it was.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from llmcore.base.errors import UserError

KEY_VARIABLE = "LLMCORE_JUDGE_KEY"  # the one place an API key is taken from
ATTEMPTS, FIRST_WAIT_SECONDS = 3, 1.0  # a wait doubles each time
REFUSALS = (400, 401, 403, 404, 422)  # HTTP: asking again would not help

# The book's question (chapter 7.8)
QUESTION = (
    "Given the input `{prompt}` and correct output `{output}`, score the model response `{answer}` on a scale "
    "from 0 to 100, where 100 is the best score. Respond with the integer number only."
)


class Settings(Protocol):
    """What params.yaml says of the judge."""

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
    """Scores answers from 0 to 100; `cache` is a file of JSON lines that grows by each new reply."""

    def __init__(self, settings: Settings, cache: Path):
        self.settings, self.cache = settings, cache
        self.replies = read_replies(cache)

    def reply(self, prompt: str, output: str, answer: str) -> str:
        """Return what the judge says of an answer. UserError if it cannot be reached or refuses."""
        request = self.request(QUESTION.format(prompt=prompt, output=output, answer=answer))
        key = request_key(self.settings.url, request)
        if key not in self.replies:
            self.replies[key] = self._ask(request)
            line = {"key": key, "url": self.settings.url, "request": request, "reply": self.replies[key]}
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            with open(self.cache, "a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n")
        return self.replies[key]

    def request(self, question: str) -> dict[str, Any]:
        """Return the body that is sent: everything that shapes the reply."""
        return {
            "model": self.settings.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": self.settings.temperature,
            "seed": self.settings.seed,
            "max_tokens": self.settings.max_tokens,
        }

    def _ask(self, request: Mapping[str, Any]) -> str:
        """Ask until a reply comes, ATTEMPTS times at most."""
        for attempt in range(ATTEMPTS):
            try:
                return self._post(request)
            except HTTPError as error:
                reason, hopeless = f"HTTP {error.code}", error.code in REFUSALS
            except (OSError, ValueError) as error:  # no connection, too slow, no JSON
                reason, hopeless = " ".join(str(error).split()) or type(error).__name__, False
            if hopeless:
                break
            if attempt + 1 < ATTEMPTS:
                time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
        raise UserError(
            f"evaluate_instruct.judge: {self.settings.url} must answer, got {reason}; correct url or model, set "
            f"{KEY_VARIABLE} if it wants a key, or set kind to none; replies so far are kept in {self.cache.name}"
        )

    def _post(self, request: Mapping[str, Any]) -> str:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        url = self.settings.url.rstrip("/") + "/chat/completions"
        sent = Request(url, data=json.dumps(request).encode(), headers=headers)
        with urlopen(sent, timeout=self.settings.timeout_seconds) as response:
            body = json.loads(response.read())
        try:
            return str(body["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            raise ValueError("a reply that is not in OpenAI's chat form") from None


def read_replies(cache: Path) -> dict[str, str]:
    """Return the kept replies by key; a line that a kill cut short is asked again."""
    if not cache.is_file():
        return {}
    replies = {}
    for line in cache.read_text(encoding="utf-8").splitlines():
        try:
            kept = json.loads(line)
            replies[kept["key"]] = kept["reply"]
        except (ValueError, KeyError, TypeError):
            continue
    return replies


def request_key(url: str, request: Mapping[str, Any]) -> str:
    """Return the hash of what is asked of whom."""
    return hashlib.sha256(json.dumps([url, request], ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def parse_score(reply: str) -> int | None:
    """Return the score in a reply, None unless it names exactly one number from 0 to 100.

    `"85"`, `"Score: 85/100."` -> 85; `"between 70 and 80"`, `"7.5"`, `"I cannot judge this."` -> None.
    """
    numbers = re.findall(r"\d+(?:\.\d+)?", re.sub(r"(?:/|\bout of)\s*100\b", "", reply))
    if len(numbers) != 1 or not numbers[0].isdigit() or re.search(r"-\s*\d", reply):
        return None
    return int(numbers[0]) if int(numbers[0]) <= 100 else None
