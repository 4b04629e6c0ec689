"""The page's JavaScript beside the Python that it repeats: tokenizer, logits, attention, sampling."""

import random
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from javascript import evaluate, needs_node
from tiny import llama_config
from tokenizer_files import HOSTILE

from llmcore.generate.sampling import keep_top_k, keep_top_p
from llmcore.model.llama_family import MistralConfig, Qwen2Config, Qwen3Config
from llmcore.model.registry import ARCHITECTURES, new_model
from llmcore.model.rotary import Llama3Scaling, Rotary
from llmcore.page.one_file import MODEL_TYPES, page_data, tokenizer_data, weights_base64
from llmcore.serve.limits import Limits
from llmcore.tokenizer.bpe import BytePairTokenizer

pytestmark = needs_node

TEXTS = [
    *HOSTILE,
    "don't we'll I'M they'Re ''s  x",
    "a  b   c\n\n  d \t e\u0085f\u00a0g\u3000h\ufeffi\u200bj\u180ek",
    "ends in spaces   ",
    "   begins",
    "👩🏽‍🚀👍🏿 🇩🇪 e\u0301 n\u0303o \u1100\u1161\u11a8 한국어 각",
    "x² ½ Ⅷ 一二三 ٣٤ नमस्ते",
    "x" + "he" * 600 + " he" * 3,  # cut within a token
    "z" * 1001 + " " * 2500 + "7" * 3001 + "é!" * 700 + "!" * 1200,
    "\ud7ff\ue000\ufffd\x00\x1c\x1d<|endoftext|></script>",
]


def random_texts(count: int) -> list[str]:
    """Texts of characters of all kinds, seeded."""
    draw = random.Random(0)
    ranges = [(32, 127), (32, 33), (0, 160), (0x300, 0x370), (0x2000, 0x2070), (0xAC00, 0xAD00), (0x1F300, 0x1F650)]
    lengths = [draw.randrange(60) for _ in range(count)]
    return ["".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(length)) for length in lengths]


def test_text_to_ids_and_back_is_the_tokenizers(tokenizer: BytePairTokenizer) -> None:
    texts = TEXTS + random_texts(300)
    expression = "((it) => given.texts.map((text) => [it.encode(text), it.decode(it.encode(text))]))"
    given = {"texts": texts, "data": tokenizer_data(tokenizer)}
    found = evaluate(f"{expression}(new Tokenizer(given.data))", given, tokenizer="Tokenizer")
    assert [ids for ids, _ in found] == [tokenizer.encode(text) for text in texts]
    assert [text for _, text in found] == texts


def test_white_space_is_unicodes() -> None:
    """JavaScript's own has U+FEFF and lacks U+0085: these merges show on which side of a piece they are."""
    tokenizer = BytePairTokenizer([(b" ", b"\xef"), (b"!", b"\xc2")])
    texts = [" \ufeff", "!\x85", "!\xa1"]
    given = {"texts": texts, "data": tokenizer_data(tokenizer)}
    code = "((it) => given.texts.map((text) => it.encode(text)))(new Tokenizer(given.data))"
    assert evaluate(code, given, tokenizer="Tokenizer") == [tokenizer.encode(text) for text in texts]


def test_broken_characters_are_decoded_alike(tokenizer: BytePairTokenizer) -> None:
    draw = random.Random(0)
    rows = [[draw.randrange(tokenizer.vocab_size) for _ in range(20)] for _ in range(300)]
    rows += [tokenizer.encode("👩🏽‍🚀 각")[:cut] for cut in range(20)]
    given = {"rows": rows, "data": tokenizer_data(tokenizer)}
    code = "((it) => given.rows.map((ids) => it.decode(ids)))(new Tokenizer(given.data))"
    assert evaluate(code, given, tokenizer="Tokenizer") == [tokenizer.decode(ids) for ids in rows]


def configs(config: Any) -> dict[str, Any]:
    """A config of each family, with what its members add."""
    llama = llama_config()
    kinds = {"mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
    values = {field.name: getattr(llama, field.name) for field in fields(llama)}
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=16)
    members = {
        name: kind(**values | {"qkv_bias": name == "qwen2", "qk_norm": name == "qwen3"}) for name, kind in kinds.items()
    }
    return members | {
        "gpt2": config,
        "gpt2 without biases, untied": replace(config, qkv_bias=False, tied_head=False),
        "llama": llama,
        "llama, slower turns, untied": replace(llama, rotary=Rotary(10_000.0, scaling), tied_head=False),
    }


