"""A chat: turns in the model's template, history cut to fit, commands, Ctrl-C."""

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structure import ROOT
from tiny import generation

from llmcore.base.errors import UserError
from llmcore.config.generation import GenerationConfig
from llmcore.generate.chat import Chat
from llmcore.generate.decode import decode
from llmcore.generate.write import fit_chat
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.prompt import encode_chat

CONTEXT = 400


@pytest.fixture(scope="module")
def model(tokenizer: Any, randomised: Any) -> Any:
    config = GPT2Config(tokenizer.vocab_size, CONTEXT, 2, 2, 16, dropout=0.0, tied_head=True, qkv_bias=True)
    return randomised(new_model(config), seed=2).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Any, tokenizer: Any) -> Path:
    from llmcore.model.folder import save_language_model

    folder = tmp_path_factory.mktemp("models") / "instruct"
    save_language_model(folder, model, tokenizer=tokenizer, origin={}, extra={"prompt_form": "alpaca"})
    return folder


def chat_of(model: Any, tokenizer: Any, config: GenerationConfig) -> Chat:
    return Chat(model, tokenizer, "alpaca", config)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_are_those_of_the_whole_chat_read_at_once(model: Any, tokenizer: Any, temperature: float) -> None:
    """Though the keys and values of the last turn are kept."""
    config = generation(6, temperature, seed=3)
    chat = chat_of(model, tokenizer, config)
    for message in ("Anna had a ball.", "Who has the ball?", "Why?"):
        answer = "".join(chat.say(message))
        prompt = encode_chat(tokenizer, "alpaca", chat.messages[:-1])
        [expected] = decode(model, [prompt], config, stop_ids={tokenizer.end_of_text})
        assert answer == tokenizer.decode(expected.ids, skip_special_tokens=True)
        assert chat.messages[-1] == {"role": "assistant", "content": answer.strip()}


def test_the_last_turn_is_not_read_again(model: Any, tokenizer: Any) -> None:
    chat = chat_of(model, tokenizer, generation(4))
    "".join(chat.say("Anna had a ball. " * 3))
    read: list[int] = []
    handle = model.body.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].shape[1]))
    "".join(chat.say("Why?"))
    handle.remove()
    assert read[0] < len(encode_chat(tokenizer, "alpaca", chat.messages[:-1])) / 2


def test_a_stop_string_ends_an_answer_before_it(model: Any, tokenizer: Any) -> None:
    whole = "".join(chat_of(model, tokenizer, generation(20)).say("Anna"))
    stop = whole[5:7]
    chat = chat_of(model, tokenizer, generation(20, stop=(stop,)))
    assert "".join(chat.say("Anna")) == whole[: whole.index(stop)]
    assert chat.finish_reason == "stop"


def test_the_oldest_messages_are_left_out_where_the_context_is_full(model: Any, tokenizer: Any) -> None:
    chat = chat_of(model, tokenizer, generation(8))
    chat.messages.append({"role": "system", "content": "Be short."})
    dropped = []
    for _ in range(6):
        "".join(chat.say("Anna gave the ball to Ben. " * 2))
        dropped.append(chat.dropped)
    assert dropped[0] == 0
    assert dropped[-1] > 0
    assert all(number % 2 == 0 for number in dropped)  # a question with its answer
    kept, number = fit_chat(model, tokenizer, "alpaca", chat.messages[:-1], 8)
    assert kept[0]["role"] == "system"
    assert len(kept) == len(chat.messages) - 1 - number
    assert len(encode_chat(tokenizer, "alpaca", kept)) <= CONTEXT - 8


def test_an_answer_is_left_out_with_its_question(model: Any, tokenizer: Any) -> None:
    """Though without the question alone the chat would fit."""
    chat = [("user", "Anna had a ball. " * 80), ("assistant", "Yes."), ("user", "Why?")]
    messages = [{"role": role, "content": content} for role, content in chat]
    assert fit_chat(model, tokenizer, "alpaca", messages, 8) == (messages[2:], 2)


def test_a_message_that_is_too_long_alone_is_refused_and_forgotten(model: Any, tokenizer: Any) -> None:
    chat = chat_of(model, tokenizer, generation(8))
    "".join(chat.say("Anna"))
    with pytest.raises(UserError, match=r"^messages: must have at most 392 tokens, got \d+ with the last one; "):
        "".join(chat.say("ball " * 300))
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]


