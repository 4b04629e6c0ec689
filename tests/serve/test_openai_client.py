"""The official client of OpenAI gets from the endpoint what the same models write and compute without it."""

from dataclasses import replace
from typing import Any

import openai
import pytest
import torch
from serve.endpoint import LIMITS, Endpoint, running
from tiny import generation

from llmcore.generate.classify import classify_texts
from llmcore.generate.write import Continuation, chat_prompt, continue_texts, text_prompts, write
from llmcore.serve.models import ServedModel
from llmcore.serve.openai_answers import INCOMPLETE

TEXT = "The brown fox"
QUESTION: Any = [{"role": "user", "content": "Where is the fox?"}]
DRAWN = {"temperature": 0.9, "seed": 5, "max_tokens": 12, "top_p": 1.0}
SAME = generation(max_new_tokens=12, temperature=0.9, seed=5)


@pytest.fixture(scope="module")
def client(endpoint: Endpoint) -> openai.OpenAI:
    return endpoint.client()


def continued(served: ServedModel, texts: list[str], **changes: Any) -> list[Continuation]:
    return continue_texts(served.language_model, served.tokenizer, texts, replace(SAME, **changes))


def answered(served: ServedModel, messages: Any, **changes: Any) -> list[Continuation]:
    assert served.form is not None
    prompt = chat_prompt(served.tokenizer, served.form, messages)
    return write(served.language_model, served.tokenizer, prompt, replace(SAME, **changes))


def test_models_are_listed_with_their_kinds(client: openai.OpenAI) -> None:
    found = client.models.list().data
    assert [(model.id, model.kind) for model in found] == [
        ("story", "text"),
        ("helper", "chat"),
        ("sorter", "classifier"),
    ]
    assert client.models.retrieve("helper").id == "helper"


# ---- texts


def test_completion_is_the_text_of_the_command_line(client: openai.OpenAI, endpoint: Endpoint) -> None:
    answer = client.completions.create(model="story", prompt=TEXT, **DRAWN)
    [expected] = continued(endpoint.models["story"], [TEXT])
    assert answer.choices[0].text == expected.text
    assert answer.choices[0].finish_reason == expected.finish_reason
    assert answer.object == "text_completion"


def test_several_prompts_and_samples_are_those_of_one_call(client: openai.OpenAI, endpoint: Endpoint) -> None:
    texts = [TEXT, "A dog"]
    answer = client.completions.create(model="story", prompt=texts, n=2, **DRAWN)
    expected = continued(endpoint.models["story"], texts, n=2)
    assert [choice.text for choice in answer.choices] == [continuation.text for continuation in expected]
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in answer.choices}) == 4


def test_token_ids_are_a_prompt(client: openai.OpenAI, endpoint: Endpoint) -> None:
    ids = text_prompts(endpoint.models["story"].tokenizer, [TEXT]).ids[0]
    texts = {
        client.completions.create(model="story", prompt=prompt, **DRAWN).choices[0].text
        for prompt in (TEXT, ids, [ids])
    }
    assert len(texts) == 1


def test_answer_of_a_chat_is_the_model_s_own(client: openai.OpenAI, endpoint: Endpoint) -> None:
    answer = client.chat.completions.create(model="helper", messages=QUESTION, **DRAWN)
    [expected] = answered(endpoint.models["helper"], QUESTION)
    assert answer.choices[0].message.content == expected.text
    assert answer.choices[0].message.role == "assistant"
    assert answer.dropped_messages == 0


def test_content_in_parts_and_a_developer_are_understood(client: openai.OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "Where is "}, {"type": "text", "text": "the fox?"}]
    texts = [
        client.chat.completions.create(
            model="helper",
            messages=[{"role": role, "content": "Be kind."}, {"role": "user", "content": content}],
            **DRAWN,
        )
        .choices[0]
        .message.content
        for role, content in (("system", "Where is the fox?"), ("developer", parts))
    ]
    assert texts[0] == texts[1]