READ = """
((model) => {
  const reading = new Reading(model);
  const logits = given.ids.map((id) => (reading.read(id), Array.from(reading.logits())));
  const layers = reading.states.map((_, layer) => Array.from(reading.logits(2, layer)));
  return { logits, layers, attention: reading.attention(1, 1).map((row) => Array.from(row)) };
})(newModel(given.config, readTensors(given.weights, given.shapes)))
"""


@pytest.mark.parametrize("name", [*MODEL_TYPES, "gpt2 without biases, untied", "llama, slower turns, untied"])
def test_logits_attention_and_lens_are_the_models(name: str, config: Any, randomised: Any, tokenizer: Any) -> None:
    model = randomised(new_model(configs(config)[name]))
    ids = [number % model.config.vocab_size for number in (3, 14, 15, 9, 2, 6, 5, 3)]
    given = page_data(model, tokenizer) | {"ids": ids, "weights": weights_base64(model)}
    found = evaluate(READ, given, model="newModel, Reading", tensors="readTensors")
    row = torch.tensor([ids])
    with torch.no_grad():
        expected = model(row)[0]
        states = model.body.hidden_states(row)[1:]
        lens = torch.stack([model.lm_head(model.body.final_norm(state))[0, 2] for state in states])
    assert torch.allclose(torch.tensor(found["logits"]), expected, rtol=0, atol=1e-4)
    assert torch.allclose(torch.tensor(found["layers"]), lens, rtol=0, atol=1e-4)
    weights = model.attention_maps(row)[1, 0, 1]
    for place, weight in enumerate(found["attention"]):
        assert torch.allclose(torch.tensor(weight, dtype=torch.float), weights[place, : place + 1], rtol=0, atol=1e-5)


CHAT = """
(async () => {
  const asked = [];
  const events = async function* (path, body) {
    asked.push(body.messages);
    yield { choices: [{ delta: {}, finish_reason: "stop" }], dropped_messages: 3 };
  };
  const source = new ServerSource({ events }, () => "helper");
  const ends = [];
  for (const messages of given) for await (const end of source.chat(messages, {}, null)) ends.push(end.dropped);
  return { asked, ends };
})()
"""


def test_chat_asks_with_as_many_messages_as_the_server_takes() -> None:
    long = [{"role": ("user", "assistant")[turn % 2], "content": str(turn)} for turn in range(515)]
    found = evaluate(CHAT, [long[:3], long], server_source="ServerSource")
    assert found["ends"] == [3, 3 + 4]
    assert found["asked"] == [long[:3], long[4:]]
    assert len(long[4:]) < Limits().max_messages


def test_every_architecture_is_one_that_the_page_computes() -> None:
    assert set(MODEL_TYPES) == set(ARCHITECTURES)


@pytest.mark.parametrize("settings", [(1.0, 0, 1.0), (0.7, 5, 1.0), (1.5, 0, 0.6), (0.9, 7, 0.8), (1.0, 1, 0.1)])
def test_what_may_be_drawn_is_what_sampling_keeps(settings: tuple[float, int, float]) -> None:
    temperature, top_k, top_p = settings
    logits = torch.randn(40, generator=torch.Generator().manual_seed(1)) * 3
    given = {"logits": logits.tolist(), "settings": dict(zip(("temperature", "top_k", "top_p"), settings, strict=True))}
    found = evaluate("distribution(given.logits, given.settings)", given, sampling="distribution")
    scaled = (logits.double() - logits.max()) / temperature
    expected = keep_top_p(keep_top_k(scaled, top_k), top_p).softmax(-1)
    dense = torch.zeros(40, dtype=torch.float64)
    for token, probability in found:
        dense[token] = probability
    assert torch.allclose(dense, expected, rtol=0, atol=1e-12)


def test_draws_follow_their_probabilities_and_the_seed() -> None:
    code = """
    ((random) => Array.from({ length: 20000 }, () => choose(given.logits, given.settings, random)))(seeded(given.seed))
    """
    settings = {"temperature": 1, "top_k": 0, "top_p": 1}
    given = {"logits": [0.0, 1.0, 2.0], "settings": settings, "seed": 7}
    draws = torch.tensor(evaluate(code, given, sampling="choose, seeded"))
    shares = torch.bincount(draws, minlength=3) / len(draws)
    assert torch.allclose(shares, torch.tensor(given["logits"]).softmax(-1), rtol=0, atol=0.015)
    assert evaluate(code, given, sampling="choose, seeded") == draws.tolist()
    assert evaluate(code, given | {"seed": 8}, sampling="choose, seeded") != draws.tolist()
