"""A request has limits that its error names, and is answered a few rows at a time."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from llmcore.config.generation import STORY
from llmcore.generate.write import continue_texts
from llmcore.model.classifier import SequenceClassifier
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.registry import new_model
from llmcore.serve import served
from llmcore.serve.served import GENERATION_BATCH_SIZE, MAX_CHARACTERS, MAX_ROWS, SERVED

PARAMS = {**STORY.numbers(), "max_new_tokens": 4, "temperature": 1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, config: Any, tokenizer: Any, randomised: Any) -> dict[str, Any]:
    """The served model of each kind, loaded."""
    root = tmp_path_factory.mktemp("models")
    model = randomised(new_model(type(config)(**{**vars(config), "context_length": 300})))
    for kind in ("base", "instruct"):
        save_language_model(root / kind, model, tokenizer=tokenizer, origin={})
    classifier = randomised(SequenceClassifier(new_model(config).body, ["ham", "spam"], "last_real", 20))
    save_classifier(root / "classifier", classifier, classifier.state_dict(), tokenizer=tokenizer, origin={})
    loaded = {}
    for kind, make in SERVED.items():
        loaded[kind] = make()
        loaded[kind].load_context(SimpleNamespace(artifacts={"model": str(root / kind)}))
    return loaded


def rows(kind: str, texts: list[str]) -> list[Any]:
    return texts if kind != "instruct" else [{"instruction": text, "input": None} for text in texts]


@pytest.mark.parametrize("kind", SERVED)
@pytest.mark.parametrize(
    "texts", [["a"] * (MAX_ROWS + 1), ["a" * (MAX_CHARACTERS + 1)], ["a" * (MAX_CHARACTERS // 2), "b" * MAX_CHARACTERS]]
)
def test_request_above_a_limit_is_refused_with_both_limits(kind: str, texts: list[str], models: dict[str, Any]) -> None:
    with pytest.raises(MlflowException, match=r"must have at most 256 rows and 200,000 characters, got") as raised:
        models[kind].predict(None, rows(kind, texts), PARAMS)
    assert f"got {len(texts):,} rows and {sum(map(len, texts)):,} characters; send them" in raised.value.message
    assert raised.value.get_http_status_code() == 400


@pytest.mark.parametrize("kind", SERVED)
def test_request_at_the_limit_is_answered_a_few_rows_at_a_time(
    kind: str, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = []

    def watched(write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            together.append(max(len(value) for value in arguments if isinstance(value, list)))
            return write(*arguments, **options)

        return call

    for name in ("answer_instructions", "continue_texts"):
        monkeypatch.setattr(served, name, watched(getattr(served, name)))
    params = PARAMS | {"max_new_tokens": 1}
    assert len(models[kind].predict(None, rows(kind, ["a"] * MAX_ROWS), params)) == MAX_ROWS
    assert max(together, default=0) <= GENERATION_BATCH_SIZE


def test_many_rows_begin_as_few_do_and_equal_ones_differ(models: dict[str, Any]) -> None:
    texts = ["Anna had"] * (3 * GENERATION_BATCH_SIZE)
    written = models["base"].predict(None, texts, PARAMS)
    model, tokenizer = models["base"].model, models["base"].tokenizer
    config = type(STORY)(**PARAMS)
    first = continue_texts(model, tokenizer, texts[:GENERATION_BATCH_SIZE], config)
    assert written[:GENERATION_BATCH_SIZE] == [continuation.text for continuation in first]
    assert written == models["base"].predict(None, texts, PARAMS)
    assert len(set(written)) == len(set(written[:GENERATION_BATCH_SIZE])) * 3


def test_memory_does_not_grow_with_the_number_of_requests(models: dict[str, Any]) -> None:
    import psutil

    def ask(times: int) -> int:
        for time in range(times):
            models["classifier"].predict(None, ["Anna had a ball. " * (1 + time % 7)] * MAX_ROWS)
        return int(psutil.Process().memory_info().rss)

    warm = ask(10)
    assert ask(20) - warm < 50 << 20
