"""An instruct folder chats in transformers: its pipeline gives the text that `llmcore ask` gives."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import generation
from tokenizer_files import CHATML, learned, save

from llmcore.cli import main
from llmcore.generate.open import open_language_model
from llmcore.generate.write import answer_instructions, prompt_form
from llmcore.model.folder import save_language_model
from llmcore.model.gpt2 import GPT2Config
from llmcore.model.registry import new_model
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.load import load_tokenizer
from llmcore.tokenizer.prompt import FORMS, PROMPT_KEY, answer_end, chat_template
from llmcore.tokenizer.tokenizer import Tokenizer

NEW_TOKENS = 24
ASKED = [
    ("What colour is Anna's ball?", ""),
    ("  Name the animal.\n", " Anna's cat found 12 bells. "),
    ("Write  the number\nbefore 1000.", "é 🐈"),
]


def instruct_folder(folder: Path, tokenizer: Tokenizer, form: str, config: GPT2Config, randomised: Any) -> Path:
    """A folder as finetune_instruct writes it, of a model with random weights."""
    rows = tokenizer.vocab_size + (0 if isinstance(tokenizer, BytePairTokenizer) else 3)  # a padded embedding
    model = randomised(new_model(replace(config, vocab_size=rows, context_length=400)))
    chatting = tokenizer.with_chat(chat_template(tokenizer, form), [answer_end(tokenizer, form)])
    save_language_model(folder, model, tokenizer=chatting, origin={}, extra={PROMPT_KEY: form})
    return folder


@pytest.fixture(params=["gpt2-alpaca", "gpt2-phi3", "fast-alpaca", "fast-phi3", "fast-template", "bos-alpaca"])
def folder(
    request: pytest.FixtureRequest, tmp_path: Path, tokenizer: BytePairTokenizer, config: GPT2Config, randomised: Any
) -> Path:
    kind, form = request.param.split("-")
    base: Tokenizer = tokenizer
    if kind != "gpt2":
        base = load_tokenizer(save(tmp_path / "base", learned(bos=kind == "bos"), CHATML))
    return instruct_folder(tmp_path / "instruct", base, form, config, randomised)


def content_of(folder: Path, instruction: str, input: str) -> str:
    """The message that a user of transformers writes for an instruction with an input."""
    gap = FORMS[prompt_form(folder)].before_input
    return instruction.strip() + (gap + input.strip() if input else "")


def test_the_pipeline_of_transformers_gives_the_text_of_ours(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline = transformers.pipeline("text-generation", str(folder), device="cpu", dtype=torch.float32)
    model, tokenizer = open_language_model(folder)
    ours = answer_instructions(model, tokenizer, prompt_form(folder), ASKED, generation(NEW_TOKENS))
    assert len({answer.text for answer in ours}) > 1
    for (instruction, input), answer in zip(ASKED, ours, strict=True):
        chat = [{"role": "user", "content": content_of(folder, instruction, input)}]
        [written] = pipeline(chat, max_new_tokens=NEW_TOKENS)
        reply = written["generated_text"][-1]
        assert (reply["role"], reply["content"].strip()) == ("assistant", answer.text)
    instruction, input = ASKED[1]
    options = ["--input", input, "--model", str(folder), "--temperature", "0", "--max-new-tokens", str(NEW_TOKENS)]
    capsys.readouterr()
    assert main(["ask", instruction, *options]) == 0
    assert capsys.readouterr().out == ours[1].text + "\n"


def test_the_folder_says_how_to_chat_and_where_to_stop(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["chat_template"] == load_tokenizer(folder).chat_template
    settings = transformers.GenerationConfig.from_pretrained(folder)
    tokenizer = load_tokenizer(folder)
    assert settings.do_sample is False
    assert (settings.eos_token_id, settings.pad_token_id) == (tokenizer.end_of_text, tokenizer.pad_id)
    values = json.loads((folder / "config.json").read_text())
    assert (values["eos_token_id"], values["pad_token_id"]) == (tokenizer.end_of_text, tokenizer.pad_id)


def test_an_answer_stops_at_the_end_that_was_learned(tmp_path: Path, config: GPT2Config, randomised: Any) -> None:
    """The base's texts end with <|endoftext|>, its template's answers with <|im_end|>: both stop."""
    base = load_tokenizer(save(tmp_path / "base", learned(), CHATML, eos_token="<|endoftext|>"))
    folder = instruct_folder(tmp_path / "instruct", base, "template", config, randomised)
    model, tokenizer = open_language_model(folder)
    assert tokenizer.stop_ids == {0, 2}
    assert transformers.GenerationConfig.from_pretrained(folder).eos_token_id == [0, 2]
    always(model, 2)
    [answer] = answer_instructions(model, tokenizer, "template", [("Say hi.", "")], generation(3))
    assert (answer.text, answer.ended) == ("", True)
    always(model, 1)
    [answer] = answer_instructions(model, tokenizer, "template", [("Say hi.", "")], generation(3))
    assert (answer.text, answer.ended) == ("", False)  # special tokens are no text


def always(gpt: Any, token: int) -> None:
    """Make a model write one token for ever."""
    with torch.no_grad():
        gpt.transformer.ln_f.weight.zero_()
        gpt.transformer.ln_f.bias.fill_(1.0)
        gpt.lm_head.weight.zero_()
        gpt.lm_head.weight[token] = 1.0
