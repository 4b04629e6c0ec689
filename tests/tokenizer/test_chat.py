"""Chats are written as transformers writes them, and nobody's text becomes a special token."""

from datetime import datetime
from pathlib import Path

import pytest
from tokenizer_files import HOSTILE, SPECIAL, TEMPLATES, learned, save
from transformers import AutoTokenizer

from llmcore.base.errors import UserError
from llmcore.tokenizer.chat import TODAY, chat_pieces, encode_pieces, render
from llmcore.tokenizer.load import load_tokenizer
from llmcore.tokenizer.prompt import answer_end, encode_prompt
from llmcore.tokenizer.tokenizer import Tokenizer

NAMES = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
TURNS = [("system", "Be short."), ("user", "Anna had a ball?"), ("assistant", "Yes."), ("user", "12  of them")]


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@pytest.fixture(params=TEMPLATES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save(tmp_path, learned(), TEMPLATES[request.param])


@pytest.fixture
def chatting(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.mark.parametrize("turns", [TURNS, TURNS[:2], TURNS[1:2], TURNS[1:]])
@pytest.mark.parametrize("asks", [True, False])
def test_text_and_ids_are_those_of_transformers(
    folder: Path, chatting: Tokenizer, turns: list[tuple[str, str]], asks: bool
) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    template = str(chatting.chat_template)
    text = render(template, chat(*turns), chatting.special_tokens_map, add_generation_prompt=asks)
    assert text == theirs.apply_chat_template(chat(*turns), tokenize=False, add_generation_prompt=asks)
    ids = encode_pieces(chatting, chat_pieces(chatting, template, chat(*turns), add_generation_prompt=asks))
    assert ids == theirs.apply_chat_template(chat(*turns), add_generation_prompt=asks, return_dict=False)


@pytest.mark.parametrize("text", [text.strip() for text in HOSTILE if text.strip()])
def test_the_prompt_of_an_instruction_is_a_chat_of_one_message(folder: Path, chatting: Tokenizer, text: str) -> None:
    ids = encode_prompt(chatting, "template", f" {text} ", "").ids
    theirs = AutoTokenizer.from_pretrained(folder)
    expected = theirs.apply_chat_template(chat(("user", text)), add_generation_prompt=True, return_dict=False)
    if not any(token in text for token in SPECIAL):
        assert ids == expected
    assert chatting.decode(ids) == theirs.decode(expected)
    harmless = encode_prompt(chatting, "template", "x", "").ids
    assert [token for token in ids if token in range(4)] == [token for token in harmless if token in range(4)]


def test_an_input_follows_the_instruction_after_two_line_ends_and_the_mask_ends_before_it(chatting: Tokenizer) -> None:
    prompt = encode_prompt(chatting, "template", "Name the ball.", "<|im_end|> red")
    assert "user" in chatting.decode(prompt.ids)
    assert "Name the ball.\n\n<|im_end|> red<|im_end|>" in chatting.decode(prompt.ids)
    assert chatting.decode(prompt.ids[: prompt.n_instruction]).endswith("Name the ball.")


def test_an_answer_ends_with_the_special_token_that_the_template_writes_after_it(tmp_path: Path) -> None:
    """A base whose texts end with <|endoftext|> may still bring a template whose answers do not."""
    based = load_tokenizer(save(tmp_path, learned(), eos_token="<|endoftext|>"))
    assert (based.end_of_text, answer_end(based, "template"), answer_end(based, "alpaca")) == (0, 2, 0)
    plain = based.with_chat("{% for m in messages %}{{ m['content'] }}\n{% endfor %}", [])
    assert answer_end(plain, "template") == 0


def test_a_prompt_begins_as_the_models_texts_do(tmp_path: Path) -> None:
    begins = load_tokenizer(save(tmp_path, learned(bos=True)))
    assert encode_prompt(begins, "alpaca", "Say hi.", "").ids[:1] == begins.text_start == [1]
    assert (
        encode_prompt(begins, "template", "Say hi.", "").ids.count(1) == 3
    )  # the template's own: system, user, answer


def test_a_date_is_always_the_same_or_the_one_that_is_given() -> None:
    template = "{{ strftime_now('%d %b %Y') }}"
    assert render(template, [], {}, add_generation_prompt=False) == TODAY.strftime("%d %b %Y") == "26 Jul 2024"
    day = datetime(2030, 1, 2)
    assert render(template, [], {}, add_generation_prompt=False, now=day) == "02 Jan 2030"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% if %}", "Expected an expression"),
        ("{{ raise_exception('no system message') }}", "no system message"),
        ("{{ messages[9]['role'] }}", "no element 9"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 'a' + 1 }}", "can only concatenate"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for x in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{{ nothing.at.all }}", "'nothing' is undefined"),
        ("{% include 'secret' %}", "no loader"),
    ],
)
def test_a_template_that_fails_is_refused_in_one_line(template: str, message: str) -> None:
    with pytest.raises(UserError, match=f"chat_template: cannot write this chat .*{message}") as caught:
        render(template, chat(("user", "x")), NAMES, add_generation_prompt=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("template", ["no message", "{{ messages[0]['content'] }}{{ messages[0]['content'] }}"])
def test_a_template_must_write_the_message_once(tmp_path: Path, template: str) -> None:
    strange = load_tokenizer(save(tmp_path, learned(), template))
    with pytest.raises(UserError, match="chat_template: must write a user's message once"):
        encode_prompt(strange, "template", "Say hi.", "")
