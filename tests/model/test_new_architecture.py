"""A second architecture, in one file and registered in one line, is trained, adapted, saved and used like GPT-2."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file
from tiny import CPU, classifier_of, equal_bits, generation, language_task, training, weights
from torch import Tensor, nn

from llmcore.base.errors import UserError
from llmcore.generate.decode import decode
from llmcore.generate.info import describe
from llmcore.generate.open import open_classifier, open_language_model
from llmcore.model.adapter import save_adapter
from llmcore.model.architecture import Architecture, StoredTensor
from llmcore.model.attention import Layout, attention_weights, fused_attention
from llmcore.model.cache import LayerCache
from llmcore.model.classifier import SequenceClassifier, pad_rows
from llmcore.model.folder import load_language_model, save_classifier, save_language_model
from llmcore.model.layers import Embedding, Linear
from llmcore.model.lora import apply_lora, lora_layers, merged_state, train_only_lora
from llmcore.model.registry import ARCHITECTURES, new_model
from llmcore.model.transformer import LanguageModel, ModelConfig, Transformer
from llmcore.tasks.classification import ClassificationTask, LabelledText
from llmcore.tokenizer.bpe import BytePairTokenizer
from llmcore.train.history import History
from llmcore.train.loop import fit

# ---- the architecture: one norm, attention and MLP in parallel, one head of keys and values, no positions


@dataclass(frozen=True)
class ToyConfig(ModelConfig):
    model_type: ClassVar[str] = "toy"
    transformer_name: ClassVar[str] = "model"
    key_value_shape = property(lambda self: (1, self.n_embd // self.n_head))


class ToyBlock(nn.Module):
    def __init__(self, config: ToyConfig):
        super().__init__()
        self.n_head = config.n_head
        self.norm = nn.RMSNorm(config.n_embd)
        self.query = Linear(config.n_embd, config.n_embd, bias=False)
        self.key_value = Linear(config.n_embd, 2 * config.key_value_shape[1], bias=False)
        self.up = Linear(config.n_embd, 2 * config.n_embd, bias=False)
        self.down = Linear(3 * config.n_embd, config.n_embd, bias=False)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        key, value = self.key_value(x)[:, None].chunk(2, dim=3)  # (B, 1, T, D) each
        return self.query(x).unflatten(2, (self.n_head, -1)).transpose(1, 2), key, value  # (B, H, T, D) first

    def forward(self, x: Tensor, layout: Layout, cache: LayerCache | None = None) -> Tensor:
        query, key, value = self.heads(self.norm(x))
        key, value = (key, value) if cache is None else cache.append(key, value)
        key, value = (tensor.expand(-1, self.n_head, -1, -1) for tensor in (key, value))
        gathered = fused_attention(query, key, value, 0.0, layout.mask).transpose(1, 2).flatten(2)  # (B, T, C)
        return x + self.down(torch.cat([gathered, self.up(self.norm(x)).relu()], dim=2))

    def attention_weights(self, x: Tensor, layout: Layout) -> Tensor:
        return attention_weights(*self.heads(self.norm(x))[:2])


class ToyTransformer(Transformer):
    embeddings = property(lambda self: (self.embed_tokens,))
    blocks = property(lambda self: self.layers)
    final_norm = property(lambda self: self.norm)

    def __init__(self, config: ToyConfig):
        super().__init__(config)
        self.embed_tokens = Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(ToyBlock(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        return self.embed_tokens(ids)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            parameter.fill_(1.0) if parameter.ndim == 1 else parameter.normal_(0.0, 0.1, generator=generator)


TENSORS = {
    "model.embed_tokens.weight": StoredTensor("token embedding"),
    **{f"model.layers.{{}}.{name}.weight": StoredTensor("attention") for name in ("query", "key_value", "norm")},
    "model.layers.{}.up.weight": StoredTensor("MLP", transposed=True),
    "model.layers.{}.down.weight": StoredTensor("MLP"),
    "model.norm.weight": StoredTensor("norms"),
    **dict.fromkeys(("lm_head.weight", "score.weight"), StoredTensor("head")),
}
TOY = Architecture(
    config=ToyConfig,
    transformer=ToyTransformer,
    language_model="ToyForCausalLM",
    classifier="ToyForSequenceClassification",
    config_to_json=lambda config, end_of_text: {"model_type": "toy", **asdict(config)},
    config_from_json=lambda values, source: ToyConfig(*(values[field.name] for field in fields(ToyConfig))),
    config_from_params=lambda values, vocab_size: ToyConfig(vocab_size, **values),
    tensors=TENSORS,
    tied_to="model.embed_tokens.weight",
    layer_pattern=r"\.layers\.\d+\.",
    lora_targets=("query", "key_value", "up", "down"),
)

# ---- its use

TARGETS = ["down", "query", "up"]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "toy", TOY)


def toy(tokenizer: BytePairTokenizer, *, tied_head: bool = False) -> LanguageModel:
    """A toy model of two layers over the tokenizer's vocabulary, initialised."""
    config = ToyConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=24,
        n_layer=2,
        n_head=2,
        n_embd=16,
        dropout=0.0,
        tied_head=tied_head,
    )
    model = new_model(config)
    model.initialise(torch.Generator().manual_seed(0))
    return model.eval()


