"""Texts in, classes out: one thread per classifier, for which requests wait."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from llmcore.generate.classify import class_probabilities, text_ids
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.serve.thread_queue import ThreadQueue

BATCH_SIZE = 32


class ClassifierWorker:
    """Classify the texts of requests, one request after the other."""

    def __init__(self, served: ServedModel, limits: Limits):
        self.served = served
        self._queue = ThreadQueue(f"model {served.id}", limits)

    def start(self) -> None:
        """Its thread starts with the first request."""

    def close(self) -> None:
        self._queue.close()

    def join(self) -> None:
        """Its thread ends with what it computes."""

    @property
    def n_open(self) -> int:
        return self._queue.n_open

    async def classify(self, texts: Sequence[str]) -> tuple[Tensor, list[bool]]:
        """Return the probabilities (texts, labels), and for each text whether it was cut to the model's `max_tokens`.

        Errors are those of `ThreadQueue.run`.
        """
        return await self._queue.run(self._classify, texts)

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
