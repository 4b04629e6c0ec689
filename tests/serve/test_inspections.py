"""What the page asks about a text is computed one after the other, for clients that still wait for it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from serve.endpoint import LIMITS, Endpoint, gated, running
from waiting import comes_true

from llmcore.serve.models import ServedModel

PATHS = ("/inspect", "/inspect/lens")


def test_inspections_beyond_those_that_may_wait_are_refused(served_models: dict[str, ServedModel]) -> None:
    asked = {"model": "story", "text": "The brown fox"}
    with running(served_models, replace(LIMITS, max_waiting=2)) as endpoint, ThreadPoolExecutor(8) as pool:
        with gated(served_models["story"]) as gate:
            found = [pool.submit(endpoint.post, PATHS[0], asked)]
            gate.wait_for(passes=1)
            found += [pool.submit(endpoint.post, PATHS[number % 2], asked) for number in range(7)]
            assert comes_true(lambda: sum(answer.done() for answer in found) == 5)  # one is computed, two wait
            refused = [answer.result() for answer in found if answer.done()]
        assert all(answer.status_code == 429 and answer.json()["error"]["code"] == "busy" for answer in refused)
        assert sum(answer.result().is_success for answer in found) == 3


def test_inspections_whose_clients_have_gone_are_not_computed(endpoint: Endpoint) -> None:
    with gated(endpoint.models["story"]) as gate:
        clients = [endpoint.send("/inspect", {"model": "story", "text": "The brown fox"}) for _ in range(20)]
        assert comes_true(lambda: endpoint.inspections.n_open == len(clients))
        for client in clients:
            client.close()
        assert comes_true(lambda: endpoint.inspections.n_open == 1)
    assert comes_true(lambda: endpoint.inspections.n_open == 0)
    assert gate.passes == 1


@pytest.mark.parametrize("path", [*PATHS, "/inspect/attention"])
def test_classifier_is_refused_as_by_completions(endpoint: Endpoint, path: str) -> None:
    fields = {"layer": 0, "head": 0} if path.endswith("attention") else {}
    for model in ("sorter", "other"):
        found = endpoint.post(path, {"model": model, "text": "a"} | fields)
        expected = endpoint.post("/v1/completions", {"model": model, "prompt": "a"})
        assert (found.status_code, found.json()) == (expected.status_code, expected.json())