def adapt(model: LanguageModel | SequenceClassifier) -> None:
    generator = torch.Generator().manual_seed(1)
    apply_lora(model, TARGETS, rank=2, alpha=4, scaling="alpha/rank", dropout=0.0, generator=generator)
    train_only_lora(model, also=["score."])


def some_ids(tokenizer: BytePairTokenizer) -> Tensor:
    return torch.randint(tokenizer.vocab_size, (3, 24), generator=torch.Generator().manual_seed(2))


def falls(history: History) -> bool:
    """The training loss is at least 0.1 nats lower at the end than at the beginning."""
    return history.mean_loss(3) < history.steps[0]["train/loss"] - 0.1


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_pretraining_lowers_its_loss(tokenizer: BytePairTokenizer, optimizer: str) -> None:
    history = History()
    fit(toy(tokenizer), language_task(), training(optimizer=optimizer), seed=0, compute=CPU, callback=history)
    assert falls(history)


def test_no_logit_depends_on_a_later_token(tokenizer: BytePairTokenizer) -> None:
    model = toy(tokenizer)
    ids = some_ids(tokenizer)
    changed = ids.clone()
    changed[:, 10] += 1 - 2 * (changed[:, 10] > 0).long()
    with torch.no_grad():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :10], after[:, :10], rtol=0, atol=1e-6)
    assert (before[:, 10:] - after[:, 10:]).abs().max() > 1e-3


def test_decoding_with_a_cache_equals_that_without(tokenizer: BytePairTokenizer) -> None:
    """In a batch of prompts of different lengths."""
    model = toy(tokenizer)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [2]]
    expected = []
    for prompt in prompts:
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(8):
                ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        expected.append(ids[len(prompt) :])
    assert [found.ids for found in decode(model, prompts, generation(8), stop_ids=())] == expected
    assert model.new_cache(2, 5).layers[0].keys.shape == (2, 1, 5, 8)


def test_attention_maps_have_a_row_of_weights_for_each_token(tokenizer: BytePairTokenizer) -> None:
    maps = toy(tokenizer).attention_maps(some_ids(tokenizer))
    assert maps.shape == (2, 3, 2, 24, 24)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 3, 2, 24))


def test_lora_trains_only_its_updates_and_merged_equals_unmerged(
    tokenizer: BytePairTokenizer, randomised: Callable[..., LanguageModel]
) -> None:
    model = randomised(toy(tokenizer))
    history = History()
    base = weights(model)
    adapt(model)
    fit(model, language_task(), training(lr=0.05, min_lr=0.05, epochs=5.0), seed=0, compute=CPU, callback=history)
    assert falls(history)
    assert equal_bits({name: tensor for name, tensor in weights(model).items() if "lora_" not in name}, base)
    merged = toy(tokenizer)
    merged.load_state_dict(merged_state(model))
    ids = some_ids(tokenizer)
    with torch.no_grad():
        torch.testing.assert_close(merged(ids), model(ids), rtol=0, atol=1e-5)
        assert (merged(ids) - randomised(toy(tokenizer))(ids)).abs().max() > 1e-2


def test_a_lora_target_that_names_no_layer_is_refused_with_the_layers_of_its_blocks(
    tokenizer: BytePairTokenizer,
) -> None:
    with pytest.raises(UserError, match=rf"\({', '.join(sorted(TOY.lora_targets))}\), got 'attn.c_attn'"):
        apply_lora(
            toy(tokenizer),
            ["attn.c_attn"],
            rank=2,
            alpha=4,
            scaling="alpha/rank",
            dropout=0.0,
            generator=torch.Generator(),
        )


