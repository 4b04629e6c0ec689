"""`llmcore export --to html`: a page that computes what PyTorch does, fetches nothing, and says what it cannot do.

Screenshots go to the folder named by LLMCORE_SCREENSHOTS, if it is set.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import Page, browsing, chromium
from page.looks import assert_readable, awaited, prefer, resize
from tiny import classifier_of, llama_config
from tokenizer_files import HOSTILE, learned, save

from llmcore import cli
from llmcore.base.errors import UserError
from llmcore.base.files import read_json, sha256_file
from llmcore.config.generation import GenerationConfig
from llmcore.generate.decode import decode
from llmcore.generate.open import open_language_model
from llmcore.model.folder import save_classifier, save_language_model
from llmcore.model.registry import new_model
from llmcore.page import one_file
from llmcore.page.one_file import NoPageError, export_html
from stages import export_html as stage

ORIGIN: dict[str, Any] = {"inputs": {}, "source": {"kind": "world", "licence": "CC0-1.0"}}
LOGITS = """(async (text) => {
  const { source } = llmcore;
  const { tokens } = await source.inspect(text);
  const logits = source.reading.ids.map((_, position) => Array.from(source.reading.logits(position)));
  return { ids: source.reading.ids, logits, shares: tokens.map(({ probability }) => probability) };
})(%s)"""
GENERATED = """(async (settings) => {
  const [abort, tokens] = [new AbortController(), []];
  for await (const written of llmcore.source.generate("Anna", () => settings, abort.signal)) {
    tokens.push(...(written.tokens ?? []));
    if (tokens.length >= Infinity) abort.abort();
  }
  return tokens;
})(%s)"""
CLICK = "[...document.querySelectorAll('button')].find((each) => each.textContent === %r).click()"
SET = "((input) => { input.value = %r; input.dispatchEvent(new Event('input')); })(document.querySelector(%r))"


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that needs Chromium."""
    return pytest.mark.ui(pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")(test))


@pytest.fixture(params=["gpt2", "llama"])
def folder(request: Any, config: Any, randomised: Any, tokenizer: Any, tmp_path: Path) -> Path:
    """A language model whose folder has a name that HTML would take for markup."""
    llama = replace(llama_config(), vocab_size=tokenizer.vocab_size, context_length=24)
    model = randomised(new_model({"gpt2": config, "llama": llama}[request.param]))
    save_language_model(tmp_path / "a<b>&", model, tokenizer=tokenizer, origin=ORIGIN)
    return tmp_path / "a<b>&"


def look_at(folder: Path, body: Callable[[Page], Awaitable[None]]) -> None:
    """Export a model, open the page and await `body`; nothing may be written to the console."""
    out = folder.parent / "page.html"
    export_html(folder, out)

    async def visit() -> None:
        async with browsing(1280, 900) as page:
            script = "globalThis.errors = []; addEventListener('error', (event) => errors.push(event.message));"
            await page.send("Page.enable")
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=script)
            await page.open(out.as_uri())
            await page.wait_for("document.querySelectorAll('.chip').length > 1")
            await body(page)
            assert await page.value("errors") == []

    asyncio.run(visit())


@in_browser
def test_logits_are_pytorchs(folder: Path) -> None:
    model, tokenizer = open_language_model(folder)

    async def body(page: Page) -> None:
        for text in HOSTILE[:20]:
            found = await awaited(page, LOGITS % json.dumps(text))
            ids = [*tokenizer.document_start, *tokenizer.encode(text)][: model.config.context_length]
            assert found["ids"] == ids
            with torch.no_grad():
                expected = model(torch.tensor([ids]))[0]
            assert torch.allclose(torch.tensor(found["logits"]), expected, rtol=0, atol=1e-4)
            shares = expected.softmax(-1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:], dtype=torch.long)]
            assert torch.allclose(torch.tensor(found["shares"][1:]), shares, rtol=0, atol=1e-5)

    look_at(folder, body)


@in_browser
def test_greedy_text_is_decodes_and_undo_takes_it_back(folder: Path) -> None:
    model, tokenizer = open_language_model(folder)
    prompt = [*tokenizer.document_start, *tokenizer.encode("Anna")]
    greedy: dict[str, Any] = {"max_new_tokens": 6, "temperature": 0, "top_k": 0, "top_p": 1, "seed": 0}
    [completion] = decode(model, [prompt], GenerationConfig(**greedy), stop_ids=tokenizer.stop_ids)

    async def body(page: Page) -> None:
        await page.value(SET % ("Anna", "textarea"))
        await page.value(SET % ("0", "[id^=temperature]"))
        await page.value(SET % ("6", "[id^=max_new_tokens]"))
        await page.value(CLICK % "Generate")
        await page.wait_for("/number of new tokens|ended the text/.test(document.querySelector('.status').textContent)")
        await asyncio.sleep(0.5)  # what was typed before is not looked at any more
        assert "number of new tokens" in await page.value("document.querySelector('.status').textContent")
        found = await awaited(page, GENERATED % json.dumps(greedy))
        assert [token["id"] for token in found] == completion.ids
        written = await page.value("document.querySelector('textarea').value")
        assert written == "Anna" + "".join(token["text"] for token in found)
        await page.value(CLICK % "Undo")
        assert await page.value("document.querySelector('textarea').value") == "Anna"

    look_at(folder, body)


