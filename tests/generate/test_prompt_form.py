"""The prompt form is stored in the model's folder."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from llmcore.base.errors import UserError
from llmcore.generate.write import prompt_form
from llmcore.model.folder import save_language_model
from llmcore.model.transformer import LanguageModel
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.prompt import PROMPT_KEY


def saved(folder: Path, gpt: LanguageModel, tokenizer: BytePairTokenizer, **extra: str) -> Path:
    save_language_model(folder, gpt, tokenizer=tokenizer, origin={}, extra=extra)
    return folder


def test_the_form_is_read_back_and_transformers_keeps_it(
    tmp_path: Path, gpt: LanguageModel, tokenizer: BytePairTokenizer
) -> None:
    folder = saved(tmp_path / "ours", gpt, tokenizer, **{PROMPT_KEY: "phi3"})
    assert prompt_form(folder) == "phi3"
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    assert getattr(AutoConfig.from_pretrained(tmp_path / "theirs"), PROMPT_KEY) == "phi3"
    assert prompt_form(tmp_path / "theirs") == "phi3"


def test_without_a_prompt_form_alpacas_is_used(
    tmp_path: Path, gpt: LanguageModel, tokenizer: BytePairTokenizer
) -> None:
    assert prompt_form(saved(tmp_path, gpt, tokenizer)) == "alpaca"


def test_a_model_from_elsewhere_with_a_chat_template_is_asked_in_it(
    tmp_path: Path, gpt: LanguageModel, tokenizer: BytePairTokenizer
) -> None:
    assert prompt_form(saved(tmp_path, gpt, tokenizer.with_chat("{{ messages[0].content }}", []))) == "template"


def test_an_unknown_form_is_refused(tmp_path: Path, gpt: LanguageModel, tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(
        UserError, match=f"config.json: {PROMPT_KEY} must be one of alpaca, phi3, template, got 'chatml'"
    ):
        prompt_form(saved(tmp_path, gpt, tokenizer, **{PROMPT_KEY: "chatml"}))
