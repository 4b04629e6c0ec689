"""`llmcore export`: a model folder as a GGUF file that answers as the folder does, and a Modelfile with its prompts."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny import classifier_of, generation, llama_config
from tokenizer_files import TEMPLATES

from llmcore import cli
from llmcore.base.errors import UserError
from llmcore.base.files import sha256_file, sha256_folder
from llmcore.generate.decode import decode
from llmcore.generate.export import export_gguf
from llmcore.generate.info import describe
from llmcore.generate.modelfile import modelfile
from llmcore.generate.open import open_language_model
from llmcore.generate.write import prompt_form
from llmcore.model.folder import fingerprint, save_classifier, save_language_model
from llmcore.model.gguf import read_metadata
from llmcore.model.gguf_write import write_gguf
from llmcore.model.registry import new_model
from llmcore.run.inputs import hashes_of
from llmcore.tokenizer.chat import render
from llmcore.tokenizer.gguf import gguf_metadata
from llmcore.tokenizer.prompt import FORMS, PROMPT_KEY, chat_template, encode_prompt

KINDS = ["gpt2", "llama"]
CHATML = {
    "chatml": TEMPLATES["chatml"],  # with a system message of its own
    "plain chatml": "{% for message in messages %}<|im_start|>{{ message['role'] + '\n' + message['content'] }}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
}
TEXT = "Anna had a red ball. 12 bells"


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, config: Any, randomised: Any, tokenizer: Any, tmp_path: Path) -> Path:
    """An instruct folder with its own vocabulary; transformers knows no other number of GPT-2's positions."""
    shape = {
        "gpt2": replace(config, context_length=1024),
        "llama": replace(llama_config(), vocab_size=tokenizer.vocab_size, context_length=64),
    }
    chat = tokenizer.with_chat(chat_template(tokenizer, "alpaca"), [])
    origin = {"inputs": {}, "source": {"kind": "world", "licence": "CC0-1.0"}}
    model = randomised(new_model(shape[request.param]))
    save_language_model(tmp_path / "tale-1.5", model, tokenizer=chat, origin=origin, extra={PROMPT_KEY: "alpaca"})
    return tmp_path / "tale-1.5"


@pytest.fixture
def exported(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    export_gguf(folder, "f32")
    return tmp_path / "exports" / "tale-1.5" / "tale-1.5-f32.gguf"


def test_a_file_opens_as_the_folder_does(folder: Path, exported: Path) -> None:
    model, tokenizer = open_language_model(folder)
    for path in (exported, exported.parent):
        again, their_tokenizer = open_language_model(path)
        assert their_tokenizer.encode(TEXT) == tokenizer.encode(TEXT)
        assert their_tokenizer.stop_ids == tokenizer.stop_ids
        assert their_tokenizer.document_start == tokenizer.document_start
        ids = torch.tensor([tokenizer.encode(TEXT)])
        with torch.no_grad():
            assert torch.equal(again(ids), model(ids))
        assert prompt_form(path) == "alpaca"
        prompts = [encode_prompt(each, "alpaca", "Say 12.", "Ben").ids for each in (tokenizer, their_tokenizer)]
        assert prompts[0] == prompts[1]


@pytest.mark.parametrize("file_type", ["f32", "f16", "bf16", "q8_0"])
def test_transformers_writes_the_tokens_that_are_written_here(folder: Path, file_type: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.gguf"
    export_gguf(folder, file_type, out)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out.parent, gguf_file=out.name, dtype=torch.float32)
    model, tokenizer = open_language_model(out)
    ids = tokenizer.encode(TEXT)
    [found] = decode(model, [ids], generation(max_new_tokens=12), stop_ids=[])
    written = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False, eos_token_id=None)
    assert written[0, len(ids) :].tolist() == found.ids
    if file_type == "f32":
        [of_folder] = decode(open_language_model(folder)[0], [ids], generation(max_new_tokens=12), stop_ids=[])
        assert of_folder.ids == found.ids