@in_browser
def test_a_seed_gives_its_text_and_stop_stops(folder: Path) -> None:
    settings = {"temperature": 1.5, "top_k": 0, "top_p": 1, "max_new_tokens": 12}

    async def body(page: Page) -> None:
        first, again, other = [
            await awaited(page, GENERATED % json.dumps(settings | {"seed": seed})) for seed in (1, 1, 2)
        ]
        assert first == again != other
        assert len(await awaited(page, GENERATED.replace("Infinity", "2") % json.dumps(settings | {"seed": 1}))) == 2

    look_at(folder, body)


@in_browser
def test_a_full_context_is_said(folder: Path) -> None:
    async def body(page: Page) -> None:
        await page.value(SET % ("x " * 60, "textarea"))
        await page.wait_for_text("more do not fit")
        await page.value(CLICK % "Generate")
        await page.wait_for_text("context is full")

    look_at(folder, body)


@in_browser
def test_keys_choose_a_token_and_show_its_alternatives(folder: Path) -> None:
    async def body(page: Page) -> None:
        await page.value("document.querySelector('.strip').focus()")
        for _ in range(2):
            await page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        assert await page.value("document.querySelector('.chip[aria-selected]').nextElementSibling !== null")
        assert await page.value("document.querySelectorAll('.details li').length") == 5
        assert await page.value("document.querySelector('.strip').getAttribute('aria-activedescendant')")

    look_at(folder, body)


@in_browser
def test_attention_and_lens_are_drawn_for_all_readers(folder: Path) -> None:
    async def body(page: Page) -> None:
        await page.value("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        await page.wait_for("document.querySelectorAll('.lens td').length > 3")
        await page.wait_for("/looks at/.test(document.body.innerText)")
        await page.value("document.querySelectorAll('.strip').forEach((strip) => strip.focus())")
        await assert_readable(page)
        for scheme, width in [("light", 1280), ("dark", 390)]:
            if pictures := os.environ.get("LLMCORE_SCREENSHOTS"):
                await prefer(page, scheme)
                await resize(page, width, 2400)
                await page.screenshot(Path(pictures) / f"one-file-{folder.name[0]}-{scheme}-{width}.png")

    look_at(folder, body)


@in_browser
def test_nothing_is_fetched_and_nothing_can_be(folder: Path) -> None:
    async def body(page: Page) -> None:
        assert await page.value("performance.getEntriesByType('resource').map(({ name }) => name)") == []
        assert await awaited(page, "fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
        assert await page.value("document.querySelector('h1').textContent") == "a<b>&"

    look_at(folder, body)


# ---- the file


def test_equal_models_give_equal_bytes(folder: Path, tmp_path: Path, capsys: Any) -> None:
    first, second = tmp_path / "one" / "x.html", tmp_path / "y.html"
    export_html(folder, first)
    assert cli.main(["export", str(folder), "--to", "html", "--out", str(second)]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    assert sha256_file(first) == sha256_file(second)
    assert str(tmp_path) not in first.read_text(encoding="utf-8")


def test_a_classifier_is_refused(config: Any, randomised: Any, tokenizer: Any, tmp_path: Path) -> None:
    model = randomised(classifier_of(config))
    save_classifier(tmp_path / "c", model, model.state_dict(), tokenizer=tokenizer, origin=ORIGIN)
    with pytest.raises(UserError, match=r"c: is a classifier, .*; export a language model$"):
        export_html(tmp_path / "c", tmp_path / "c.html")


def test_a_large_model_is_refused_and_the_stage_says_why(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_file, "MAX_WEIGHT_BYTES", 1000)
    monkeypatch.setenv("LLMCORE_TRACKING", "off")
    with pytest.raises(
        NoPageError, match=r"must be at most 0 MB for a page, got .* MB; export a smaller model"
    ) as refused:
        export_html(folder, tmp_path / "x.html")
    assert "\n" not in str(refused.value)
    stage.main([str(folder), str(tmp_path / "x.html"), str(tmp_path / "metrics.json")])
    assert "export a smaller model" in (tmp_path / "x.html").read_text(encoding="utf-8")
    assert read_json(tmp_path / "metrics.json")["bytes"] > 0


def test_a_tokenizer_json_is_refused(config: Any, randomised: Any, tmp_path: Path) -> None:
    save(tmp_path / "tokenizer", learned())
    from llmcore.tokenizer.load import load_tokenizer

    theirs = load_tokenizer(tmp_path / "tokenizer")
    model = randomised(new_model(replace(config, vocab_size=theirs.vocab_size)))
    save_language_model(tmp_path / "m", model, tokenizer=theirs, origin=ORIGIN)
    with pytest.raises(NoPageError, match=r"got a tokenizer\.json; export a model that was pretrained here"):
        export_html(tmp_path / "m", tmp_path / "m.html")


def test_another_suffix_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--out: must end in \.html, got .*x\.txt"):
        export_html(folder, tmp_path / "x.txt")
