"""A tokenizer.json gives the ids of transformers, keeps users' special tokens ordinary, and is written as it was."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizer_files import CHATML, HOSTILE, SPECIAL, learned, save, smollm
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from llmcore.base.errors import UserError
from llmcore.generate.write import text_behind
from llmcore.model.folder import fingerprint
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.tokenizer.fast import FastTokenizer, load_fast_tokenizer
from llmcore.tokenizer.load import load_tokenizer
from llmcore.tokenizer.prompt import encode_prompt
from llmcore.tokenizer.tokenizer import Tokenizer

MAX_SECONDS = 60  # quadratic time would be hours


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "theirs", learned())


@pytest.fixture
def fast(folder: Path) -> FastTokenizer:
    return load_fast_tokenizer(folder)


def test_the_form_of_a_folder_decides_its_class(folder: Path, tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    tokenizer.save(folder)
    assert isinstance(load_tokenizer(folder), FastTokenizer)  # tokenizer.json wins
    tokenizer.save(tmp_path / "gpt2")
    assert isinstance(load_tokenizer(tmp_path / "gpt2"), BytePairTokenizer)


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("declared", ["TokenizersBackend", "GPT2Tokenizer", "LlamaTokenizerFast"])
@pytest.mark.parametrize("pre", ["smollm", "gpt2"])
def test_transformers_opens_what_is_written_with_equal_ids(tmp_path: Path, bos: bool, declared: str, pre: str) -> None:
    """GPT2Tokenizer, the class that SmolLM2 declares, would put its own pre-tokenizer in the place of the file's."""
    cut = smollm() if pre == "smollm" else pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = save(tmp_path / "theirs", learned(cut, bos=bos))
    change(folder / "tokenizer_config.json", tokenizer_class=declared, add_bos_token=bos, add_prefix_space=False)
    ours = load_tokenizer(folder)
    ours.save_for_transformers(tmp_path / "ours", 64)
    kind = "gpt2" if declared == "GPT2Tokenizer" else "llama"
    (tmp_path / "ours/config.json").write_text(f'{{"model_type": "{kind}"}}')
    theirs = AutoTokenizer.from_pretrained(tmp_path / "ours")
    for text in HOSTILE:
        if not any(token in text for token in SPECIAL):
            assert [*ours.text_start, *ours.encode(text)] == theirs.encode(text)
            assert ours.decode(ours.encode(text)) == text
    assert theirs.model_max_length == 64
    assert (theirs.chat_template, theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (CHATML, 1, 2, 2)


@pytest.mark.parametrize("text", [text for text in HOSTILE if "<" in text])
def test_special_tokens_in_a_text_are_ordinary_and_in_a_template_are_not(fast: FastTokenizer, text: str) -> None:
    assert not set(fast.encode(text)) & set(fast.special_tokens.values())
    assert fast.decode(fast.encode(text), skip_special_tokens=True) == text
    special = sum(text.count(token) for token in SPECIAL)
    assert sum(token in fast.special_tokens.values() for token in fast.encode_special(text)) == special


def test_many_texts_have_the_ids_of_each(fast: FastTokenizer) -> None:
    assert list(fast.encode_stream(HOSTILE * 12)) == [fast.encode(text) for text in HOSTILE * 12]


def test_a_special_token_that_the_file_calls_ordinary_is_special_by_its_role(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = [token | {"special": False} for token in content["added_tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    fast = load_fast_tokenizer(folder)
    assert fast.end_of_text not in fast.encode("a<|im_end|>b")
    assert fast.encode_special("<|im_end|>") == [fast.end_of_text]


@pytest.mark.parametrize(
    ("roles", "bos", "end", "pad", "start"),
    [
        ({}, False, 2, 2, [0]),  # SmolLM2's: <|endoftext|> stands between documents
        ({}, True, 2, 2, [1]),  # Llama's: the post-processor's
        ({"eos_token": "<|endoftext|>", "pad_token": "<pad>"}, False, 0, 3, [0]),  # a base's
        ({"pad_token": "<pad>", "eos_token": "<|im_end|>"}, False, 2, 3, [0]),
    ],
)
def test_roles_of_special_tokens(
    tmp_path: Path, roles: dict[str, str], bos: bool, end: int, pad: int, start: list[int]
) -> None:
    fast = load_tokenizer(save(tmp_path, learned(bos=bos), **roles))
    assert (fast.end_of_text, fast.pad_id, fast.document_start) == (end, pad, start)
    assert fast.text_start == (start if bos else [])
    assert fast.stop_ids == {end}


def test_roles_may_be_objects_and_stand_in_another_file(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    roles = {key: config.pop(key) for key in ("bos_token", "eos_token", "pad_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    stored = {key: {"content": text, "lstrip": False} for key, text in roles.items()}
    (folder / "special_tokens_map.json").write_text(json.dumps(stored | {"additional_special_tokens": []}))
    fast = load_fast_tokenizer(folder)
    assert (fast.bos_id, fast.end_of_text, fast.special_tokens_map["pad_token"]) == (1, 2, "<|im_end|>")


def test_decoding_stops_at_all_that_the_generation_config_names(folder: Path, tmp_path: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0], "temperature": 0.6}')
    fast = load_fast_tokenizer(folder)
    assert (fast.end_of_text, fast.stop_ids) == (2, {2, 0})
    fast.save_for_transformers(tmp_path / "ours", 64)
    assert load_tokenizer(tmp_path / "ours").stop_ids == {2, 0}
    written = json.loads((tmp_path / "ours/generation_config.json").read_text())
    assert written == {"bos_token_id": 1, "do_sample": False, "eos_token_id": [2, 0], "pad_token_id": 2}


@pytest.mark.parametrize("form", ["file", "text", "list"])
def test_the_chat_template_is_found_where_transformers_keeps_it(folder: Path, form: str) -> None:
    if form != "file":
        (folder / "chat_template.jinja").unlink()
        several = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": CHATML}]
        change(folder / "tokenizer_config.json", chat_template=CHATML if form == "text" else several)
    assert load_tokenizer(folder).chat_template == AutoTokenizer.from_pretrained(folder).get_chat_template() == CHATML


def test_a_saved_folder_is_read_as_it_was_and_saved_again_as_it_is(folder: Path, tmp_path: Path) -> None:
    ours: Tokenizer = load_tokenizer(folder)
    for name in ("first", "second"):
        ours.save_for_transformers(tmp_path / name, 64)
        ours = load_tokenizer(tmp_path / name)
    assert (tmp_path / "first/tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    files = [
        sorted((path.name, path.read_bytes()) for path in (tmp_path / name).iterdir()) for name in ("first", "second")
    ]
    assert files[0] == files[1]


def test_ids_beyond_the_vocabulary_have_no_text(fast: FastTokenizer) -> None:
    assert fast.decode([*fast.encode("ball"), fast.vocab_size + 7]) == "ball"


def test_characters_that_the_vocabulary_cannot_spell_are_left_out_and_reported_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save(tmp_path, learned(alphabet=False))
    fast = load_fast_tokenizer(folder)
    assert list(fast.encode_stream(["Anna\u0004 had", "é日 a red ball", "ok"])) == [
        AutoTokenizer.from_pretrained(folder).encode(text) for text in ("Anna\u0004 had", "é日 a red ball", "ok")
    ]
    fast.encode("日")
    assert fast.decode(fast.encode("Anna\u0004 had")) == "Anna had"
    assert capsys.readouterr().err == (
        "tokenizer: 4 characters that it cannot spell were left out, as the vocabulary asks for\n"
    )


@pytest.mark.parametrize("run", ["a", "ab", " ", "\n", "中", "1", "!", "🐈"])
def test_a_million_characters_in_a_row_are_encoded(fast: FastTokenizer, run: str) -> None:
    text = run * (1_000_000 // len(run)) + "x"
    started = time.monotonic()
    assert fast.decode(fast.encode(text)) == text
    assert time.monotonic() - started < MAX_SECONDS


def test_a_stored_limit_of_length_cuts_nothing(tmp_path: Path) -> None:
    made = learned()
    made.enable_truncation(3)
    made.enable_padding(length=50)
    fast = load_fast_tokenizer(save(tmp_path, made))
    assert fast.decode(fast.encode("Anna had a red ball.")) == "Anna had a red ball."


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_fingerprint_of_a_model_covers_tokenizer_and_template(folder: Path, name: str) -> None:
    for file, content in {"config.json": "{}", "model.safetensors": "x"}.items():
        (folder / file).write_text(content)
    before = fingerprint(folder)
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert fingerprint(folder) != before


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda f: (f / "tokenizer.json").write_bytes((f / "tokenizer.json").read_bytes()[:-9]), "not a tokenizer"),
    "empty": (lambda f: (f / "tokenizer.json").write_text(""), "not a tokenizer"),
    "binary": (lambda f: (f / "tokenizer.json").write_bytes(b"\xff\xfe\0"), "not a tokenizer"),
    "other JSON": (lambda f: (f / "tokenizer.json").write_text("[]"), "not a tokenizer"),
    "unknown merge": (lambda f: broken(f, merges=["Q QQ"]), "not a tokenizer"),
    "huge id": (lambda f: broken(f, vocab={"a": 1 << 40}), "not a tokenizer"),
    "no end": (lambda f: without_end(f), r"must name the token that ends texts \(eos_token\)"),
    "role": (lambda f: change(f / "tokenizer_config.json", eos_token=["a"]), "eos_token must be a text"),
    "template": (lambda f: change(f / "tokenizer_config.json", chat_template=7), "chat_template must be"),
    "config": (lambda f: (f / "tokenizer_config.json").write_text("[]"), "must be a JSON object"),
    "stops": (lambda f: (f / "generation_config.json").write_text('{"eos_token_id": "x"}'), "eos_token_id must be"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_damaged_file_is_refused_in_one_line(folder: Path, name: str) -> None:
    damage, message = BREAKS[name]
    if name == "template":
        (folder / "chat_template.jinja").unlink()
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value)


def broken(folder: Path, **changes: object) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"] |= changes
    (folder / "tokenizer.json").write_text(json.dumps(content))


def without_end(folder: Path) -> None:
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content.replace("<|endoftext|>", "<|start|>"))
    change(folder / "tokenizer_config.json", eos_token="<none>")


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_normalizer_is_applied(tmp_path: Path) -> None:
    fast = load_tokenizer(save(tmp_path, learned(nfc=True)))
    assert fast.decode(fast.encode("cafe\u0301")) == normalizers.NFC().normalize_str("cafe\u0301") == "café"


def test_a_template_that_rewrites_a_message_is_refused(fast: FastTokenizer) -> None:
    rewriting = fast.with_chat("{% for m in messages %}{{ m.content | replace('a', 'b') }}{% endfor %}", [])
    assert encode_prompt(rewriting, "template", "no", "").ids == fast.encode("no")
    with pytest.raises(UserError, match="must write a user's message as it is, and rewrites 'a cat'"):
        encode_prompt(rewriting, "template", "a cat", "")


def test_tokens_behind_a_text_are_refused(tmp_path: Path) -> None:
    """A classifier would read another token here than in transformers."""
    made = learned()
    made.post_processor = processors.TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", 2)])
    with pytest.raises(UserError, match="its post_processor must put special tokens before a text only"):
        load_tokenizer(save(tmp_path, made))


def test_words_keep_their_spaces_behind_a_prompt(tmp_path: Path) -> None:
    """A decoder as Llama 2's drops the space before a text's first word."""
    words = ["<unk>", "</s>", "\u2581One", "\u2581cat", "\u2581sat"]
    made = tokenizers.Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(["<unk>", "</s>"])
    save(tmp_path, made)
    change(tmp_path / "tokenizer_config.json", eos_token="</s>", bos_token=None, pad_token=None, unk_token="<unk>")
    (tmp_path / "generation_config.json").unlink(missing_ok=True)
    tokenizer = load_tokenizer(tmp_path)
    assert text_behind(tokenizer, tokenizer.encode("One"), [3, 4]) == " cat sat"
