"""The endpoint: OpenAI's routes, /classify and /health. Which models there are and what they may do is passed in."""

import json
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from llmcore.base.errors import UserError
from llmcore.base.text import checked_input
from llmcore.serve.access import Access
from llmcore.serve.bodies import EventStream, read_body, unless_gone
from llmcore.serve.classification import ClassifierWorker, answer
from llmcore.serve.errors import GONE, ApiError, of_failure, of_user_error, stopped
from llmcore.serve.generation import Generation, Piece
from llmcore.serve.limits import Limits
from llmcore.serve.models import ServedModel
from llmcore.serve.openai_answers import ChatAnswer, CompletionAnswer
from llmcore.serve.openai_requests import (
    Body,
    ChatFields,
    ClassifyFields,
    CompletionFields,
    chat_prompts,
    check_characters,
    completion_prompts,
    generation_config,
    parse,
)
from llmcore.serve.page_routes import router
from llmcore.serve.scheduler import Scheduler
from llmcore.serve.thread_queue import ThreadQueue

Workers = Mapping[str, Scheduler | ClassifierWorker]

DONE = "data: [DONE]\n\n"


def create_app(
    models: Mapping[str, ServedModel],
    limits: Limits | None = None,
    api_key: str | None = None,
    hosts: Collection[str] | None = None,
) -> FastAPI:
    """Return the endpoint of models, by their ids.

    With `api_key` every request must bring it; without it, the Host header must be one of `hosts`, if they are given.
    """
    limits = limits or Limits()
    workers: Workers = {
        name: (ClassifierWorker if served.kind == "classifier" else Scheduler)(served, limits)
        for name, served in models.items()
    }

    inspections = ThreadQueue("inspect", limits)

    def close() -> None:
        for each in (*workers.values(), inspections):
            each.close()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for worker in workers.values():
            worker.start()
        yield
        close()
        for worker in workers.values():
            worker.join()

    app = FastAPI(title="llmcore", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.workers, app.state.inspections = workers, inspections
    app.state.close = close
    app.add_middleware(Access, api_key=api_key, hosts=hosts)
    _handle_errors(app)
    _add_routes(app, workers, limits)
    app.include_router(router(lambda name: _scheduler(workers, name, "text", "chat").served, inspections))
    return app


def _add_routes(app: FastAPI, workers: Workers, limits: Limits) -> None:
    created = int(time.time())

    @app.get("/health")
    async def health() -> dict[str, str]:
        if failed := [name for name, worker in workers.items() if isinstance(worker, Scheduler) and worker.failed]:
            raise stopped(*failed)
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_entry(worker.served, created) for worker in workers.values()]}

    @app.get("/v1/models/{name}")
    async def model(name: str) -> dict[str, Any]:
        return _entry(_found(workers, name).served, created)

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        asked = await _read(CompletionFields, request, limits)
        scheduler = _scheduler(workers, asked.model, "text", "chat")
        config = generation_config(asked, limits)
        prompts = await to_thread.run_sync(completion_prompts, asked, scheduler.served, limits)
        generation = Generation(prompts, config, limits.max_seconds)
        return await _respond(request, asked, scheduler, CompletionAnswer(scheduler.served, generation))

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        asked = await _read(ChatFields, request, limits)
        scheduler = _scheduler(workers, asked.model, "chat")
        config = generation_config(asked, limits)
        prompts, dropped = await to_thread.run_sync(chat_prompts, asked, scheduler.served, config, limits)
        generation = Generation(prompts, config, limits.max_seconds)
        chat = ChatAnswer(scheduler.served, generation, dropped_messages=dropped)
        return await _respond(request, asked, scheduler, chat)

    @app.post("/classify")
    async def classify(request: Request) -> Response:
        asked = await _read(ClassifyFields, request, limits)
        worker = _found(workers, asked.model)
        if not isinstance(worker, ClassifierWorker):
            raise _wrong_kind(workers, worker.served, "classifier")
        texts = _texts(asked, limits)
        probabilities, truncated = await unless_gone(request, worker.classify(texts))
        return JSONResponse(answer(worker.served, probabilities, truncated, asked.top_k))


