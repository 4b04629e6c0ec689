"""A server of the page: its own routes, and the few of OpenAI's that it asks."""

import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from llmcore.config.generation import GenerationConfig
from llmcore.generate.classify import classify_texts
from llmcore.generate.write import chat_prompt, stream_texts, text_prompts
from llmcore.serve.page_routes import router


@dataclass
class Small:
    kind: str
    model: Any
    tokenizer: Any


def small_app(models: dict[str, Small], api_key: str | None) -> FastAPI:
    app = FastAPI()
    app.include_router(router(models))

    @app.middleware("http")
    async def guard(request: Request, go_on: Any) -> Any:
        is_open = request.url.path == "/" or request.url.path.startswith("/page/")
        if api_key and not is_open and request.headers.get("authorization") != f"Bearer {api_key}":
            return JSONResponse({"error": {"message": "a key is needed"}}, 401)
        return await go_on(request)

    @app.get("/v1/models")
    def listed() -> Any:
        return {"data": [{"id": name, "kind": each.kind} for name, each in models.items()]}

    @app.post("/v1/completions")
    def complete(asked: dict[str, Any]) -> Any:
        small = models[asked["model"]]
        return StreamingResponse(events(small, text_prompts(small.tokenizer, [asked["prompt"]]), asked, in_chat=False))

    @app.post("/v1/chat/completions")
    def chat(asked: dict[str, Any]) -> Any:
        small = models[asked["model"]]
        prompt = chat_prompt(small.tokenizer, "alpaca", asked["messages"])
        return StreamingResponse(events(small, prompt, asked, in_chat=True))

    @app.post("/classify")
    def classify(asked: dict[str, Any]) -> Any:
        small = models[asked["model"]]
        [found] = classify_texts(small.model, small.tokenizer, asked["input"], batch_size=1).tolist()
        ordered = sorted(zip(small.model.labels, found, strict=True), key=lambda pair: -pair[1])[: asked["top_k"]]
        classes = [{"label": label, "probability": probability} for label, probability in ordered]
        return {"data": [{"label": ordered[0][0], "probabilities": classes}]}

    return app


def events(small: Small, prompts: Any, asked: dict[str, Any], *, in_chat: bool) -> Iterator[str]:
    """Yield server-sent events, each slow enough to be seen."""
    names = ("temperature", "top_k", "top_p", "seed")
    settings: dict[str, Any] = {name: asked[name] for name in names}
    endless = tuple(prompts.stop_ids)  # a model with random weights would end by chance
    config = GenerationConfig(max_new_tokens=asked["max_tokens"], top_logprobs=5, suppress_tokens=endless, **settings)
    for piece in stream_texts(small.model, small.tokenizer, prompts, config):
        time.sleep(0.01)
        decode = small.tokenizer.decode
        logprobs = {
            "tokens": [decode([piece.token.token])],
            "token_logprobs": [piece.token.logprob],
            "top_logprobs": [{decode([each.token]): each.logprob for each in piece.token.alternatives}],
        }
        assert math.isfinite(logprobs["token_logprobs"][0])
        reason = "length" if piece.finish_reason == "context" else piece.finish_reason
        said = {"delta": {"content": piece.text}} if in_chat else {"text": piece.text, "logprobs": logprobs}
        yield f"data: {json.dumps({'choices': [said | {'finish_reason': reason}]})}\n\n"
    yield "data: [DONE]\n\n"


@contextmanager
def serving(models: dict[str, Small], api_key: str | None = None) -> Iterator[str]:
    """Serve in this process and yield the address."""
    server = uvicorn.Server(uvicorn.Config(small_app(models, api_key), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()
