"""What the page asks about a text is computed one after the other, for clients that still wait for it."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import httpx2
import pytest
from serve.endpoint import LIMITS, Endpoint, running, slowed

from llmcore.serve.models import ServedModel

PATHS = ("/inspect", "/inspect/lens")


def test_inspections_beyond_those_that_may_wait_are_refused(served_models: dict[str, ServedModel]) -> None:
    with (
        running(served_models, replace(LIMITS, max_waiting=2)) as endpoint,
        slowed(served_models["story"], 0.6),
        ThreadPoolExecutor(8) as pool,
    ):
        asked = {"model": "story", "text": "The brown fox"}
        found = list(pool.map(lambda number: endpoint.post(PATHS[number % 2], asked), range(8)))
    refused = [answer for answer in found if not answer.is_success]
    assert 1 <= len(refused) <= 5  # one is computed, two wait
    assert all(answer.status_code == 429 and answer.json()["error"]["code"] == "busy" for answer in refused)


def test_inspections_whose_clients_have_gone_are_not_computed(endpoint: Endpoint) -> None:
    story = endpoint.models["story"]
    passes: list[int] = []

    def leave(_: int) -> None:
        asked = {"model": "story", "text": "The brown fox"}
        with suppress(httpx2.TimeoutException):
            httpx2.post(f"{endpoint.url}/inspect", json=asked, timeout=0.3)

    hook = story.language_model.body.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        with slowed(story, 0.5):
            with ThreadPoolExecutor(20) as pool:
                list(pool.map(leave, range(20)))
            time.sleep(1.0)
    finally:
        hook.remove()
    assert 1 <= len(passes) <= 6


@pytest.mark.parametrize("path", [*PATHS, "/inspect/attention"])
def test_classifier_is_refused_as_by_completions(endpoint: Endpoint, path: str) -> None:
    fields = {"layer": 0, "head": 0} if path.endswith("attention") else {}
    for model in ("sorter", "other"):
        found = endpoint.post(path, {"model": model, "text": "a"} | fields)
        expected = endpoint.post("/v1/completions", {"model": model, "prompt": "a"})
        assert (found.status_code, found.json()) == (expected.status_code, expected.json())