async def _read(form: type[Body], request: Request, limits: Limits) -> Body:
    return parse(form, await read_body(request, limits.max_body_bytes))


def _texts(asked: ClassifyFields, limits: Limits) -> list[str]:
    """Return the texts to classify; UserError for too many, or an empty one."""
    if len(asked.input) > limits.max_texts:
        rule = f"must be at most {limits.max_texts} texts, got {len(asked.input)}"
        raise UserError(f"input: {rule}; send them in several requests")
    check_characters("input", asked.input, limits)
    texts = [checked_input(text, "input") for text in asked.input]
    if not all(texts):
        raise UserError("input: a text must not be empty; give at least one character")
    return texts


# ---- models


def _entry(served: ServedModel, created: int) -> dict[str, Any]:
    return {"id": served.id, "object": "model", "created": created, "owned_by": "llmcore", "kind": served.kind}


def _found(workers: Workers, name: str) -> Scheduler | ClassifierWorker:
    if name in workers:
        return workers[name]
    rule = f"must be one of {', '.join(workers)}, got {name[:60]!r}"
    raise ApiError(404, f"model: {rule}; correct it", param="model", code="model_not_found")


def _scheduler(workers: Workers, name: str, *kinds: str) -> Scheduler:
    worker = _found(workers, name)
    if not isinstance(worker, Scheduler) or worker.served.kind not in kinds:
        raise _wrong_kind(workers, worker.served, *kinds)
    return worker


def _wrong_kind(workers: Workers, served: ServedModel, *kinds: str) -> ApiError:
    fitting = ", ".join(name for name, worker in workers.items() if worker.served.kind in kinds)
    rule = f"{served.id!r} is of kind {served.kind!r}, and this needs {' or '.join(map(repr, kinds))}"
    return ApiError(
        400, f"model: {rule}; fitting ones here: {fitting or 'none'}", param="model", code="wrong_model_kind"
    )


# ---- answers


async def _respond(
    request: Request, asked: CompletionFields | ChatFields, scheduler: Scheduler, answer: CompletionAnswer
) -> Response:
    """Write the texts of a request, and answer it whole or in events; a client that goes away ends the work."""
    generation = answer.generation
    scheduler.submit(generation)
    try:
        if not asked.stream:
            return JSONResponse(answer.whole(await unless_gone(request, _all(generation))))
        pieces = generation.pieces()
        first = await unless_gone(request, anext(pieces))
    except BaseException:
        scheduler.cancel(generation)
        raise
    events = _events(answer, first, pieces, with_usage=asked.stream_options.include_usage)
    return EventStream(events, lambda: scheduler.cancel(generation))


async def _all(generation: Generation) -> list[Piece]:
    return [piece async for piece in generation.pieces()]


async def _events(
    answer: CompletionAnswer, first: Piece, pieces: AsyncIterator[Piece], *, with_usage: bool
) -> AsyncIterator[str]:
    """Yield the events of a stream; an error on the way is the last one."""
    usage: dict[str, Any] = {"usage": None} if with_usage else {}
    for begin in answer.first_chunks():
        yield _event(begin | usage)
    try:
        if chunk := answer.chunk(first):
            yield _event(chunk | usage)
        async for piece in pieces:
            if chunk := answer.chunk(piece):
                yield _event(chunk | usage)
    except ApiError as error:
        yield _event(error.body)
        return
    if with_usage:
        yield _event(answer.usage_chunk())
    yield DONE


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


# ---- errors


def _handle_errors(app: FastAPI) -> None:
    """Answer each error in OpenAI's form; a bug keeps its traceback in the log."""

    async def api_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return JSONResponse(error.body, error.status, error.headers)

    async def user_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, UserError)
        return await api_error(request, of_user_error(error))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await api_error(request, ApiError(error.status_code, str(error.detail), headers=error.headers))

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=GONE)

    async def bug(request: Request, error: Exception) -> Response:
        return await api_error(request, of_failure(error))

    app.add_exception_handler(ApiError, api_error)
    app.add_exception_handler(UserError, user_error)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, bug)