def test_message_of_an_answer_can_be_sent_back(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="helper", messages=QUESTION, **DRAWN).choices[0].message
    messages = [*QUESTION, first.model_dump(), {"role": "user", "content": "And the dog?"}]
    assert client.chat.completions.create(model="helper", messages=messages, **DRAWN).choices


def test_old_messages_are_dropped_and_the_answer_says_so(client: openai.OpenAI, endpoint: Endpoint) -> None:
    old: Any = [{"role": "user", "content": "The dog sleeps. " * 40}, {"role": "assistant", "content": "Yes."}]
    answer = client.chat.completions.create(model="helper", messages=[*old, *QUESTION], **DRAWN)
    assert answer.dropped_messages == 2
    [expected] = answered(endpoint.models["helper"], QUESTION)
    assert answer.choices[0].message.content == expected.text


def test_text_cut_by_the_context_says_so(client: openai.OpenAI, endpoint: Endpoint) -> None:
    prompt = [5] * 251
    never = {str(endpoint.models["story"].tokenizer.end_of_text): -100}
    ends = [
        client.completions.create(model="story", prompt=prompt, max_tokens=n, temperature=0, logit_bias=never)
        for n in (4, 40)
    ]
    assert [end.choices[0].finish_reason for end in ends] == ["length", "length"]
    assert [getattr(end.choices[0], "llmcore_finish_reason", None) for end in ends] == [None, "context"]
    assert ends[1].usage is not None
    assert ends[1].usage.completion_tokens == 5


# ---- streams


@pytest.mark.parametrize("stop", [None, "e", ["zz", " a"]])
@pytest.mark.parametrize("n", [1, 3])
def test_stream_has_the_text_and_the_end_of_the_whole_answer(client: openai.OpenAI, stop: Any, n: int) -> None:
    options = {"model": "story", "prompt": [TEXT, "A dog"], "n": n, "stop": stop, **DRAWN}
    whole = client.completions.create(**options)
    texts = [""] * (2 * n)
    ends = [""] * (2 * n)
    for chunk in client.completions.create(**options, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]


