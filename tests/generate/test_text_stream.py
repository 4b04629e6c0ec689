"""Text that is released piece by piece is, put together, the text of all tokens, up to a stop string."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_files import learned, save
from tokenizers import decoders, pre_tokenizers

from llmcore.generate.text_stream import TextStream, next_text, token_texts
from llmcore.generate.write import text_behind
from llmcore.tokenizer.load import load_tokenizer
from llmcore.tokenizer.tokenizer import Tokenizer

HOSTILE = [
    "caf\u00e9 \U0001f600!",
    "\ud55c\uad6d\uc5b4",
    "  two  spaces\n\n",
    "e\u0301\u0301",
    "\u200d\U0001f469\u200d\U0001f467",
    "",
]


@pytest.fixture(scope="module", params=["bytes", "sentencepiece"])
def any_tokenizer(
    request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Tokenizer:
    if request.param == "bytes":
        return tokenizer
    made = learned(pre_tokenizers.Metaspace(), alphabet=False)
    made.decoder = decoders.Metaspace()
    return load_tokenizer(save(tmp_path_factory.mktemp("fast"), made))


def released(tokenizer: Tokenizer, prompt: list[int], ids: list[int], stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(tokenizer, prompt, stop)
    pieces = [stream.push(token) for token in ids]
    return [*pieces, stream.flush()]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_pieces_of_any_tokens_are_the_text_of_all(any_tokenizer: Tokenizer, data: st.DataObject) -> None:
    tokens = st.integers(0, any_tokenizer.vocab_size - 1)
    prompt = any_tokenizer.encode(data.draw(st.sampled_from(["Anna had", "a ", "", "caf\u00e9"])))
    ids = data.draw(st.lists(tokens, max_size=20))
    text = text_behind(any_tokenizer, prompt, ids)
    if "\ufffd" not in text:
        assert "".join(released(any_tokenizer, prompt, ids)) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_character_is_released_when_it_is_whole(any_tokenizer: Tokenizer, text: str) -> None:
    prompt = any_tokenizer.encode("Anna")
    ids = any_tokenizer.encode("Anna" + text)[len(prompt) :]
    pieces = released(any_tokenizer, prompt, ids)
    assert not any("\ufffd" in piece for piece in pieces)
    assert "".join(pieces) == text_behind(any_tokenizer, prompt, ids)


def test_what_is_no_text_at_the_end_is_shown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("\U0001f600")[:-1]
    assert released(tokenizer, tokenizer.encode("a"), ids)[-1].startswith("\ufffd")


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("abc", max_size=14),
    stop=st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_the_text_ends_before_the_first_stop_string_and_not_before(
    tokenizer: Tokenizer, text: str, stop: list[str]
) -> None:
    """No piece ever holds a part of the stop string, however it is cut into tokens."""
    ids = [token for character in text for token in tokenizer.encode(character)]
    prompt = tokenizer.encode("x")
    stream = TextStream(tokenizer, prompt, tuple(stop))
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.flush())
    ends = [n for n in range(len(text) + 1) if any(text[:n].endswith(one) for one in stop)]
    if not ends:
        assert ("".join(pieces), stream.stopped) == (text, False)
        return
    before = text[: ends[0]]
    assert stream.stopped
    assert "".join(pieces) == min((before[: before.find(one)] for one in stop if one in before), key=len)


def test_nothing_is_held_back_longer_than_needed(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer, tokenizer.encode("x"), ("aab",))
    pieces = [stream.push(token) for character in "caac" for token in tokenizer.encode(character)]
    assert pieces == ["c", "", "", "aac"]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_tokens_are_together_the_text(any_tokenizer: Tokenizer, text: str) -> None:
    ids = [*any_tokenizer.document_start, *any_tokenizer.encode(text)]
    texts = token_texts(any_tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == any_tokenizer.decode(ids)
    assert not any(character in "".join(texts) for character in "\ufffd")


def test_a_token_has_the_space_that_it_has_behind_others(any_tokenizer: Tokenizer) -> None:
    first, *others = any_tokenizer.encode("Anna had a ball")
    for count, token in enumerate(others):
        before = [first, *others[:count]]
        whole = any_tokenizer.decode([*before, token])
        assert any_tokenizer.decode(before) + next_text(any_tokenizer, before, token) == whole
    assert any(text.startswith(" ") for text in token_texts(any_tokenizer, [first, *others]))


def test_a_prompt_that_ends_within_a_character_holds_nothing_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("\U0001f600 a b")
    stream = TextStream(tokenizer, ids[:2], (" b",))
    pieces = [stream.push(token) for token in ids[2:]]
    assert "".join(pieces) == "\U0001f600 a"
    assert stream.stopped