def test_an_answer_that_is_broken_off_stays_as_far_as_it_was_written(model: Any, tokenizer: Any) -> None:
    chat = chat_of(model, tokenizer, generation(50))
    pieces = chat.say("Anna")
    begun = "".join(next(pieces) for _ in range(5))
    pieces.close()  # type: ignore[attr-defined]
    assert chat.messages[-1] == {"role": "assistant", "content": begun.strip()}
    prompt = encode_chat(tokenizer, "alpaca", [*chat.messages, {"role": "user", "content": "Go on."}])
    [expected] = decode(model, [prompt], chat.config, stop_ids={tokenizer.end_of_text})
    assert "".join(chat.say("Go on.")) == tokenizer.decode(expected.ids, skip_special_tokens=True)


def test_an_error_within_a_guessed_step_loses_neither_the_chat_nor_the_next_answer(model: Any, tokenizer: Any) -> None:
    """What was guessed and not confirmed is in the cache then."""
    config = generation(30, prompt_lookup_num_tokens=6, suppress_tokens=(tokenizer.end_of_text,))
    chat = chat_of(model, tokenizer, config)
    first = "".join(chat.say("ball ball ball ball ball"))

    def fail(_: Any, inputs: Any) -> None:
        if inputs[0].shape[0] > 1:  # several positions of one row
            raise UserError("model: broken")

    handle = model.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(UserError, match=r"^model: broken"):
        "".join(chat.say("ball ball ball ball ball ball"))
    handle.remove()
    assert len(chat.messages) == 2
    assert "".join(chat_of(model, tokenizer, config).say("ball ball ball ball ball")) == first
    prompt = encode_chat(tokenizer, "alpaca", [*chat.messages, {"role": "user", "content": "Go on."}])
    [expected] = decode(model, [prompt], generation(30, suppress_tokens=(tokenizer.end_of_text,)), stop_ids=())
    assert "".join(chat.say("Go on.")) == tokenizer.decode(expected.ids, skip_special_tokens=True)


def test_ids_that_are_not_in_the_vocabulary_are_refused_at_the_start(model: Any, tokenizer: Any) -> None:
    with pytest.raises(UserError, match=r"^suppress_tokens: must be ids from 0 to"):
        chat_of(model, tokenizer, generation(3, suppress_tokens=(99_999,)))


# ---- the command


@pytest.fixture
def talk(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    from llmcore.cli import main

    def call(text: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
        code = main(["chat", "--model", str(folder), "--max-new-tokens", "5", *options])
        return code, *capsys.readouterr()

    return call


def test_a_chat_from_standard_input(talk: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    code, out, _ = talk(f"Anna had a ball.\nWhy?\n/save {file}\n/quit\nnot read\n")
    messages = json.loads(file.read_text())["messages"]
    assert code == 0
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert out.splitlines()[-1] == f"{file}: 4 messages"
    assert talk(f"/save {file}\n")[2] == f"error: {file}: exists already; choose another name\n"


def test_commands(talk: Callable[..., Any]) -> None:
    code, out, errors = talk("/help\n/reset\n/temperature 0.5\n/seed 7\n/nonsense\n/seed x\n/temperature -1\n/save\n")
    assert code == 0
    assert "/quit" in out
    assert errors.splitlines() == [
        "error: /nonsense: is no command; /help lists them",
        "error: /seed: must be followed by a number, got 'x'; correct it",
        "error: /temperature: must be 0 or more, got -1.0; correct it",
        "error: /save: must be followed by a file's name, such as /save chat.json",
    ]


def test_seed_and_temperature_change_the_answer(talk: Callable[..., Any]) -> None:
    greedy = talk("Anna\n")[1]
    drawn = [talk(f"/temperature 2\n/seed {seed}\nAnna\n")[1] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != greedy


def test_reset_forgets(talk: Callable[..., Any]) -> None:
    once = talk("Anna\n")[1]
    again = talk("Ben had a ball.\n/reset\nAnna\n")[1]
    assert again.splitlines()[-1] == once.splitlines()[-1]


def test_a_terminal_has_line_editing_and_ctrl_d_ends(folder: Path) -> None:
    """Typed: a word, Ctrl-U takes it back, another one; then Ctrl-D."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "llmcore.cli", "chat", "--model", str(folder), "--max-new-tokens", "3"]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    try:
        wait_for(ours, b">")
        os.write(ours, b"wrong\x15/help\r")
        wait_for(ours, b"show this")
        wait_for(ours, b">")
        os.write(ours, b"\x04")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(ours)
        os.close(theirs)


def wait_for(terminal: int, text: bytes) -> None:
    seen, end = b"", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.2)[0]:
            new = os.read(terminal, 4096)
            seen += new
            if b"\x1b[6n" in new:  # prompt_toolkit asks where the cursor is
                os.write(terminal, b"\x1b[1;1R")
