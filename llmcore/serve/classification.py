"""Texts in, classes out: one thread per classifier, for which requests wait."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

from llmcore.generate.classify import class_probabilities, text_ids
from llmcore.serve.errors import ApiError, shutting_down
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel

BATCH_SIZE = 32


class ClassifierWorker:
    """Classify the texts of requests, one request after the other."""

    def __init__(self, served: ServedModel, limits: Limits):
        self.served = served
        self.limits = limits
        self._closed = False
        self._open: set[Future[Any]] = set()
        self._executor = ThreadPoolExecutor(1, f"model {served.id}")

    def start(self) -> None:
        """Its thread starts with the first request."""

    def close(self) -> None:
        """Let what is being computed end, and refuse what waits."""
        self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)

    def join(self) -> None:
        """Its thread ends with what it computes."""

    @property
    def n_open(self) -> int:
        """Requests that wait or are being computed."""
        return len(self._open)

    async def classify(self, texts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Return the probabilities (texts, labels), and for each text whether it was cut to the model's `max_tokens`.

        ApiError with status 429 if too many requests wait, 503 after the limit of time.
        """
        if len(self._open) > self.limits.max_waiting:
            raise ApiError(
                429, "too many requests are waiting; try again later", code="busy", headers={"Retry-After": "1"}
            )
        if self._closed:
            raise shutting_down()
        future = self._executor.submit(self._classify, texts)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.max_seconds)
        except asyncio.CancelledError:
            if self._closed:
                raise shutting_down() from None
            raise  # the client has gone
        except TimeoutError:
            rule = f"the request took longer than {self.limits.max_seconds:g} seconds"
            raise ApiError(503, f"{rule}; send fewer texts, or later", code="timeout") from None

    def _classify(self, texts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        model, tokenizer = self.served.classifier, self.served.tokenizer
        rows, truncated = text_ids(model, tokenizer, texts)
        return class_probabilities(model, rows, batch_size=BATCH_SIZE, pad_id=tokenizer.pad_id), truncated


def answer(served: ServedModel, probabilities: Tensor, truncated: list[bool], top_k: int | None) -> dict[str, Any]:
    """Return the body of an answer: for each text its class and the `top_k` likeliest ones."""
    labels = served.classifier.labels
    data = []
    for row in probabilities:
        values, places = row.topk(min(top_k or len(labels), len(labels)))
        likeliest = [
            {"label": labels[place], "probability": value}
            for place, value in zip(places.tolist(), values.tolist(), strict=True)
        ]
        data.append({"label": likeliest[0]["label"], "probabilities": likeliest})
    return {"object": "list", "model": served.id, "data": data, "truncated": truncated}