LLAMA_CPP = """
import json, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.warmup = sys.argv[1], 64, 1, False
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
asked = {"prompt": sys.argv[2], "n_predict": 12, "temperature": 0, "top_k": 1}
found = server.handle_completions(asked)
found = found if isinstance(found, dict) else json.loads(found)
print("ANSWER", json.dumps([found["choices"][0]["text"], found["usage"]["prompt_tokens"]]), flush=True)
"""


@pytest.mark.parametrize("file_type", ["f32", "q8_0"])
def test_llama_cpp_reads_the_text_and_continues_it_as_here(folder: Path, file_type: str, tmp_path: Path) -> None:
    """Through the wheel xllamacpp, which brings llama.cpp; requirements-bench.lock has it."""
    pytest.importorskip("xllamacpp", reason="llama.cpp is not installed (make bench installs it)")
    out = tmp_path / "out" / "m.gguf"
    export_gguf(folder, file_type, out)
    model, tokenizer = open_language_model(out)
    ids = tokenizer.encode(TEXT)
    [found] = decode(model, [ids], generation(max_new_tokens=12), stop_ids=tokenizer.stop_ids)
    command = [sys.executable, "-c", LLAMA_CPP, str(out), TEXT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    [answer] = [line for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    assert json.loads(answer.removeprefix("ANSWER ")) == [tokenizer.decode(found.ids), len(ids)]


def test_the_file_says_where_it_comes_from(exported: Path) -> None:
    metadata = read_metadata(exported)
    assert metadata["general.name"] == "tale-1.5"
    assert metadata["general.license"] == "CC0-1.0"
    assert metadata["general.file_type"] == 0
    assert metadata["tokenizer.chat_template"] == FORMS["alpaca"].template


def test_a_folder_is_not_changed_by_its_export(folder: Path, tmp_path: Path) -> None:
    before = sha256_folder(folder)
    export_gguf(folder, "q8_0", tmp_path / "out" / "m.gguf")
    assert sha256_folder(folder) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Modelfile", "m.gguf"]


def test_the_command_exports_and_says_what_stays_f16(folder: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out" / "m.gguf"
    assert cli.run_command(["export", str(folder), "--to", "gguf", "--type", "q8_0", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: " in printed
    assert "whose rows are not whole blocks of 32 numbers, are F16" in printed
    assert f"ollama create tale-1.5 -f {out.parent / 'Modelfile'}" in printed


def test_a_classifier_is_refused(config: Any, randomised: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = randomised(classifier_of(config))
    save_classifier(tmp_path / "c", model, model.state_dict(), tokenizer=tokenizer, origin={})
    with pytest.raises(UserError, match=r"is a classifier, and llama\.cpp writes text; export a language model"):
        export_gguf(tmp_path / "c", "f32", tmp_path / "c.gguf")
    assert not (tmp_path / "c.gguf").exists()


def test_another_suffix_and_a_path_without_a_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out: must end in \.gguf"):
        export_gguf(folder, "f32", tmp_path / "m.bin")
    with pytest.raises(UserError, match="no such model folder"):
        export_gguf(tmp_path / "absent", "f32")


# ---- a file as a model folder


def test_the_hash_of_a_model_is_that_of_the_file(exported: Path) -> None:
    digest = sha256_file(exported)
    assert fingerprint(exported) == fingerprint(exported.parent) == digest
    assert hashes_of(weights=exported, base=exported.parent) == {"weights": digest, "base": digest}


def test_info_describes_the_file(exported: Path) -> None:
    model, tokenizer = open_language_model(exported)
    page = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in describe(exported).splitlines())
    assert page["file"] == str(exported)
    assert page["architecture"] == f"{model.config.model_type}, language model, in GGUF"
    assert page["parameters"] == f"{sum(p.numel() for p in model.parameters()):,}"
    assert page["tokenizer"] == f"gpt-2, {tokenizer.vocab_size} tokens"
    assert (page["licence"], page["chat template"], page["loads here"]) == ("CC0-1.0", "yes", "yes")


def test_a_folder_with_two_files_asks_for_one(exported: Path) -> None:
    (exported.parent / "other.gguf").write_bytes(exported.read_bytes())
    with pytest.raises(UserError, match=r"has 2 GGUF files; name one of them, such as .*other\.gguf"):
        open_language_model(exported.parent)


def test_a_damaged_file_is_one_line(exported: Path) -> None:
    exported.write_bytes(exported.read_bytes()[:5000])
    for use in (open_language_model, describe):
        with pytest.raises(UserError, match="not complete or damaged"):
            use(exported)


def test_a_vocabulary_that_is_larger_than_the_model_is_refused(folder: Path, tmp_path: Path) -> None:
    model, tokenizer = open_language_model(folder)
    metadata = gguf_metadata(tokenizer)  # type: ignore[arg-type]
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], "more"]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1]
    write_gguf(tmp_path / "m.gguf", model, "f32", metadata)
    with pytest.raises(UserError, match=r"tokenizer\.ggml\.tokens must be the model's \d+ at most"):
        open_language_model(tmp_path / "m.gguf")


# ---- the Modelfile


def as_ollama_writes(recipe: str, system: str, prompt: str) -> str:
    """The text that Ollama makes of a prompt: Go's template as far as it is used, cut at the answer."""
    found = re.search(r'^TEMPLATE """(.*?)"""$', recipe, re.DOTALL | re.MULTILINE)
    assert found
    default = re.search(r'^SYSTEM """(.*?)"""$', recipe, re.DOTALL | re.MULTILINE)
    system = system or (default[1] if default else "")
    text = re.sub(r"\{\{ if \.System \}\}(.*?)\{\{ end \}\}", r"\1" if system else "", found[1], flags=re.DOTALL)
    return text.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt).partition("{{ .Response }}")[0]


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("form", ["alpaca", "phi3", "chatml", "plain chatml"])
def test_ollama_writes_the_prompt_of_the_chat_template(form: str, system: str, tokenizer: Any) -> None:
    known = (FORMS[form].template if form in FORMS else CHATML.get(form)) or ""
    recipe = modelfile(tokenizer.with_chat(known, []), "m.gguf", 24)
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": "Say 12."})
    expected = render(known, messages, tokenizer.special_tokens_map, add_generation_prompt=True)
    assert as_ollama_writes(recipe, system, "Say 12.") == expected


def test_a_token_that_llama_cpp_puts_before_a_text_is_not_written_twice(tokenizer: Any) -> None:
    chat = tokenizer.with_chat("{{ bos_token }}" + str(FORMS["phi3"].template), [])
    chat.text_start = [chat.end_of_text]
    assert as_ollama_writes(modelfile(chat, "m.gguf", 24), "", "Hi") == "<|user|>\nHi\n<|assistant|>:\n"


def test_a_modelfile_decodes_as_the_commands_do(tokenizer: Any) -> None:
    chat = modelfile(tokenizer.with_chat(TEMPLATES["chatml"], []), "m.gguf", 24).splitlines()
    assert chat[0] == "FROM ./m.gguf"
    assert {"PARAMETER temperature 0", "PARAMETER repeat_penalty 1", "PARAMETER num_ctx 24"} <= set(chat)
    assert 'PARAMETER stop "<|endoftext|>"' in chat
    plain = modelfile(tokenizer, "m.gguf", 24).splitlines()
    assert 'TEMPLATE """<|endoftext|>{{ .Prompt }}"""' in plain
    assert {"PARAMETER temperature 0.8", "PARAMETER top_p 0.95"} <= set(plain)


@pytest.mark.parametrize(
    "template",
    [
        "{% for message in messages %}{{ message['content'] }}{{ message['content'] }}{% endfor %}",
        "{{ raise_exception('no') }}",
        TEMPLATES["qwen"],  # it leaves a system message out
        "{% for message in messages %}{{ loop.index }}{{ message['content'] }}{% endfor %}",
        *(str(FORMS["phi3"].template).replace("<|user|>", mark) for mark in ("{{", "}}", '""" ')),
        str(FORMS["phi3"].template).replace("<|user|>\n", "{"),
        str(FORMS["phi3"].template).replace("eos_token", '\'"""\''),
        str(FORMS["alpaca"].template).replace("eos_token", "'\"'"),
    ],
)
def test_a_template_that_go_cannot_say_is_left_to_ollama(template: str, tokenizer: Any) -> None:
    assert "TEMPLATE" not in modelfile(tokenizer.with_chat(template, []), "m.gguf", 24)