@pytest.mark.parametrize("tied_head", [True, False])
def test_a_saved_language_model_has_equal_logits_after_loading(
    tokenizer: BytePairTokenizer, tmp_path: Path, tied_head: bool
) -> None:
    model = toy(tokenizer, tied_head=tied_head)
    save_language_model(tmp_path / "toy", model, tokenizer=tokenizer, origin={})
    again, its_tokenizer = open_language_model(tmp_path / "toy")
    assert (again.config, its_tokenizer.vocab_size) == (model.config, tokenizer.vocab_size)
    with torch.no_grad():
        assert torch.equal(again(some_ids(tokenizer)), model(some_ids(tokenizer)))
    stored = load_file(tmp_path / "toy" / "model.safetensors")
    assert stored["model.layers.0.up.weight"].shape == (16, 32)  # transposed
    assert stored["model.layers.0.down.weight"].shape == (16, 48)
    assert ("lm_head.weight" in stored) == (not tied_head)
    config = json.loads((tmp_path / "toy" / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("toy", ["ToyForCausalLM"])


def test_llmcore_info_describes_it(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    save_language_model(tmp_path / "toy", toy(tokenizer), tokenizer=tokenizer, origin={})
    lines = [line.split("  ") for line in describe(tmp_path / "toy").splitlines()]
    page = {line[0] or line[1]: line[-1].strip() for line in lines}
    assert page["architecture"] == "toy, language model"
    assert page["MLP"] == f"{2 * 5 * 16 * 16:,}"
    assert page["loads here"] == "yes"


def test_a_classifier_on_it_is_trained_saved_and_loaded(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    save_language_model(tmp_path / "base", toy(tokenizer), tokenizer=tokenizer, origin={})
    model = SequenceClassifier(load_language_model(tmp_path / "base").body, ["low", "high"], "last_real", 20)
    model.initialise_head(torch.Generator().manual_seed(3))
    adapt(model)
    rows = [LabelledText([1 + number % 9, 20 * (number % 2) + 5], number % 2) for number in range(24)]
    task = ClassificationTask(
        rows, rows, batch_size=6, micro_batch_size=3, seed=0, pad_id=0, pad_to=None, device=CPU.device
    )
    history = History()
    fit(model, task, training(epochs=10.0), seed=0, compute=CPU, callback=history)
    assert falls(history)
    assert task.evaluate(model)["accuracy"] == 1.0
    save_classifier(tmp_path / "toy", model, merged_state(model), tokenizer=tokenizer, origin={})
    again, _ = open_classifier(tmp_path / "toy")
    ids, read = pad_rows([row.ids for row in rows], 0, None)
    with torch.no_grad():
        torch.testing.assert_close(again(ids, read), model(ids, read), rtol=0, atol=1e-5)
    assert again.labels == ["low", "high"]


def test_the_first_blocks_can_be_frozen_and_their_output_reused(tokenizer: BytePairTokenizer) -> None:
    model = classifier_of(toy(tokenizer).config)
    model.body.initialise(torch.Generator().manual_seed(0))
    model.initialise_head(torch.Generator().manual_seed(0))
    model.requires_grad_(False)
    model.body.blocks[-1].requires_grad_(True)
    assert model.n_frozen_blocks == 1
    ids = some_ids(tokenizer)
    read = torch.tensor([23, 5, 0])
    with torch.no_grad():
        assert torch.equal(model(ids, read, model.frozen_prefix(ids)), model(ids, read))


def test_the_adapter_has_its_names_and_orientation(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    model = toy(tokenizer)
    adapt(model)
    save_adapter(tmp_path / "adapter", model, base=tmp_path / "base", alpha=4, scaling="alpha/rank", dropout=0.0)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["target_modules"], config["fan_in_fan_out"]) == (TARGETS, False)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert tensors.keys() == {
        f"base_model.model.{name}.lora_{letter}.weight" for name in lora_layers(model) for letter in "AB"
    }
    for name, layer in lora_layers(model).items():
        assert torch.equal(tensors[f"base_model.model.{name}.lora_A.weight"], layer.lora_a)