def test_stream_of_a_chat_begins_with_the_role_and_ends_with_usage(client: openai.OpenAI) -> None:
    options: Any = {"model": "helper", "messages": QUESTION, "logprobs": True, "top_logprobs": 2, **DRAWN}
    whole = client.chat.completions.create(**options)
    chunks = list(client.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [choice for chunk in chunks for choice in chunk.choices]
    assert "".join(choice.delta.content or "" for choice in deltas) == whole.choices[0].message.content
    streamed = [token for choice in deltas if choice.logprobs for token in choice.logprobs.content]
    assert [token.model_dump() for token in streamed] == [
        token.model_dump() for token in whole.choices[0].logprobs.content
    ]
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage


def test_stream_ends_with_done_as_server_sent_events(endpoint: Endpoint) -> None:
    found = endpoint.post("/v1/completions", {"model": "story", "prompt": TEXT, "stream": True, **DRAWN})
    assert found.headers["content-type"].startswith("text/event-stream")
    events = found.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: {") for event in events[:-2])


# ---- settings


def test_usage_counts_tokens(client: openai.OpenAI, endpoint: Endpoint) -> None:
    texts = [TEXT, "A dog"]
    answer = client.completions.create(model="story", prompt=texts, n=2, **DRAWN)
    served = endpoint.models["story"]
    read = sum(map(len, text_prompts(served.tokenizer, texts).ids))
    written = sum(len(continuation.tokens) for continuation in continued(served, texts, n=2))
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (read, written)
    assert answer.usage.total_tokens == read + written


def test_stop_strings_end_a_text_before_them(client: openai.OpenAI, endpoint: Endpoint) -> None:
    [whole] = continued(endpoint.models["story"], [TEXT])
    stop = whole.text[4:6]
    answer = client.completions.create(model="story", prompt=TEXT, stop=stop, **DRAWN)
    assert answer.choices[0].text == whole.text[: whole.text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_seed_repeats_and_is_reported_where_it_was_drawn(client: openai.OpenAI) -> None:
    options = {"model": "story", "prompt": TEXT, "max_tokens": 12, "temperature": 1.5}
    drawn = [client.completions.create(**options) for _ in range(3)]
    assert len({answer.choices[0].text for answer in drawn}) == 3
    again = client.completions.create(**options, seed=drawn[0].seed)
    assert again.choices[0].text == drawn[0].choices[0].text


def test_settings_are_those_of_the_command_line(client: openai.OpenAI, endpoint: Endpoint) -> None:
    ours = {"top_k": 9, "min_p": 0.02, "repetition_penalty": 1.3, "prompt_lookup_num_tokens": 3}
    answer = client.completions.create(
        model="story",
        prompt=TEXT,
        frequency_penalty=0.5,
        presence_penalty=0.4,
        logit_bias={"7": -100, "11": -100},
        extra_body=ours,
        **DRAWN,
    )
    same = {"frequency_penalty": 0.5, "presence_penalty": 0.4, "suppress_tokens": (7, 11), **ours}
    [expected] = continued(endpoint.models["story"], [TEXT], **same)
    assert answer.choices[0].text == expected.text
    assert expected.text != continued(endpoint.models["story"], [TEXT])[0].text


def test_defaults_are_those_of_the_commands(client: openai.OpenAI, endpoint: Endpoint) -> None:
    text = client.completions.create(model="story", prompt=TEXT, seed=3, max_tokens=12)
    story = continued(endpoint.models["story"], [TEXT], temperature=0.8, top_p=0.95, seed=3)
    assert text.choices[0].text == story[0].text
    chat = client.chat.completions.create(model="helper", messages=QUESTION)
    answer = answered(endpoint.models["helper"], QUESTION, temperature=0.0, max_new_tokens=LIMITS.max_tokens)
    assert chat.choices[0].message.content == answer[0].text


# ---- log-probabilities


def own_logprobs(served: ServedModel, prompt: list[int], written: list[int]) -> torch.Tensor:
    """Return log-probabilities of the whole vocabulary at each written token: (T, V), by one pass without a cache."""
    with torch.no_grad():
        logits = served.language_model(torch.tensor([prompt + written]))[0]
    return logits.double().log_softmax(-1)[len(prompt) - 1 : -1]


def test_logprobs_of_a_text_are_the_model_s(client: openai.OpenAI, endpoint: Endpoint) -> None:
    served = endpoint.models["story"]
    [expected] = continued(served, [TEXT], top_logprobs=0)
    ids = [token.token for token in expected.tokens if token.finish_reason != "stop"]
    own = own_logprobs(served, text_prompts(served.tokenizer, [TEXT]).ids[0], ids)
    choice = client.completions.create(model="story", prompt=TEXT, logprobs=3, **DRAWN).choices[0]
    found = choice.logprobs
    assert found is not None
    assert found.token_logprobs == pytest.approx(own[range(len(ids)), ids].tolist(), abs=1e-5)
    for alternatives, row in zip(found.top_logprobs, own, strict=True):
        assert max(alternatives.values()) == pytest.approx(float(row.max()), abs=1e-5)
        assert 1 <= len(alternatives) <= 4
    for token, offset in zip(found.tokens, found.text_offset, strict=True):
        assert INCOMPLETE in token or choice.text[offset:].lstrip(INCOMPLETE).startswith(token)


@pytest.mark.parametrize("stop", ["", "begin", "middle"])
def test_logprobs_are_those_of_tokens_that_begin_before_a_stop_string(
    client: openai.OpenAI, endpoint: Endpoint, stop: str
) -> None:
    """Two prompts of two rows; the stop string begins with the ninth token of the second row, or within it."""
    served = endpoint.models["story"]
    ascii_only = {
        str(id): -100 for id in range(served.tokenizer.vocab_size) if not served.tokenizer.decode([id]).isascii()
    }
    options: Any = {"model": "story", "prompt": [TEXT, "A dog"], "n": 2, "logprobs": 0, "logit_bias": ascii_only}
    options |= DRAWN | {"max_tokens": 20}
    whole = client.completions.create(**options).choices
    for choice in whole:
        offsets = [len("".join(choice.logprobs.tokens[:place])) for place in range(len(choice.logprobs.tokens))]
        assert choice.logprobs.text_offset == offsets
    if not stop:
        return
    begin = whole[1].logprobs.text_offset[8] + (stop == "middle")
    options["stop"] = whole[1].text[begin : begin + 6]
    found = client.completions.create(**options).choices
    streamed: dict[int, list[tuple[str, float, int]]] = {row: [] for row in range(4)}
    for chunk in client.completions.create(**options, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += tokens_of(choice)
    assert len(found[1].text) < len(whole[1].text)
    for row, (cut, uncut) in enumerate(zip(found, whole, strict=True)):
        assert tokens_of(cut) == [token for token in tokens_of(uncut) if token[2] < len(cut.text)] == streamed[row]


def tokens_of(choice: Any) -> list[tuple[str, float, int]]:
    """Return (text, logprob, offset) of each token that is reported."""
    found = choice.logprobs
    return list(zip(found.tokens, found.token_logprobs, found.text_offset, strict=True)) if found else []


def test_logprobs_of_a_chat_are_the_model_s(client: openai.OpenAI, endpoint: Endpoint) -> None:
    served = endpoint.models["helper"]
    [expected] = answered(served, QUESTION, top_logprobs=0)
    ids = [token.token for token in expected.tokens if token.finish_reason != "stop"]
    assert served.form is not None
    own = own_logprobs(served, chat_prompt(served.tokenizer, served.form, QUESTION).ids[0], ids)
    answer = client.chat.completions.create(model="helper", messages=QUESTION, logprobs=True, top_logprobs=2, **DRAWN)
    content = answer.choices[0].logprobs.content
    assert [token.logprob for token in content] == pytest.approx(own[range(len(ids)), ids].tolist(), abs=1e-5)
    for token, row in zip(content, own, strict=True):
        best = [other.logprob for other in token.top_logprobs]
        assert best == pytest.approx(row.topk(2).values.tolist(), abs=1e-5)
        assert token.bytes is None or bytes(token.bytes).decode() == token.token


# ---- classes


def test_classes_come_as_the_likeliest(endpoint: Endpoint) -> None:
    texts = ["The brown fox", "A dog sleeps. " * 30]
    served = endpoint.models["sorter"]
    expected = classify_texts(served.classifier, served.tokenizer, texts, batch_size=2)
    found = endpoint.post("/classify", {"model": "sorter", "input": texts, "top_k": 2}).json()
    for row, chances in zip(found["data"], expected, strict=True):
        values, places = chances.topk(2)
        assert row["label"] == served.classifier.labels[int(chances.argmax())]
        assert [of["label"] for of in row["probabilities"]] == [served.classifier.labels[place] for place in places]
        assert [of["probability"] for of in row["probabilities"]] == pytest.approx(values.tolist())
    assert found["truncated"] == [False, True]
    everything = endpoint.post("/classify", {"model": "sorter", "input": texts[0]}).json()
    assert sum(of["probability"] for of in everything["data"][0]["probabilities"]) == pytest.approx(1)


def test_health_says_ok(endpoint: Endpoint) -> None:
    with running({}) as empty:
        assert empty.client().models.list().data == []
    assert endpoint.client().with_options(base_url=endpoint.url).get("/health", cast_to=object) == {"status": "ok"}
